"""A client's packet goes to its server: every method, family, protocol, and shape of headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from scapy.packet import Packet

from tests.bpf import oracle
from tests.bpf.frames import HEADERS, SERVER, SERVER_PORT, frame, request
from tests.bpf.services import Server
from tests.bpf.world import REDIRECT, TX, World

METHODS = (
    "dsr",
    "nat",
    "fullnat",
    *(f"{kind} in ipv{outer}" for kind in ("ipip", "gue", "gre") for outer in (4, 6)),
)
VLANS = {"": (), "one tag": (100,), "two tags": (100, 200)}


class Case(NamedTuple):
    method: str
    family: int
    protocol: str
    vlans: str = ""
    egress: int = 0
    headers: str = "plain"
    interface: str = "front"

    def __str__(self) -> str:
        words = [self.method, f"ipv{self.family}", self.protocol]
        words += [self.vlans] if self.vlans else []
        words += [f"out with tag {self.egress}"] if self.egress else []
        words += [self.headers] if self.headers != "plain" else []
        words += [f"through {self.interface}"] if self.interface != "front" else []
        return ", ".join(words)


def protocols(method: str) -> tuple[str, ...]:
    return ("tcp", "udp") if method == "fullnat" else ("tcp", "udp", "sctp")


def cases() -> Iterator[Case]:
    for method in METHODS:
        for family in (4, 6):
            for protocol in protocols(method):
                yield Case(method, family, protocol)
                yield Case(method, family, protocol, interface="back")
                for name, (families, _) in HEADERS.items():
                    if family in families and name != "plain":
                        yield Case(method, family, protocol, headers=name)
            for vlans in VLANS:
                for egress in (0, 300):
                    if vlans or egress:
                        yield Case(method, family, "tcp", vlans, egress)
            yield Case(method, family, "udp", headers="udp checksum 0")


def add_server(world: World, case: Case) -> Server:
    service = world.service(case.protocol, case.family)
    how = {"vlan": case.egress, "interface": case.interface}
    kind, _, outer = case.method.partition(" in ipv")
    if outer:
        return service.add(SERVER[int(outer)], forwarding="tunnel", tunnel=kind, **how)
    if kind != "dsr" and case.protocol != "sctp":
        how["port"] = SERVER_PORT
    return service.add(SERVER[case.family], forwarding=kind, **how)


def like(case: Case, server: Server, packet: Packet, out: bytes, world: World) -> bytes:
    """What the server is to get, given what the program was free to choose."""
    chosen = {}
    if case.method == "fullnat":
        chosen["source_port"] = world.connection(case.family).source_port
        assert chosen["source_port"] >= 1024
    if server.tunnel == "gue":
        chosen["gue_sport"] = oracle.gue_source_port(out, server)
    return oracle.to_server(packet, server, **chosen)


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_a_packet_reaches_its_server(world: World, case: Case) -> None:
    """The first of a flow, the next ones, and ones of other kinds, which may take a shorter way."""
    server = add_server(world, case)
    how = {"headers": case.headers}
    if case.headers == "udp checksum 0":
        how = {"udp_checksum": 0}
    ways = [
        {"tos": 0xB8},
        {"flags": "A"},
        {"flags": "A", "tos": 0xFF, "df": False, "ident": 0xABCD},
        {"flags": "PA", "ttl": 2, "payload": bytes(1000)},
        {"flags": "A", "ttl": 255, "payload": b""},
    ]
    for number, way in enumerate(ways):
        packet = request(case.protocol, case.family, **how, **way)
        content = frame(packet, VLANS[case.vlans])
        explained = world.send(content, program="explain") if number else None

        sent = world.send(content)

        assert sent.reasons == {"forwarded": 1}
        assert sent.verdict == (TX if case.interface == "front" else REDIRECT)
        assert sent.frame.hex() == like(case, server, packet, sent.frame, world).hex()
        assert explained is None or explained.frame == sent.frame

    entry = world.connection(case.family)
    assert (entry.source, entry.destination) == (packet.src, packet.dst)
    assert entry.server == server.id
    for name, index in (("server_counters", server.id), ("service_counters", 1)):
        counted = world.counters(name, index)
        assert (counted.connections, counted.packets_in) == (1, len(ways))
