"""Servers come and go: drain, removal, weights, thresholds, the sorry server."""

from __future__ import annotations

import pytest

from kernlb.control.protocol import Drain, ServerState
from kernlb.lab.background import Stream, StreamRecord
from kernlb.lab.load import share_by_server
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import EQUAL, Balancer
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import ECHO, SERVERS, assert_answered, web


def test_draining_sends_no_new_connection_and_keeps_the_open_ones(
    balancer: Balancer, vip: IPAddress
) -> None:
    web(balancer, vip)
    echo = {"address": str(vip), "port": ECHO, "scheduler": "rr", "servers": balancer.servers(4)}
    balancer.declare("echo", echo)
    sessions = balancer.load.open(vip, count=3)
    (session,) = [each for each in sessions if each.server == "server1"]
    drained = f"{balancer.address('server1', 4)}"

    stream = balancer.load.stream(vip, rate=40)
    wait_for_answers(stream, 20)
    for name in ("web", "echo"):
        balancer.daemon.client.drain_server(name, drained, Drain())
    at_drain = stream.look()
    wait_for_answers(stream, at_drain.answered + 100)
    seen = stream.stop()
    assert seen.failures == ()
    assert seen.answered == seen.sent
    # what was under way while the drain was asked for may have been server1's still
    assert from_server(seen, "server1") - from_server(at_drain, "server1") <= 2
    assert share_by_server(balancer.load.http(vip, count=6)) == {"server2": 3, "server3": 3}

    (echoed,) = balancer.load.echo([session], size=10_000)
    assert echoed.error is None
    (view, *_) = balancer.daemon.client.service("echo").servers
    assert (view.state, view.kernel_weight) == (ServerState.DRAINING, 0)
    assert balancer.active("echo")["server1"] == 1
    balancer.load.close_sessions(sessions)
    wait_for(lambda: balancer.active("echo")["server1"] == 0, 10, "the last connection ended")
    balancer.daemon.client.remove_service("echo")
    balancer.daemon.client.enable_server("web", drained)
    assert share_by_server(balancer.load.http(vip, count=6)) == dict.fromkeys(SERVERS, 2)


def test_a_drained_server_is_removed_and_no_request_notices(
    balancer: Balancer, vip: IPAddress
) -> None:
    web(balancer, vip)
    client, server = balancer.daemon.client, balancer.address("server2", 4)
    stream = balancer.load.stream(vip, rate=40)
    wait_for_answers(stream, 20)
    client.drain_server("web", server, Drain())
    wait_for(lambda: balancer.active("web")["server2"] == 0, 10, "server2 is idle")
    client.remove_server("web", server)
    wait_for_answers(stream, stream.look().answered + 20)
    client.add_server("web", {"address": server})
    wait_for_answers(stream, stream.look().answered + 20)
    seen = stream.stop()
    assert seen.failures == ()
    assert seen.answered == seen.sent
    assert "server2" in share_by_server(balancer.load.http(vip, count=3))


def wait_for_answers(stream: Stream, count: int) -> None:
    wait_for(lambda: stream.look().answered >= count, 60, f"{count} answers")


def from_server(seen: StreamRecord, role: str) -> int:
    return seen.by_server.get(role, 0)


@pytest.mark.parametrize("scheduler", ["sh", "mh"])
def test_weight_0_of_a_hash_scheduler_moves_only_the_clients_of_that_server(
    balancer: Balancer, vip: IPAddress, scheduler: str
) -> None:
    web(balancer, vip, scheduler=scheduler)
    sources = balancer.topology.sources(4)[:12]
    before = {a.client: a.server for a in balancer.load.http(vip, count=12, sources=sources)}
    assert set(before.values()) == set(SERVERS)
    server = balancer.address("server3", 4)
    balancer.daemon.client.edit_server("web", server, {"weight": 0})
    answers = balancer.load.http(vip, count=12, sources=sources)
    assert_answered(answers)
    for answer in answers:
        was = before[answer.client]
        assert answer.server == was or (was == "server3" and answer.server != "server3")
    balancer.daemon.client.edit_server("web", server, {"weight": 1})
    after = {a.client: a.server for a in balancer.load.http(vip, count=12, sources=sources)}
    assert after == before


def test_the_sorry_server_answers_when_no_other_can(balancer: Balancer, vip: IPAddress) -> None:
    one, two, sorry = balancer.servers(4)
    del sorry["weight"]
    web(balancer, vip, servers=[one, two], sorry_server=sorry)
    client = balancer.daemon.client
    assert share_by_server(balancer.load.http(vip, count=4)) == {"server1": 2, "server2": 2}
    client.disable_server("web", one["address"])
    assert share_by_server(balancer.load.http(vip, count=4)) == {"server2": 4}
    client.disable_server("web", two["address"])
    assert share_by_server(balancer.load.http(vip, count=4)) == {"server3": 4}
    states = [server.state for server in client.service("web").servers]
    assert states == [ServerState.DISABLED, ServerState.DISABLED, ServerState.SORRY]
    client.enable_server("web", one["address"])
    client.enable_server("web", two["address"])
    assert share_by_server(balancer.load.http(vip, count=4)) == {"server1": 2, "server2": 2}


def test_a_server_gets_no_more_connections_than_its_upper_threshold(
    balancer: Balancer, vip: IPAddress
) -> None:
    servers = balancer.servers(4)
    servers[0]["upper_threshold"] = 2
    web(balancer, vip, port=ECHO, servers=servers)
    sessions = balancer.load.open(vip, count=12)
    assert share_by_server(sessions) == {"server1": 2, "server2": 5, "server3": 5}
    balancer.daemon.client.edit_server("web", servers[0]["address"], {"upper_threshold": 100})
    more = balancer.load.open(vip, count=3)
    assert share_by_server(more) == EQUAL
    assert_answered(balancer.load.echo([*sessions, *more]))
    balancer.load.close_sessions([*sessions, *more])


def test_a_service_that_is_removed_answers_nobody(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip)
    assert_answered(balancer.load.http(vip, count=3))
    balancer.daemon.client.remove_service("web")
    assert share_by_server(balancer.load.http(vip, count=1)) == {"ECONNREFUSED": 1}
