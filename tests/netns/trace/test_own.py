"""XDP's own counters, live, on this machine's kernel: neither bcc nor headers are needed."""

from __future__ import annotations

import json
import signal

import pytest

from kernlb.lab.topology import IPAddress
from tests.netns.trace.conftest import Start
from tests.netns.trace.sending import send
from tests.netns.traffic.balancer import EQUAL, Balancer
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import assert_answered, web

pytestmark = pytest.mark.netns


def test_drops_are_told_with_their_reason_and_its_meaning(
    balancer: Balancer, vip: IPAddress, start: Start
) -> None:
    web(balancer, vip)
    running = start("trace", "drops", "--own")
    running.wait_said("tracing;")
    send(balancer, vip, malformed=True)
    send(balancer, vip)
    running.wait_said("1  kernlb xdp  malformed: its headers contradict each other")
    running.wait_said("1  kernlb xdp  refused: no server may take it: the client is told")
    running.signal(signal.SIGTERM)
    running.end()


def test_new_connections_are_told_by_server(
    balancer: Balancer, vip: IPAddress, start: Start
) -> None:
    web(balancer, vip)
    running = start("trace", "schedule", "--own", "--service", "web", "-o", "json")
    running.wait_said("tracing;")
    assert_answered(balancer.load.http(vip, count=6))

    def told() -> dict[str, int]:
        found: dict[str, int] = {}
        for line in running.said.splitlines():
            if line.startswith("{"):
                each = json.loads(line)
                found[each["server"]] = found.get(each["server"], 0) + each["connections"]
        return found

    wanted = {f"{balancer.address(role, 4)}:80": 2 for role in EQUAL}
    wait_for(lambda: told() == wanted, 10, "each server's new connections are told")


def test_what_cannot_be_probed_leaves_the_counters_and_says_so(
    balancer: Balancer, vip: IPAddress, start: Start
) -> None:
    from kernlb.trace.bcc import missing

    if not missing():
        pytest.skip("this host has what probes need")
    web(balancer, vip)
    running = start("trace", "--seconds", "1.5")
    running.wait_said("tracing;")
    send(balancer, vip, malformed=True)
    said = running.end()
    assert "missing: apt-get install" in said and "of XDP's own counters:" in said
    assert "malformed" in said


def test_it_ends_by_its_time_and_with_nothing_to_tell_says_nothing(
    balancer: Balancer, start: Start
) -> None:
    running = start("trace", "--own", "--seconds", "1")
    assert running.end() == "tracing; ^C ends it\n"
