"""Who answers whom: every forwarding method with every scheduler, family and protocol.

Each case has a virtual address of its own, so that no connection of an earlier case weighs in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from kernlb.lab.load import Answer, share_by_server
from kernlb.lab.topology import IPAddress
from kernlb.model import ServerKey
from kernlb.schedule import maglev, source_hash
from tests.netns.ipvs.balancer import EQUAL, WEIGHTS, Balancer, Json

pytestmark = pytest.mark.ipvs

METHODS = ("nat", "tunnel", "dsr")
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh")
PORTS = {"tcp": 80, "udp": 53}
ECHO = 7
CLIENTS = 8


@pytest.mark.parametrize("protocol", PORTS)
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("method", METHODS)
def test_each_server_gets_its_share_and_sees_the_client(
    balancer: Balancer, method: str, scheduler: str, version: int, protocol: str
) -> None:
    vip = balancer.topology.vips(version)[case_number(method, scheduler)]
    held = protocol == "tcp" and scheduler in ("lc", "wlc")
    document = {
        "address": str(vip),
        "port": ECHO if held else PORTS[protocol],
        "protocol": protocol,
        "scheduler": scheduler,
        "forwarding": method,
        "servers": balancer.servers(version, EQUAL if scheduler in ("rr", "lc") else WEIGHTS),
    }
    balancer.declare(f"{protocol}{version}", document)
    SHARES[scheduler](balancer, document)


def case_number(method: str, scheduler: str) -> int:
    return METHODS.index(method) * len(SCHEDULERS) + SCHEDULERS.index(scheduler)


def equal_turns(balancer: Balancer, document: Json) -> None:
    assert share_by_server(ask(balancer, document, 6)) == dict.fromkeys(EQUAL, 2)


def turns_by_weight(balancer: Balancer, document: Json) -> None:
    assert share_by_server(ask(balancer, document, 6)) == WEIGHTS


def equal_connections(balancer: Balancer, document: Json) -> None:
    assert_near(hold(balancer, document, 6), dict.fromkeys(EQUAL, 2))


def connections_by_weight(balancer: Balancer, document: Json) -> None:
    assert_near(hold(balancer, document, 6), WEIGHTS)


def as_maglev_says(balancer: Balancer, document: Json) -> None:
    assert_as_predicted(balancer, document, maglev.table, maglev.slot)


def as_source_hashing_says(balancer: Balancer, document: Json) -> None:
    assert_as_predicted(balancer, document, source_hash.table, source_hash.slot)


SHARES: dict[str, Callable[[Balancer, Json], None]] = {
    "rr": equal_turns,
    "wrr": turns_by_weight,
    "lc": equal_connections,
    "wlc": connections_by_weight,
    "sh": as_source_hashing_says,
    "mh": as_maglev_says,
}


def ask(balancer: Balancer, document: Json, count: int) -> list[Answer]:
    """``count`` requests, each client in turn; everyone is answered and is seen as who it is."""
    vip = ip_address(document["address"])
    sources = balancer.topology.sources(vip.version)[:CLIENTS]
    send = balancer.load.http if document["protocol"] == "tcp" else balancer.load.udp
    answers = send(vip, count=count, sources=sources)
    assert [answer.error for answer in answers] == [None] * count
    expected = [sources[number % len(sources)] for number in range(count)]
    assert [answer.client for answer in answers] == expected
    return answers


def hold(balancer: Balancer, document: Json, count: int) -> list[Answer]:
    """``count`` connections that stay open; to IPVS a UDP flow is one until it times out."""
    if document["protocol"] == "udp":
        return ask(balancer, document, count)
    vip = ip_address(document["address"])
    sessions = balancer.load.open(vip, count=count)
    assert [session.error for session in sessions] == [None] * count
    assert [s.client for s in sessions] == list(balancer.topology.sources(vip.version)[:count])
    balancer.load.close_sessions(sessions)
    return sessions


def assert_near(answers: list[Answer], ideal: dict[str, int]) -> None:
    shares = share_by_server(answers)
    assert all(abs(shares.get(role, 0) - fair) <= 1 for role, fair in ideal.items()), shares


def assert_as_predicted(
    balancer: Balancer,
    document: Json,
    table: Callable[..., list[ServerKey] | None],
    slot: Callable[[IPAddress], int],
) -> None:
    """Every client on its own server, twice, and on the one that kernlb's own table names."""
    state = balancer.state(document)
    owners = table([(s.key, s.weight) for s in state.servers], state.service.family)
    assert owners is not None
    answers = ask(balancer, document, 2 * CLIENTS)
    seen = Counter((answer.client, answer.server) for answer in answers)
    clients = {answer.client for answer in answers if answer.client is not None}
    assert seen == {(each, balancer.role(owners[slot(each)])): 2 for each in clients}
