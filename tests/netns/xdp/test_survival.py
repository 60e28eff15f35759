"""A thousand open connections that data goes over, and a stream of requests, while everything
around them changes: servers, weights, schedulers, services, the daemon, the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernlb.control.protocol import Drain
from kernlb.datapath.xdp import loading
from kernlb.lab.load import Answer
from tests.bpf.compiled import BPF
from tests.netns.traffic.balancer import WEIGHTS, Balancer
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import ECHO, assert_answered, web

pytestmark = pytest.mark.netns

METHODS = ("nat", "dsr", "tunnel", "fullnat")
ECHOES = {f"echo-{method}-{version}": (method, version) for method in METHODS for version in (4, 6)}
SERVICES = [("web", 4), *((name, version) for name, (_, version) in ECHOES.items())]
EACH = 125
INTERVAL = 0.5  # seconds between two exchanges on each connection
RATE = 50.0  # requests a second
LOST = ("table_full", "no_server", "no_source_port", "malformed", "refused")


class Traffic:
    """What must not notice anything."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.sessions: dict[str, list[Answer]] = {}
        weights = {"server1": 1, "server2": 2}
        for name, (method, version) in ECHOES.items():
            vip = balancer.fresh_vip(version)
            echo = {"address": str(vip), "port": ECHO, "scheduler": "wrr", "forwarding": method}
            balancer.declare(name, {**echo, "servers": balancer.servers(version, weights)})
            self.sessions[name] = balancer.load.open(vip, count=EACH)
        everyone = [session for each in self.sessions.values() for session in each]
        assert len(everyone) == 1000
        assert_answered(everyone)
        self.vip = balancer.fresh_vip(4)
        web(balancer, self.vip, servers=balancer.servers(4, weights))
        self.talk = balancer.load.talk(everyone, interval=INTERVAL, size=300)
        self.stream = balancer.load.stream(self.vip, rate=RATE)

    def goes_on(self) -> None:
        """On every connection something was sent and came back that was not under way before."""
        talk, stream = self.talk.look(), self.stream.look()
        wait_for(lambda: self.talk.look().least >= talk.least + 2, 30, "all connections go on")
        wait_for(lambda: self.stream.look().answered > stream.sent, 30, "requests are answered")
        assert (*self.talk.look().failures, *self.stream.look().failures) == ()

    def end(self) -> None:
        talk, stream = self.talk.stop(), self.stream.stop()
        print(f"{talk.sessions} connections, {talk.exchanged} exchanges on them ", end="")
        print(f"(on each {talk.least} at least), {stream.answered} requests beside them: ", end="")
        print(f"{len(talk.failures) + len(stream.failures)} errors")
        assert (*talk.failures, *stream.failures) == ()
        assert stream.answered == stream.sent
        assert talk.sessions == 1000
        self.balancer.load.close_sessions()


@pytest.fixture(scope="module")
def traffic(balancer: Balancer) -> Iterator[Traffic]:
    traffic = Traffic(balancer)
    yield traffic
    traffic.end()


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of a version to come: its answers to pings have a TTL of their own."""
    sources = tmp_path_factory.mktemp("next") / "bpf"
    shutil.copytree(BPF, sources)
    header = sources / "answer.h"
    text = header.read_text()
    changed = text.replace("#define ANSWER_TTL 64", "#define ANSWER_TTL 63")
    assert changed != text
    header.write_text(changed)
    out = sources / "objects"
    make = ["make", "-s", "-C", str(sources), f"OUT={out}", "SOURCES=kernlb.bpf.c"]
    subprocess.run(make, check=True, timeout=100)
    return out / "kernlb.bpf.o"


def test_servers_come_are_weighted_anew_and_go(balancer: Balancer, traffic: Traffic) -> None:
    client = balancer.daemon.client
    one, three = (
        {version: balancer.address(role, version) for version in (4, 6)}
        for role in ("server1", "server3")
    )
    for name, version in SERVICES:
        client.add_server(name, {"address": three[version], "weight": 3})
    traffic.goes_on()
    for weight in (7, 0, 1):
        for name, version in SERVICES:
            client.edit_server(name, one[version], {"weight": weight})
        traffic.goes_on()
    for name, version in SERVICES:
        client.drain_server(name, three[version], Drain())
    wait_for(lambda: balancer.active("web")["server3"] == 0, 10, "server3 is idle")
    for name, version in SERVICES:
        client.remove_server(name, three[version])
    traffic.goes_on()


def test_the_scheduler_changes(balancer: Balancer, traffic: Traffic) -> None:
    for scheduler in ("mh", "lc", "wrr"):
        for name, _ in SERVICES:
            balancer.daemon.client.edit_service(name, {"scheduler": scheduler})
        traffic.goes_on()


def test_services_come_and_go(balancer: Balancer, traffic: Traffic) -> None:
    vip = balancer.fresh_vip(4)
    document = {"address": str(vip), "port": 8080, "servers": balancer.servers(4, WEIGHTS)}
    for _ in range(5):
        balancer.declare("other", document)
        assert_answered(balancer.load.http(vip, port=8080, count=3))
        balancer.daemon.client.remove_service("other")
    traffic.goes_on()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_the_daemon_ends_and_another_takes_over(
    balancer: Balancer, traffic: Traffic, end: str
) -> None:
    daemon = balancer.daemon
    getattr(daemon, end)()
    traffic.goes_on()
    daemon.start(*daemon.options)
    traffic.goes_on()


def test_an_upgrade_brings_another_program_and_so_does_the_way_back(
    balancer: Balancer, traffic: Traffic, next_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a package does it: another daemon starts, with another object."""
    daemon = balancer.daemon
    before = daemon.client.status().xdp.program
    with monkeypatch.context() as upgraded:
        upgraded.setattr(loading, "object_path", lambda name="kernlb": next_version)
        daemon.stop()
        daemon.start(*daemon.options)
        assert ttl_of_pings(balancer, traffic) == 63
        assert daemon.client.status().xdp.program != before
        traffic.goes_on()
    daemon.kill()
    daemon.start(*daemon.options)
    assert ttl_of_pings(balancer, traffic) == 64
    assert daemon.client.status().xdp.program == before
    traffic.goes_on()


def ttl_of_pings(balancer: Balancer, traffic: Traffic) -> int:
    said = balancer.lab.exec("client", ["ping", "-c1", "-W5", str(traffic.vip)]).stdout
    found = re.search(r"ttl=(\d+)", said)
    assert found, said
    return int(found[1])


def test_connections_are_counted_where_they_are(balancer: Balancer, traffic: Traffic) -> None:
    for name, sessions in traffic.sessions.items():
        held = [session.server for session in sessions]
        expected = {role: held.count(role) for role in ("server1", "server2")}
        assert sum(expected.values()) == EACH
        assert balancer.active(name) == expected


def test_no_packet_was_dropped(balancer: Balancer, traffic: Traffic) -> None:
    packets = balancer.daemon.client.status().xdp.packets
    assert {reason: packets[reason] for reason in LOST} == dict.fromkeys(LOST, 0)
