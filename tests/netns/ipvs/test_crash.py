"""kill -9 at any moment: the kernel goes on forwarding, and the next start makes it true again."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from kernlb.control.protocol import API, SyncState
from kernlb.control.wire import request
from kernlb.lab.load import Answer
from kernlb.lab.network import Lab
from tests.netns.ipvs.ipvsadm import Counters, Service, counters, ipvsadm, parse_rules
from tests.netns.ipvs.views import asked, key
from tests.netns.traffic.daemon import Daemon, StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.ipvs

KILLS = int(os.environ.get("KERNLB_KILLS", "50"))
CONVERGES_WITHIN = 30.0  # seconds from the start of the next daemon; a guest is slow
SERVICES, SERVERS = 20, 10

KINDS = ("reload", "reload", "request")  # of many services, of one

Documents = dict[str, dict[str, Any]]


@pytest.mark.timeout(900)
def test_kill_9_at_50_moments_loses_nothing(lab: Lab, start_daemon: StartDaemon) -> None:
    seed = int(os.environ.get("KERNLB_CRASH_SEED", "1"))
    print(f"KERNLB_CRASH_SEED={seed}")
    random = Random(seed)
    balancer = lab.topology.namespace("balancer")
    daemon = start_daemon(balancer, {"audit_interval": 3600})
    story = Story(random, lab)
    for name, document in story.documents.items():
        write(daemon, name, document)
    foreign = make_foreign(balancer)
    daemon.client.reload()
    connections = [*open_connection(lab, story.still), *open_connection(lab, story.edited)]
    counted = Counted(balancer, key(story.documents["still"]))
    lengths = dict.fromkeys(KINDS, 1.0)  # seconds that each kind takes when nobody interrupts it
    interrupted = dict.fromkeys(KINDS, 0)
    slowest = 0.0

    for kill in range(KILLS):
        kind = KINDS[kill % len(KINDS)]
        moment = 0.0 if kill % 10 == 0 else random.uniform(0, lengths[kind])
        told = ask_for_changes(daemon, story, kind)
        began = time.monotonic()
        done = bool(select.select([told], [], [], moment)[0])
        if done:
            lengths[kind] = min(lengths[kind], time.monotonic() - began)
        daemon.kill()
        told.close()
        interrupted[kind] += not done

        assert_alive(lab, connections)
        assert foreign in ipvsadm(balancer, "-Sn")
        began = time.monotonic()
        daemon.start(wait=False)
        if kill % 5 == 4:  # and once more, before it has come to itself
            select.select([], [], [], random.uniform(0, 0.5))
            daemon.kill()
            daemon.start(wait=False)
        daemon.wait_ready()
        wait_for(lambda: is_synced(daemon), CONVERGES_WITHIN, f"kill {kill}: converged")
        slowest = max(slowest, time.monotonic() - began)
        story.documents = on_disk(daemon)
        rules = ipvsadm(balancer, "-Sn")
        assert foreign in rules
        held = parse_rules(rules)
        del held[FOREIGN_KEY]
        assert held == wanted(story.documents), f"kill {kill}: {kind} after {moment:.3f} s"
        assert_alive(lab, connections)
        counted.assert_not_reset()

    counted.wait_for_more()
    print(f"of {KILLS} kills met a change under way: {interrupted}, of lengths {lengths}")
    print(f"slowest restart: {slowest:.1f} s")
    assert sum(interrupted.values()) > KILLS // 3


# -- what changes


class Story:
    """The documents, and how they go on. ``still`` is never edited; ``edited`` always is, but
    for the server that a connection is on. What else there is comes and goes."""

    def __init__(self, random: Random, lab: Lab) -> None:
        self._random = random
        self._server = lab.topology.servers[0]
        self.still, self.edited, *_ = lab.topology.vips(4)
        here = str(self._server.address(4))
        self.documents: Documents = {
            "still": self._echo(self.still, "nat", [{"address": here}]),
            "edited": self._echo(self.edited, "dsr", [{"address": here}]),
        }
        self.documents |= {f"service{n}": self._service(n) for n in range(SERVICES)}

    def next_documents(self) -> Documents:
        """What should be there after a change to about half of the services."""
        fresh = dict(self.documents)
        for number in range(SERVICES):
            name = f"service{number}"
            if self._random.random() < 0.15:
                fresh.pop(name, None)
            elif self._random.random() < 0.5:
                fresh[name] = self._service(number)
        fresh["edited"] = self.next_edited()
        return fresh

    def next_edited(self) -> dict[str, Any]:
        kept = {"address": str(self._server.address(4)), "weight": self._random.randint(0, 9)}
        more = self._random.sample(range(100, 200), self._random.randint(0, SERVERS - 1))
        servers = [kept, *({"address": f"10.1.0.{n}", "weight": n} for n in more)]
        return self._echo(self.edited, "dsr", servers)

    def _echo(self, vip: Any, forwarding: str, servers: list[Any]) -> dict[str, Any]:
        return {
            "address": str(vip),
            "port": 7,
            "scheduler": self._random.choice(["rr", "wrr", "mh", "wlc"])
            if len(servers) > 1
            else "rr",
            "forwarding": forwarding,
            "vip": {"interface": "lo"},
            "servers": servers,
        }

    def _service(self, number: int) -> dict[str, Any]:
        draw = self._random
        hosts = draw.sample(range(1, 60), draw.randint(SERVERS // 2, SERVERS))
        return {
            "address": f"198.51.100.{number + 1}",
            "port": 80,
            "protocol": draw.choice(["tcp", "udp"]) if number % 4 else "tcp",
            "scheduler": draw.choice(["rr", "wrr", "wlc", "sh", "mh"]),
            "forwarding": draw.choice(["nat", "dsr", "tunnel"]),
            "servers": [
                {"address": f"10.9.0.{host}", "weight": draw.randint(0, 9)} for host in hosts
            ],
        }


def ask_for_changes(daemon: Daemon, story: Story, kind: str) -> socket.socket:
    """Send a request for a change and do not wait for its answer."""
    if kind == "request":
        body = json.dumps(story.next_edited()).encode()
        return send(daemon, request("PUT", f"{API}/services/edited?replace=true", body, "*/*"))
    fresh = story.next_documents()
    for name in story.documents.keys() - fresh.keys():
        for file in daemon.services.glob(f"{name}.*"):
            file.unlink()
    for name, document in fresh.items():
        if document != story.documents.get(name):
            write(daemon, name, document)
    return send(daemon, request("POST", f"{API}/reload", b"", "*/*"))


def send(daemon: Daemon, message: bytes) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(daemon.socket))
    client.sendall(message)
    return client


def write(daemon: Daemon, name: str, document: dict[str, Any]) -> None:
    """As an editor saves: the new file takes the place of the old one."""
    fresh = daemon.services / f".{name}.new"
    fresh.write_text(json.dumps(document))
    fresh.replace(daemon.services / f"{name}.yaml")


# -- what must hold


def on_disk(daemon: Daemon) -> Documents:
    def read(file: Path) -> Any:
        return yaml.load(file.read_text(), yaml.CSafeLoader)  # libyaml: ten times as fast

    return {file.stem: read(file) for file in daemon.services.glob("*.yaml")}


def wanted(documents: Documents) -> dict[str, Service]:
    return {service.key: service for service in map(asked, documents.values())}


def is_synced(daemon: Daemon) -> bool:
    services = [each for each in daemon.client.services() if each.name]
    names = {file.stem for file in daemon.services.glob("*.yaml")}
    states = {each.state for each in services}
    return {each.name for each in services} == names and states == {SyncState.SYNCED}


def open_connection(lab: Lab, vip: Any) -> list[Answer]:
    (session,) = lab.load.open(vip)
    assert session.error is None, session
    return [session]


def assert_alive(lab: Lab, connections: list[Answer]) -> None:
    answers = lab.load.echo(connections)
    assert [answer.error for answer in answers] == [None] * len(connections)


class Counted:
    """The counters of a service with one connection. The kernel brings them up to date every
    two seconds (ip_vs_est.c); what they must never do is fall."""

    def __init__(self, namespace: str, service: str) -> None:
        self._namespace = namespace
        self._service = service
        self._first = self._last = wait_for(self._read_if_any, 20, "the connection is counted")

    def assert_not_reset(self) -> None:
        now = self._read()
        assert len(now) == len(self._last)
        for old, new in zip(self._last, now, strict=True):
            assert new.connections == 1
            assert all(after >= before for before, after in zip(old, new, strict=True)), (old, new)
        self._last = now

    def wait_for_more(self) -> None:
        """The traffic of the connection since the first look comes to be counted."""

        def more() -> bool:
            pairs = zip(self._first, self._read(), strict=True)
            return all(now.packets_in > first.packets_in for first, now in pairs)

        wait_for(more, 20, "the traffic is counted")

    def _read_if_any(self) -> list[Counters]:
        now = self._read()
        return now if all(each.connections for each in now) else []

    def _read(self) -> list[Counters]:
        """Of the service, then of its server."""
        own, of_servers = counters(self._namespace)[self._service]
        return [own, *of_servers.values()]


FOREIGN = "-t 203.0.113.9:99"
FOREIGN_KEY = "tcp/203.0.113.9:99"


def make_foreign(namespace: str) -> str:
    """A service that somebody else made, with the lines that ipvsadm prints of it."""
    ipvsadm(namespace, "-A", *FOREIGN.split(), "-s", "sed", "-p", "77")
    ipvsadm(namespace, "-a", *FOREIGN.split(), "-r", "10.0.0.1:99", "-g", "-w", "7")
    lines = ipvsadm(namespace, "-Sn").splitlines()
    return "\n".join(line for line in lines if FOREIGN in line) + "\n"
