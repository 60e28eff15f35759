"""What servers of nat and fullnat answer comes back from the VIP, whatever surrounds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.bpf import oracle
from tests.bpf.frames import (
    BACK_MAC,
    CLIENT,
    HEADERS,
    OURS,
    PORT,
    SERVER,
    SERVER_MAC,
    SERVER_PORT,
    SPORT,
    VIP,
    answer,
    frame,
    request,
)
from tests.bpf.world import PASS, REDIRECT, TX, World


class Case(NamedTuple):
    method: str
    family: int
    protocol: str
    ingress: str = "back"
    vlans: tuple[int, ...] = ()
    headers: str = "plain"

    def __str__(self) -> str:
        words = [self.method, f"ipv{self.family}", self.protocol, f"in through {self.ingress}"]
        words += [f"tags {self.vlans}"] if self.vlans else []
        words += [self.headers] if self.headers != "plain" else []
        return ", ".join(words)


def cases() -> Iterator[Case]:
    for method in ("nat", "fullnat"):
        for family in (4, 6):
            for protocol in ("tcp", "udp", *(("sctp",) if method == "nat" else ())):
                for ingress in ("front", "back"):
                    yield Case(method, family, protocol, ingress)
                for name, (families, _) in HEADERS.items():
                    if family in families and name != "plain":
                        yield Case(method, family, protocol, headers=name)
            for vlans in ((100,), (100, 200)):
                yield Case(method, family, "tcp", vlans=vlans)
            yield Case(method, family, "udp", headers="udp checksum 0")


def begin(world: World, method: str, family: int, protocol: str) -> tuple[str, int, int]:
    """A client's first packet; returns where the server's answers go, and its own port."""
    port = 0 if protocol == "sctp" else SERVER_PORT
    service = world.service(protocol, family)
    service.add(SERVER[family], forwarding=method, port=port, interface="back")
    assert world.send(frame(request(protocol, family))).reasons == {"forwarded": 1}
    if method == "nat":
        return CLIENT[family], SPORT, port or PORT
    return OURS[family], world.connection(family).source_port, port


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_an_answer_reaches_the_client_from_the_vip(world: World, case: Case) -> None:
    method, family, protocol, ingress, vlans, headers = case
    dst, dport, sport = begin(world, method, family, protocol)
    how = {"udp_checksum": 0} if headers == "udp checksum 0" else {"headers": headers}
    packet = answer(protocol, family, dst, dport, sport, tos=0x28, **how)

    sent = world.send(frame(packet, vlans, src=SERVER_MAC, dst=BACK_MAC), ingress=ingress)

    assert sent.reasons == {"reply": 1}
    assert sent.verdict == (TX if ingress == "front" else REDIRECT)
    expected = oracle.to_client(packet, VIP[family], PORT, CLIENT[family], SPORT)
    assert sent.frame.hex() == oracle.towards_clients(expected).hex()


UNRELATED = {
    "another port of the server": {"sport": 9999},
    "another port of the client": {"dport": 9},
    "another server": {"src": {4: "10.1.0.99", 6: "fd00:1::99"}},
    "another client": {"dst": {4: "198.51.100.99", 6: "2001:db8:c::99"}},
}


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("method", ("nat", "fullnat"))
@pytest.mark.parametrize("what", UNRELATED)
def test_what_is_no_answer_is_left_alone(world: World, method: str, family: int, what: str) -> None:
    dst, dport, sport = begin(world, method, family, "tcp")
    how = {"dst": dst, "dport": dport, "sport": sport}
    how |= {k: v[family] if isinstance(v, dict) else v for k, v in UNRELATED[what].items()}
    packet = frame(answer("tcp", family, **how))

    sent = world.send(packet, ingress="back")

    assert sent.verdict == PASS
    assert sent.frame == packet
    assert sent.reasons == {"not_ours": 1}


@pytest.mark.parametrize("method", ("nat", "fullnat"))
def test_packets_and_bytes_are_counted_both_ways(world: World, method: str) -> None:
    dst, dport, sport = begin(world, method, 4, "tcp")
    reply = answer("tcp", 4, dst, dport, sport)
    for _ in range(3):
        world.send(frame(reply), ingress="back")
    (entry,) = world.connections()

    for name, index in (("server_counters", entry.server), ("service_counters", 1)):
        counted = world.counters(name, index)
        assert counted.connections == counted.packets_in == 1
        assert counted.bytes_in == len(bytes(request("tcp", 4)))
        assert counted.packets_out == 3
        assert counted.bytes_out == 3 * len(bytes(reply))


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("method", ("nat", "fullnat"))
def test_a_removed_servers_answers_are_no_longer_translated(
    world: World, method: str, family: int
) -> None:
    dst, dport, sport = begin(world, method, family, "tcp")
    service = world.services.made[0]
    service.remove(service.servers[0])
    packet = frame(answer("tcp", family, dst, dport, sport))

    sent = world.send(packet, ingress="back")

    assert (sent.verdict, sent.frame) == (PASS, packet)


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@pytest.mark.parametrize("family", (4, 6))
def test_of_two_vips_with_one_server_the_newer_connection_is_answered(
    world: World, family: int, protocol: str
) -> None:
    """A client with the same port to both: nat cannot tell the answers apart, nor can IPVS."""
    other = {4: "192.0.2.2", 6: "2001:db8:f::2"}[family]
    for vip in (VIP[family], other):
        service = world.service(protocol, family, address=vip)
        service.add(SERVER[family], forwarding="nat", port=SERVER_PORT)
    for vip in (VIP[family], other):
        world.send(frame(request(protocol, family, dst=vip)))
    packet = answer(protocol, family, CLIENT[family], SPORT)
    sent = world.send(frame(packet, src=SERVER_MAC, dst=BACK_MAC), ingress="back")
    reply = oracle.to_client(packet, other, PORT, CLIENT[family], SPORT)
    assert sent.frame.hex() == oracle.towards_clients(reply).hex()
    assert len(world.connections(family, reverse=True)) == 1
