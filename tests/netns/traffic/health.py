"""Servers die and come back: only those that really serve get traffic, in any datapath."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from kernlb.control.client import ControlError
from kernlb.control.protocol import ServerState
from kernlb.lab.load import share_by_server
from kernlb.lab.namespaces import inside
from kernlb.lab.topology import IPAddress
from kernlb.model import DatapathKind
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.breaking import killed, silent
from tests.netns.traffic.changing import wait_for_answers
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import SERVERS, assert_answered, web

INTERVAL, FAST, TIMEOUT, FALL, RISE = 0.5, 0.1, 0.3, 2, 2
TIMING = {
    "interval": INTERVAL,
    "fast_interval": FAST,
    "timeout": TIMEOUT,
    "rise": RISE,
    "fall": FALL,
}
CHECK = {"type": "http", "path": "/health", **TIMING}
SLACK = 3.0  # seconds: machines that test are slow and busy; the distribution is in bench/health


def states(balancer: Balancer, service: str = "web") -> dict[str, ServerState]:
    servers = balancer.daemon.client.service(service).servers
    return {balancer.name_of(each.address): each.state for each in servers}


def all_up(balancer: Balancer) -> None:
    wait_for(lambda: set(states(balancer).values()) == {ServerState.UP}, 20, "every server is good")


def ops_after(balancer: Balancer, when: float) -> list[tuple[float, str]]:
    """Changes of the kernel since a time of day."""
    events = balancer.daemon.client.status().events
    ops = ("+ server", "- server", "~ server")
    return [(e.time, e.text) for e in events if e.time >= when and any(op in e.text for op in ops)]


def removed(balancer: Balancer, role: str, when: float) -> float:
    """When the kernel had lost a server, after ``when``."""
    mark = f"- server  {balancer.key_text('web')} {balancer.address(role, 4)}:80"
    mark = " ".join(mark.split())
    found = wait_for(
        lambda: [at for at, text in ops_after(balancer, when) if mark in " ".join(text.split())],
        20,
        f"{role} is out of the kernel",
    )
    return found[0]


def test_a_new_server_waits_for_its_first_good_probe(balancer: Balancer, vip: IPAddress) -> None:
    with killed(balancer.lab, "server2"):
        web(balancer, vip, check=CHECK)
        wait_for(
            lambda: (
                states(balancer)
                == {
                    "server1": ServerState.UP,
                    "server2": ServerState.DOWN,
                    "server3": ServerState.UP,
                }
            ),
            20,
            "two of three are good",
        )
        assert share_by_server(balancer.load.http(vip, count=6)) == {"server1": 3, "server3": 3}
    all_up(balancer)
    assert share_by_server(balancer.load.http(vip, count=6)) == dict.fromkeys(SERVERS, 2)


def test_failed_requests_are_only_those_sent_before_a_death_was_found(
    balancer: Balancer, vip: IPAddress
) -> None:
    web(balancer, vip, check=CHECK)
    all_up(balancer)
    stream = balancer.load.stream(vip, rate=200, timeout=3)
    wait_for_answers(stream, 100)
    with killed(balancer.lab, "server1") as died:
        out = removed(balancer, "server1", died)
        at_removal = stream.look()
        wait_for_answers(stream, at_removal.answered + 200)
        record = stream.stop()
        assert out - died <= INTERVAL + TIMEOUT * (FALL - 1) + SLACK
        assert record.failures, "nobody met the dead server: this shows nothing"
        assert all(failure.at <= out for failure in record.failures)
        assert record.answered + len(record.failures) == record.sent
    all_up(balancer)


def test_a_silent_server_is_found_by_its_timeout(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip, check=CHECK)
    all_up(balancer)
    with silent(balancer.lab, "server3") as fell_silent:
        out = removed(balancer, "server3", fell_silent)
        assert TIMEOUT * FALL <= out - fell_silent <= INTERVAL + TIMEOUT * FALL + SLACK
        assert share_by_server(balancer.load.http(vip, count=4)) == {"server1": 2, "server2": 2}
    all_up(balancer)


def test_inhibited_it_stays_with_weight_0(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip, check=CHECK, health={"on_down": "inhibit"})
    all_up(balancer)
    with killed(balancer.lab, "server1"):
        wait_for(lambda: states(balancer)["server1"] is ServerState.INHIBITED, 20, "inhibited")
        (one, *_) = balancer.daemon.client.service("web").servers
        assert (one.in_kernel, one.kernel_weight) == (True, 0)
        assert share_by_server(balancer.load.http(vip, count=4)) == {"server2": 2, "server3": 2}
    all_up(balancer)


ALL_DOWN = {
    "reject": ({"health": {"when_all_down": "reject"}}, set()),
    "fail-open": ({"health": {"when_all_down": "fail-open"}}, {"server1", "server2"}),
    "sorry": ({"sorry_server": "server3"}, {"server3"}),
}


@pytest.mark.parametrize("how", ALL_DOWN)
def test_when_all_are_down(balancer: Balancer, vip: IPAddress, how: str) -> None:
    settings, there = ALL_DOWN[how]
    document = {**settings, "servers": balancer.servers(4, {"server1": 1, "server2": 1})}
    if "sorry_server" in document:
        document["sorry_server"] = {"address": balancer.address("server3", 4)}
    web(balancer, vip, check=CHECK, **document)
    wait_for(lambda: in_kernel(balancer) == {"server1", "server2"}, 20, "both are good")
    with killed(balancer.lab, "server1"), killed(balancer.lab, "server2") as died:
        wait_for(lambda: balancer_says(balancer, died, "all down"), 20, "all are down")
        wait_for(lambda: in_kernel(balancer) == there, 20, f"{how}: {there} in the kernel")
        if how == "sorry":
            assert share_by_server(balancer.load.http(vip, count=2)) == {"server3": 2}
    wait_for(lambda: both_up(balancer), 20, "both answer")  # with fail-open they are in anyway
    wait_for(lambda: in_kernel(balancer) == {"server1", "server2"}, 20, "both are good again")
    assert share_by_server(balancer.load.http(vip, count=4)) == {"server1": 2, "server2": 2}


def in_kernel(balancer: Balancer) -> set[str]:
    servers = balancer.daemon.client.service("web").servers
    return {balancer.name_of(each.address) for each in servers if each.kernel_weight}


def both_up(balancer: Balancer) -> bool:
    found = states(balancer)
    return {found["server1"], found["server2"]} == {ServerState.UP}


def balancer_says(balancer: Balancer, since: float, word: str) -> bool:
    events = balancer.daemon.client.status().events
    return any(word in each.text for each in events if each.time >= since)


def test_a_share_of_the_servers_stays_whatever_their_health(
    balancer: Balancer, vip: IPAddress
) -> None:
    web(balancer, vip, check=CHECK, health={"keep": "60%"})
    all_up(balancer)
    with killed(balancer.lab, "server1"), killed(balancer.lab, "server2"):
        wait_for(lambda: ServerState.KEPT in states(balancer).values(), 20, "one is kept")
        assert len(in_kernel(balancer)) == 2
        assert "server3" in in_kernel(balancer)
    all_up(balancer)


def test_a_restart_in_the_middle_of_an_outage_moves_nothing(
    balancer: Balancer, vip: IPAddress
) -> None:
    web(balancer, vip, check=CHECK)
    all_up(balancer)
    daemon = balancer.daemon
    with killed(balancer.lab, "server1") as died:
        removed(balancer, "server1", died)
        stream = balancer.load.stream(vip, rate=100)
        for end in (daemon.kill, daemon.stop):
            end()
            started = time.time()
            daemon.start(*daemon.options)
            wait_for(lambda: states(balancer)["server1"] is ServerState.DOWN, 20, "found again")
            wait_for_answers(stream, stream.look().answered + 50)
            assert ops_after(balancer, started) == []
        record = stream.stop()
        assert record.failures == ()
        assert "server1" not in record.by_server
    all_up(balancer)


def test_a_monitor_that_was_frozen_takes_no_server_out(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip, check=CHECK)
    all_up(balancer)
    thawed = time.time()
    balancer.daemon.freeze(30.0)  # sixty intervals
    stream = balancer.load.stream(vip, rate=50)
    wait_for_answers(stream, 100)
    assert stream.stop().failures == ()
    assert ops_after(balancer, thawed) == []
    assert set(states(balancer).values()) == {ServerState.UP}


def test_datagrams_leave_a_dead_server_at_once(balancer: Balancer, vip: IPAddress) -> None:
    """One client's flow, from one port, that a dead server had."""
    check = {"type": "udp", "payload": "ping", "require_reply": True, **TIMING}
    web(balancer, vip, port=53, protocol="udp", check=check)
    all_up(balancer)
    client = balancer.topology.namespace("client")
    with inside(client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as flow:
        flow.settimeout(2)
        flow.connect((str(vip), 53))

        def ask() -> str:
            flow.send(b"who is there?")
            return flow.recv(100).split()[0].decode()

        first = ask()
        assert ask() == first
        with silent(balancer.lab, first, port=53) as died:
            mark = f"{balancer.address(first, 4)}:53"
            wait_for(
                lambda: any(
                    "- server" in text and mark in text for _, text in ops_after(balancer, died)
                ),
                20,
                f"{first} is out",
            )
            if balancer.kind is DatapathKind.XDP:
                assert ask() != first
            else:  # the kernel lets connections go by and by, and drops what comes meanwhile
                wait_for(lambda: asked(ask) not in ("", first), 10, "another one answers")
    all_up(balancer)


def asked(ask: Callable[[], str]) -> str:
    with suppress(TimeoutError):
        return ask()
    return ""


def test_the_same_server_in_several_services_is_asked_once(
    balancer: Balancer, vip: IPAddress
) -> None:
    web(balancer, vip, check=CHECK)
    names = [f"again{number}" for number in range(4)]
    for number, name in enumerate(names):
        document = {"address": str(vip), "port": 8000 + number, "check": CHECK}
        servers = [{**each, "port": 80} for each in balancer.servers(4)]
        balancer.declare(name, {**document, "forwarding": "nat", "servers": servers})
    all_up(balancer)
    with killed(balancer.lab, "server1") as died:
        wait_for(lambda: balancer_says(balancer, died, "of 5 services ("), 20, "one sentence")
        for name in names:
            wait_for(lambda n=name: states(balancer, n)["server1"] is ServerState.DOWN, 20, "down")
    for name in names:
        balancer.daemon.client.remove_service(name)
    all_up(balancer)


def test_a_check_that_is_refused_changes_nothing(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip, check=CHECK)
    all_up(balancer)
    with pytest.raises(ControlError) as refused:
        web(balancer, vip, check={**CHECK, "interval": "never"})
    assert [fault.key for fault in refused.value.problem.faults] == ["check.interval"]
    assert_answered(balancer.load.http(vip, count=3))
