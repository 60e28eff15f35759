"""A thousand open connections and a stream of requests, while everything around them changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kernlb.control.protocol import Drain
from kernlb.lab.load import Answer, Stream
from tests.netns.traffic.balancer import WEIGHTS, Balancer
from tests.netns.traffic.changing import wait_for_answers
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import ECHO, assert_answered, web

pytestmark = pytest.mark.netns

METHODS = ("nat", "dsr", "tunnel", "fullnat")
EACH = 250
RATE = 100.0


class Traffic:
    """What must not notice anything."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.sessions: list[Answer] = []
        servers = balancer.servers(4, {"server1": 1, "server2": 2})
        for method in METHODS:
            vip = balancer.fresh_vip(4)
            echo = {"address": str(vip), "port": ECHO, "scheduler": "wrr", "forwarding": method}
            balancer.declare(f"echo-{method}", {**echo, "servers": servers})
            self.sessions += balancer.load.open(vip, count=EACH)
        assert_answered(self.sessions)
        vip = balancer.fresh_vip(4)
        web(balancer, vip, servers=servers)
        self.stream: Stream = balancer.load.stream(vip, rate=RATE)

    def goes_on(self) -> None:
        """Every connection carries data both ways, and requests are answered."""
        wait_for_answers(self.stream, self.stream.look().answered + 25)
        assert_answered(self.balancer.load.echo(self.sessions, size=300))
        assert self.stream.look().failures == ()

    def end(self) -> None:
        self.balancer.load.close_sessions(self.sessions)
        record = self.stream.stop()
        assert record.failures == ()
        assert record.answered == record.sent


@pytest.fixture(scope="module")
def traffic(balancer: Balancer) -> Iterator[Traffic]:
    traffic = Traffic(balancer)
    yield traffic
    traffic.end()


def for_all(balancer: Balancer, act: Callable[[str], object]) -> None:
    for name in ("web", *(f"echo-{method}" for method in METHODS)):
        act(name)


def test_servers_come_are_weighted_anew_and_go(balancer: Balancer, traffic: Traffic) -> None:
    client = balancer.daemon.client
    one, three = (balancer.address(role, 4) for role in ("server1", "server3"))
    for_all(balancer, lambda name: client.add_server(name, {"address": three, "weight": 3}))
    traffic.goes_on()
    for weight in (7, 0, 1):
        for_all(balancer, lambda name, w=weight: client.edit_server(name, one, {"weight": w}))
        traffic.goes_on()
    for_all(balancer, lambda name: client.drain_server(name, three, Drain()))
    wait_for(lambda: balancer.active("web")["server3"] == 0, 10, "server3 is idle")
    for_all(balancer, lambda name: client.remove_server(name, three))
    traffic.goes_on()


def test_the_scheduler_changes(balancer: Balancer, traffic: Traffic) -> None:
    for scheduler in ("mh", "lc", "wrr"):
        for_all(
            balancer,
            lambda name, s=scheduler: balancer.daemon.client.edit_service(name, {"scheduler": s}),
        )
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
def test_the_daemon_ends_and_starts_with_the_program_loaded_anew(
    balancer: Balancer, traffic: Traffic, end: str
) -> None:
    daemon = balancer.daemon
    for _ in range(3):
        getattr(daemon, end)()
        traffic.goes_on()
        daemon.start(*daemon.options)
        traffic.goes_on()


def test_connections_are_still_counted_where_they_are(balancer: Balancer, traffic: Traffic) -> None:
    for method in METHODS:
        counted = balancer.active(f"echo-{method}")
        assert sum(counted.values()) == EACH
        held = [each.server for each in traffic.sessions[METHODS.index(method) * EACH :][:EACH]]
        assert counted == {role: held.count(role) for role in ("server1", "server2")}
