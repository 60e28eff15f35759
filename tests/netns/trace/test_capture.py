"""Captures of real traffic: what came, what left, and why, in files that others' tools read."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from kernlb.lab.topology import IPAddress
from tests.netns.trace.conftest import Command, Start
from tests.netns.trace.sending import send
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import assert_answered, web

pytestmark = pytest.mark.ipvs  # the oldest kernel: the one here may not let programs be watched

Capture = Callable[..., Command]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "packets.pcapng"


@pytest.fixture
def capture(start: Start, pins: Path, file: Path) -> Capture:
    """Returns when it watches."""

    def capture(*options: str, into: Path = file) -> Command:
        command = start("capture", "-w", str(into), "--pins", str(pins), *options)
        command.wait_said("capturing;")
        return command

    return capture


def read(file: Path) -> list[tuple[Any, str, str]]:
    """Packet, name of the interface, and comment, by scapy."""
    from scapy.utils import PcapNgReader

    with PcapNgReader(str(file)) as reader:
        return [(each, each.sniffed_on, each.comments[0].decode()) for each in reader]


def tcpdump(file: Path) -> list[str]:
    argv = ["tcpdump", "-nn", "-r", str(file)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def watches() -> list[dict[str, Any]]:
    """Programs that watch others, anywhere on this host."""

    def listed() -> str:  # it fails where one goes while it lists them
        argv = ["bpftool", "-j", "link", "list"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else ""

    links = json.loads(wait_for(listed, 10, "links are listed"))
    return [each for each in links if each["type"] == "tracing"]


def test_a_tunnelled_connection_is_seen_as_it_came_and_as_it_left(
    balancer: Balancer, vip: IPAddress, capture: Capture, file: Path
) -> None:
    from scapy.layers.inet import IP

    web(balancer, vip, forwarding="tunnel")
    running = capture("--service", "web", "--count", "3")
    assert_answered(balancer.load.http(vip))
    assert "3 packets" in running.end() and "XDP_REDIRECT 3" in running.said
    packets = read(file)
    assert [name for _, name, _ in packets] == ["kernlb in", "kernlb out"] * 3
    assert {comment for *_, comment in packets} == {"XDP_REDIRECT: forwarded; in by front"}
    for (before, *_), (after, *_) in zip(packets[::2], packets[1::2], strict=True):
        assert before[IP].dst == str(vip)
        assert after[IP].proto == 4 and after[IP].dst in {
            str(server.address(4)) for server in balancer.topology.servers
        }
        assert after[IP].payload[IP].src == before[IP].src
    assert len(tcpdump(file)) == 6
    assert not watches()


def test_answers_that_only_leave_as_the_clients_are_the_clients(
    balancer: Balancer, vip: IPAddress, capture: Capture, file: Path
) -> None:
    """By fullnat an answer comes with none of the client's addresses."""
    from scapy.layers.inet import IP

    web(balancer, vip, forwarding="fullnat")
    client = balancer.topology.sources(4)[0]
    running = capture("--client", str(client), "--count", "4")
    assert_answered(balancer.load.http(vip, sources=[client]))
    running.end()
    by_comment = {comment: packet[IP] for packet, way, comment in read(file) if "out" in way}
    assert by_comment["XDP_REDIRECT: reply; in by back"].dst == str(client)
    came = [packet[IP] for packet, way, why in read(file) if "in" in way and "reply" in why]
    assert came and str(client) not in {came[0].src, came[0].dst}


def test_what_is_dropped_is_there_once_with_its_reason(
    balancer: Balancer, vip: IPAddress, capture: Capture, file: Path
) -> None:
    web(balancer, vip)
    running = capture("--service", "web", "--only", "drop", "--count", "1")
    assert_answered(balancer.load.http(vip))
    send(balancer, vip, malformed=True)
    running.end()
    ((packet, way, comment),) = read(file)
    assert (way, comment) == ("kernlb in", "XDP_DROP: malformed; in by front")
    assert packet["IP"].dst == str(vip)


def test_what_xdp_answers_itself_is_there_with_the_answer(
    balancer: Balancer, vip: IPAddress, capture: Capture, file: Path
) -> None:
    web(balancer, vip)
    running = capture("--service", "web", "--only", "forward", "--count", "1")
    send(balancer, vip)
    running.end()
    (asked, *_), (answer, way, comment) = read(file)
    assert (way, comment) == ("kernlb out", "XDP_TX: refused; in by front")
    assert answer["TCP"].flags == "R" and answer["TCP"].dport == asked["TCP"].sport == 40000


def test_a_plain_pcap_has_the_packets_alone(
    balancer: Balancer, vip: IPAddress, capture: Capture, tmp_path: Path
) -> None:
    web(balancer, vip, forwarding="dsr")
    plain = tmp_path / "packets.pcap"
    running = capture("--interface", "front", "--count", "2", "--snaplen", "60", into=plain)
    assert_answered(balancer.load.http(vip))
    running.end()
    lines = tcpdump(plain)
    assert len(lines) == 4 and all(f"> {vip}.80" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_leaves_a_whole_file_and_nobody_watching(
    balancer: Balancer, vip: IPAddress, capture: Capture, file: Path, number: int
) -> None:
    web(balancer, vip)
    running = capture("--service", "web", "--seconds", "600", "-o", "json")
    assert_answered(balancer.load.http(vip))
    wait_for(lambda: file.stat().st_size > 0, 10, "packets are written")
    running.signal(number)
    said = json.loads(running.end().partition("\n")[2])
    assert said["ended"] == "stopped" and said["packets"] and said["missed"] == 0
    assert said["reasons"].keys() == {"forwarded", "reply"}
    assert len(tcpdump(file)) == 2 * said["packets"]
    assert not watches()


def test_killed_it_leaves_nobody_watching(
    balancer: Balancer, vip: IPAddress, capture: Capture
) -> None:
    running = capture("--seconds", "600")
    assert len(watches()) == 2
    running.signal(signal.SIGKILL)
    running.end(code=-signal.SIGKILL)
    wait_for(lambda: not watches(), 10, "nobody watches")
    web(balancer, vip)
    assert_answered(balancer.load.http(vip))


def test_a_new_program_is_watched_too(
    balancer: Balancer, vip: IPAddress, capture: Capture, file: Path, pins: Path
) -> None:
    web(balancer, vip)
    running = capture("--service", "web", "--only", "drop", "--count", "1", "--seconds", "100")
    before = {each["id"] for each in watches()}
    balancer.daemon.stop()
    balancer.daemon.start("--pins", str(pins))
    wait_for(lambda: not before & {each["id"] for each in watches()}, 30, "the new one is watched")
    wait_for(lambda: len(watches()) == 2, 30, "it is")
    send(balancer, vip, malformed=True)
    running.end()
    assert len(read(file)) == 1


def test_nothing_matching_ends_by_time(
    balancer: Balancer, vip: IPAddress, capture: Capture, file: Path
) -> None:
    web(balancer, vip)
    running = capture("--client", str(ip_address("203.0.113.9")), "--seconds", "1")
    assert_answered(balancer.load.http(vip))
    assert "0 packets" in running.end() and read(file) == []
