"""Kernel probes beside real traffic by IPVS: one program of all views, compiled once."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernlb.datapath.xdp import explain
from kernlb.lab.load import share_by_server
from kernlb.lab.namespaces import inside
from kernlb.model import L4Protocol, ServerKey
from kernlb.trace.bcc import missing
from tests.netns.ipvs.conftest import balancer, sysctls  # noqa: F401 (fixtures)
from tests.netns.trace.conftest import Command
from tests.netns.traffic.balancer import EQUAL, Balancer
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import web

# Compiling with clang takes an emulated guest a minute or more.
pytestmark = [pytest.mark.ipvs, pytest.mark.timeout(600)]
COMPILE_LIMIT = 540.0
NOBODY = 8099

Finding = dict[str, Any]
Found = Callable[..., list[Finding]]


@pytest.fixture(scope="module")
def tracing(balancer: Balancer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:  # noqa: F811
    """All views on one VIP, until the module ends."""
    if lacks := missing():
        assert os.environ.get("CI") != "true", f"CI must run this test: {lacks}"
        pytest.skip(f"cannot trace here: {lacks}")
    web(balancer, balancer.topology.vips(4)[0], forwarding="nat")
    said = tmp_path_factory.mktemp("trace") / "said"
    words = ("trace", "drops", "schedule", "connections", "latency", "-o", "json")
    command = Command(balancer, said, *words)
    wait_for(lambda: "tracing;" in command.said or command.ended, COMPILE_LIMIT, "it is compiled")
    assert not command.ended, command.said
    yield command
    if not command.ended:
        command.signal(signal.SIGKILL)


@pytest.fixture
def found(tracing: Command) -> Found:
    """What it has told so far of one kind, where fields are as given."""

    def found(kind: str, **fields: object) -> list[Finding]:
        lines = [json.loads(line) for line in tracing.said.splitlines() if line.startswith("{")]
        return [
            each
            for each in lines
            if each["kind"] == kind and all(each.get(name) == fields[name] for name in fields)
        ]

    return found


def test_decisions_connections_and_drops_are_told_as_they_happen(
    balancer: Balancer,  # noqa: F811
    tracing: Command,
    found: Found,
) -> None:
    vip = balancer.topology.vips(4)[0]
    answers = balancer.load.http(vip, count=6)
    assert share_by_server(answers) == dict.fromkeys(EQUAL, 2)
    wait_for(lambda: len(found("begin", vip=f"{vip}:80")) >= 6, 30, "six connections are told")
    chosen = found("schedule", vip=f"{vip}:80")
    addresses = {balancer.address(role, 4) for role in EQUAL}
    assert Counter(each["server"] for each in chosen) == {f"{each}:80": 2 for each in addresses}
    assert {each["scheduler"] for each in chosen} == {"rr"}
    assert [each["client"] for each in chosen] == [each["client"] for each in found("begin")]

    # a service without servers: IPVS finds none
    nobody = {"address": str(vip), "port": NOBODY, "scheduler": "rr", "servers": []}
    balancer.declare("nobody", nobody)
    (refused,) = balancer.load.http(vip, port=NOBODY)
    assert refused.error == "ECONNREFUSED"
    lost = wait_for(lambda: found("schedule", vip=f"{vip}:{NOBODY}"), 30, "no server is told")
    assert {each["server"] for each in lost} == {""}

    # a connection that ends while we look: one of UDP, which is over when it is silent
    balancer.settle_timeouts(udp=1)
    dns = {"address": str(vip), "port": 53, "protocol": "udp", "scheduler": "rr"}
    balancer.declare("dns", {**dns, "servers": balancer.servers(4)})
    (answer,) = balancer.load.udp(vip)
    assert answer.error is None
    (ended,) = wait_for(lambda: found("end", vip=f"{vip}:53"), 60, "its end is told")
    assert ended["protocol"] == "udp" and ended["packets"] == 1 and 0 < ended["seconds"] < 60

    # the kernel's own drops: a source that has no way back by this interface, and no route
    balancer.lab.exec("balancer", ["sysctl", "-qw", "net.ipv4.conf.front.rp_filter=1"])
    balancer.lab.exec("balancer", ["ip", "route", "add", "unreachable", "198.18.99.0/24"])
    spoof(balancer, source=balancer.address("server1", 4), to=str(vip))
    rule = wait_for(lambda: found("drop", reason="IP_RPFILTER"), 60, "the kernel's reason is told")
    assert rule[0]["to"] == f"{vip}:80" and rule[0]["protocol"] == "tcp"
    assert rule[0]["from"] == balancer.address("server1", 4)
    spoof(balancer, source=str(balancer.topology.sources(4)[0]), to="198.18.99.1")
    wait_for(
        lambda: [each for each in found("drop") if each.get("to") == "198.18.99.1:80"],
        30,
        f"a packet that has no route is told: {tracing.said[-2000:]}",
    )

    # the end of it: sums
    tracing.signal(signal.SIGINT)
    tracing.end()
    sums = {each["server"]: each["times"] for each in found("chosen", vip=f"{vip}:80")}
    assert sums == {f"{each}:80": 2 for each in addresses}
    (total,) = found("total")
    assert total["begun"] >= 7 and total["ended"] >= 1
    latency = {each["server"]: each for each in found("latency")}
    for each in addresses:
        assert latency[f"{each}:80"]["answered"] == 2 and not latency[f"{each}:80"]["unanswered"]
        assert 0 < latency[f"{each}:80"]["median"] < 10_000


def spoof(balancer: Balancer, source: str, to: str) -> None:  # noqa: F811
    """A SYN from the lab's client, whoever it says it is from."""
    from ipaddress import ip_address

    ends = ServerKey(ip_address(source), 40000), ServerKey(ip_address(to), 80)
    packet = explain.frame(L4Protocol.TCP, *ends)[14:]
    gateway = balancer.topology.balancer_front.address(4)

    def go() -> None:
        device, station = neighbour(str(gateway))
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800)) as raw:
            raw.sendto(packet, (device, 0x800, 0, 0, station))

    inside(balancer.topology.namespace("client"), go)


def neighbour(address: str) -> tuple[str, bytes]:
    """Device and Ethernet address, as this namespace knows them."""
    for line in Path("/proc/thread-self/net/arp").read_text().splitlines()[1:]:
        words = line.split()
        if words[0] == address:
            return words[5], bytes.fromhex(words[3].replace(":", ""))
    raise AssertionError(f"{address} is no neighbour yet")
