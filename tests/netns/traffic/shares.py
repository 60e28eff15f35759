"""Who answers whom: what each scheduler promises, asked of real servers by real clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from kernlb.lab.load import Answer, share_by_server
from kernlb.lab.topology import IPAddress
from kernlb.model import ServerKey
from kernlb.schedule import maglev, source_hash
from tests.netns.traffic.balancer import EQUAL, WEIGHTS, Balancer, Json

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh")
PORTS = {"tcp": 80, "udp": 53}
ECHO = 7
CLIENTS = 8


def assert_shares(
    balancer: Balancer, vip: IPAddress, method: str, scheduler: str, protocol: str
) -> None:
    """Each server gets its share, and sees whom the forwarding method lets it see."""
    held = protocol == "tcp" and scheduler in ("lc", "wlc")
    document = {
        "address": str(vip),
        "port": ECHO if held else PORTS[protocol],
        "protocol": protocol,
        "scheduler": scheduler,
        "forwarding": method,
        "servers": balancer.servers(vip.version, EQUAL if scheduler in ("rr", "lc") else WEIGHTS),
    }
    balancer.declare(f"{protocol}{vip.version}", document)
    _SHARES[scheduler](balancer, document)


def seen_clients(
    balancer: Balancer, document: Json, sources: Sequence[IPAddress]
) -> list[IPAddress]:
    """Whom the servers see: the clients themselves, or with fullnat the balancer."""
    if document.get("forwarding") == "fullnat":
        return [balancer.topology.balancer.address(each.version) for each in sources]
    return list(sources)


def _equal_turns(balancer: Balancer, document: Json) -> None:
    assert share_by_server(ask(balancer, document, 6)) == dict.fromkeys(EQUAL, 2)


def _turns_by_weight(balancer: Balancer, document: Json) -> None:
    assert share_by_server(ask(balancer, document, 6)) == WEIGHTS


def _equal_connections(balancer: Balancer, document: Json) -> None:
    _assert_near(hold(balancer, document, 6), dict.fromkeys(EQUAL, 2))


def _connections_by_weight(balancer: Balancer, document: Json) -> None:
    _assert_near(hold(balancer, document, 6), WEIGHTS)


def _as_maglev_says(balancer: Balancer, document: Json) -> None:
    _assert_as_predicted(balancer, document, maglev.table, maglev.slot)


def _as_source_hashing_says(balancer: Balancer, document: Json) -> None:
    _assert_as_predicted(balancer, document, source_hash.table, source_hash.slot)


_SHARES: dict[str, Callable[[Balancer, Json], None]] = {
    "rr": _equal_turns,
    "wrr": _turns_by_weight,
    "lc": _equal_connections,
    "wlc": _connections_by_weight,
    "sh": _as_source_hashing_says,
    "mh": _as_maglev_says,
}


def ask(balancer: Balancer, document: Json, count: int) -> list[Answer]:
    """``count`` requests, each client in turn; everyone is answered and is seen as who it is."""
    vip = ip_address(document["address"])
    sources = balancer.topology.sources(vip.version)[:CLIENTS]
    send = balancer.load.http if document["protocol"] == "tcp" else balancer.load.udp
    answers = send(vip, count=count, sources=sources)
    assert [answer.error for answer in answers] == [None] * count
    expected = [sources[number % len(sources)] for number in range(count)]
    assert [answer.client for answer in answers] == seen_clients(balancer, document, expected)
    return answers


def hold(balancer: Balancer, document: Json, count: int) -> list[Answer]:
    """``count`` connections that stay open; to IPVS a UDP flow is one until it times out."""
    if document["protocol"] == "udp":
        return ask(balancer, document, count)
    vip = ip_address(document["address"])
    sessions = balancer.load.open(vip, count=count)
    assert [session.error for session in sessions] == [None] * count
    sources = balancer.topology.sources(vip.version)[:count]
    assert [each.client for each in sessions] == seen_clients(balancer, document, sources)
    balancer.load.close_sessions(sessions)
    return sessions


def _assert_near(answers: list[Answer], ideal: dict[str, int]) -> None:
    shares = share_by_server(answers)
    assert all(abs(shares.get(role, 0) - fair) <= 1 for role, fair in ideal.items()), shares


def _assert_as_predicted(
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
    clients = balancer.topology.sources(ip_address(document["address"]).version)[:CLIENTS]
    seen = Counter(zip((*clients, *clients), (a.server for a in answers), strict=True))
    assert seen == {(each, balancer.role(owners[slot(each)])): 2 for each in clients}
