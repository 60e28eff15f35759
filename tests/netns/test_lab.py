"""The lab itself: everything reaches everything, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from kernlb.lab import namespaces
from kernlb.lab.load import share_by_server
from kernlb.lab.network import Lab

pytestmark = pytest.mark.netns

FAMILIES = pytest.mark.parametrize("version", [4, 6])


def test_every_host_answers_the_clients_ping(lab: Lab) -> None:
    assert all(lab.ping().values())


@FAMILIES
def test_each_server_says_its_name_and_the_clients_address_over_http(
    lab: Lab, version: int
) -> None:
    sources = lab.topology.sources(version)
    for server in lab.topology.servers:
        answers = lab.load.http(server.address(version), count=len(sources))
        assert share_by_server(answers) == {server.role: len(sources)}
        assert {answer.client for answer in answers} == set(sources)


@FAMILIES
def test_a_megabyte_goes_both_ways_over_http(lab: Lab, version: int) -> None:
    server = lab.topology.servers[0].address(version)
    (download,) = lab.load.http(server, path="/1mb")
    (upload,) = lab.load.http(server, body=1_000_000)
    assert (download.error, download.bytes) == (None, 1 << 20)
    assert (upload.error, upload.received) == (None, 1_000_000)


@FAMILIES
@pytest.mark.parametrize("port", [53, 8053])
def test_udp_queries_are_answered_from_the_address_that_was_asked(
    lab: Lab, version: int, port: int
) -> None:
    server = lab.topology.servers[1]
    answers = lab.load.udp(server.address(version), port=port, count=3)
    assert share_by_server(answers) == {"server2": 3}
    assert [answer.client for answer in answers] == list(lab.topology.sources(version)[:3])


@FAMILIES
def test_echo_sessions_stay_open_and_return_what_is_sent(lab: Lab, version: int) -> None:
    sessions = lab.load.open(lab.topology.servers[2].address(version), count=5)
    assert share_by_server(sessions) == {"server3": 5}
    assert [answer.error for answer in lab.load.echo(sessions, size=100_000)] == [None] * 5
    lab.load.close_sessions(sessions)


def test_what_nobody_listens_on_is_refused_by_name(lab: Lab) -> None:
    server = lab.topology.servers[0].v4
    assert share_by_server(lab.load.http(server, port=81)) == {"ECONNREFUSED": 1}


def test_a_stream_reports_each_request_it_lost(lab: Lab) -> None:
    answered = lab.load.stream(lab.topology.servers[0].v4, rate=100, duration=0.2)
    refused = lab.load.stream(lab.topology.servers[0].v4, port=81, rate=100, duration=0.2)
    good, bad = answered.stop(), refused.stop()
    assert good.sent == good.answered and not good.failures
    assert bad.sent == len(bad.failures) and not bad.answered


def test_two_labs_stand_side_by_side(lab: Lab) -> None:
    with Lab(f"{lab.topology.name}-b", servers=1) as other:
        answers = other.load.http(other.topology.servers[0].v4)
        assert share_by_server(answers) == {"server1": 1}
    assert share_by_server(lab.load.http(lab.topology.servers[0].v4)) == {"server1": 1}


def test_down_leaves_no_namespace_no_process_and_no_file() -> None:
    lab = Lab(f"gone{os.getpid()}", servers=1)
    lab.up()
    left_running = lab.popen("router", ["sleep", "300"])
    lab.up()
    assert left_running.wait(5) == -signal.SIGKILL
    pids = [pid for role in lab.topology.roles for pid in lab.pids(role)]
    assert pids
    lab.down()
    lab.down()
    assert lab.present() == ()
    assert not lab.folder.exists()
    assert not [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    """A zombie is dead: it only waits for whoever started it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_down_cleans_up_after_an_up_that_was_killed() -> None:
    lab = Lab(f"killed{os.getpid()}", servers=2)
    program = f"""
import os, signal
from kernlb.lab import network
network._run = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
network.Lab({lab.topology.name!r}, servers=2).up()
"""
    real_ip = "network._ip_batch(network.commands.creation(network.Lab({!r}, 2).topology))\n"
    program = program.replace(
        "network._run =", real_ip.format(lab.topology.name) + "network._run =", 1
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert len(lab.present()) == len(lab.topology.roles)
    lab.down()
    assert lab.present() == ()


def test_a_visit_to_a_namespace_leaves_this_thread_where_it_was(lab: Lab) -> None:
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    there = namespaces.inside(
        lab.topology.namespace("client"), lambda: Path("/proc/thread-self/ns/net").stat().st_ino
    )
    assert there != here
    assert Path("/proc/thread-self/ns/net").stat().st_ino == here


def test_the_addresses_of_a_lab_read_alike_in_both_families() -> None:
    topology = Lab("any").topology
    assert topology.servers[0].v4 == IPv4Address("10.1.0.11")
    assert str(topology.servers[0].v6) == "fd00:b::11"
    assert str(topology.vips(6)[0]) == "fd00:aa::10"
