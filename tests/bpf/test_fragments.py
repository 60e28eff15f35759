"""The first fragment is balanced and remembered; later ones follow it, or are dropped by name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from tests.bpf import oracle
from tests.bpf.frames import (
    BACK_MAC,
    CLIENT,
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
from tests.bpf.test_forwarding import METHODS, VLANS, Case, add_server
from tests.bpf.world import DROP, PASS, World

FAMILIES = pytest.mark.parametrize("family", (4, 6))
SIZE = 64  # of each fragment's payload


def fragments(packet: Packet, ident: int = 0x4321) -> list[Packet]:
    """Of a UDP packet: three, as the sender's stack would make them."""
    family = packet.version
    upper = bytes(packet.payload)
    pieces = [upper[at : at + SIZE] for at in range(0, len(upper), SIZE)]
    made = []
    for index, piece in enumerate(pieces):
        more = index < len(pieces) - 1
        if family == 4:
            header = packet.copy()
            header.remove_payload()
            header.id, header.frag, header.flags = ident, index * SIZE // 8, "MF" if more else 0
            header.proto = 17
            made.append(header / Raw(piece))
        else:
            header = packet.copy()
            header.remove_payload()
            header.nh = 44
            extension = IPv6ExtHdrFragment(nh=17, offset=index * SIZE // 8, m=more, id=ident)
            made.append(header / extension / Raw(piece))
    return made


def datagram(family: int, **how) -> Packet:
    return request("udp", family, payload=bytes(range(150)), df=False, **how)


def rebuilt(pieces: Sequence[Packet], changed: Packet) -> list[Packet]:
    """The same fragments of the datagram as it is after translation."""
    ident = pieces[0].id if IP in pieces[0] else pieces[0][IPv6ExtHdrFragment].id
    return fragments(changed, ident)


def expected(packet: Packet, server, **chosen) -> list[bytes]:
    pieces = fragments(packet)
    if server.forwarding in ("dsr", "tunnel"):
        return [oracle.to_server(piece, server, **chosen) for piece in pieces]
    how = {"dst": server.address, "dport": server.port}
    if server.forwarding == "fullnat":
        how |= {"src": server.ours, "sport": chosen["source_port"]}
    dst, src = server.macs
    changed = oracle.aged(oracle.translated(packet, **how))
    vlans = (server.vlan,) if server.vlan else ()
    return [frame(piece, vlans, src=src, dst=dst) for piece in rebuilt(pieces, changed)]


@pytest.mark.parametrize("vlans", VLANS)
@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_later_fragments_follow_the_first(
    world: World, family: int, method: str, vlans: str
) -> None:
    server = add_server(world, Case(method, family, "udp", egress=300))
    packet = datagram(family, tos=4)

    sent = [world.send(frame(piece, VLANS[vlans])) for piece in fragments(packet)]

    assert [each.reasons for each in sent] == [{"forwarded": 1}] * 3
    chosen = {}
    if method == "fullnat":
        chosen["source_port"] = world.connection(family).source_port
    if server.tunnel == "gue":
        ports = {oracle.gue_source_port(each.frame, server) for each in sent[1:]}
        assert len(ports) == 1  # later ones have no ports to be hashed, but all of them alike
        pieces = fragments(packet)
        for each, piece in zip(sent, pieces, strict=True):
            port = oracle.gue_source_port(each.frame, server)
            assert each.frame.hex() == oracle.to_server(piece, server, gue_sport=port).hex()
        return
    got = [each.frame.hex() for each in sent]
    assert got == [each.hex() for each in expected(packet, server, **chosen)]


@FAMILIES
def test_fragments_of_many_datagrams_go_their_own_ways(world: World, family: int) -> None:
    service = world.service("udp", family)
    first, second = (service.add(address) for address in _two(family))
    second.interface = "back"
    service.write(second)
    ways = {}
    for ident in (7, 8, 9, 10):
        pieces = fragments(datagram(family, sport=1000 + ident), ident)
        out = [world.send(frame(piece)).frame[:12] for piece in pieces]
        assert len(set(out)) == 1
        ways[ident] = out[0]
    assert len(set(ways.values())) == 2
    assert {first.id, second.id} == {each.server for each in world.connections(family)}


def _two(family: int) -> list[str]:
    from tests.bpf.frames import SERVERS

    return SERVERS[family][:2]


@FAMILIES
def test_a_later_fragment_before_the_first_is_dropped(world: World, family: int) -> None:
    add_server(world, Case("dsr", family, "udp"))
    pieces = fragments(datagram(family))
    for piece in pieces[1:]:
        sent = world.send(frame(piece))
        assert (sent.verdict, sent.reasons) == (DROP, {"fragment_unplaced": 1})
    assert world.send(frame(pieces[0])).reasons == {"forwarded": 1}
    assert world.send(frame(pieces[1])).reasons == {"forwarded": 1}


@pytest.mark.parametrize("what", ("identification", "client", "protocol"))
@FAMILIES
def test_a_later_fragment_of_another_datagram_is_dropped(
    world: World, family: int, what: str
) -> None:
    add_server(world, Case("dsr", family, "udp"))
    world.service("tcp", family)
    world.send(frame(fragments(datagram(family))[0]))
    other = {4: "198.51.100.9", 6: "2001:db8:c::9"}[family]
    stray = fragments(
        datagram(family, **({"src": other} if what == "client" else {})),
        0x4322 if what == "identification" else 0x4321,
    )[1]
    if what == "protocol":
        if family == 4:
            stray.proto = 6
        else:
            stray[IPv6ExtHdrFragment].nh = 6
    sent = world.send(frame(stray))
    assert (sent.verdict, sent.reasons) == (DROP, {"fragment_unplaced": 1})


@FAMILIES
def test_a_fragment_long_after_the_first_is_dropped(world: World, family: int) -> None:
    add_server(world, Case("dsr", family, "udp"))
    first, second, _ = fragments(datagram(family))
    world.send(frame(first))
    world.age_fragments(29)
    assert world.send(frame(second)).reasons == {"forwarded": 1}
    world.age_fragments(31)
    sent = world.send(frame(second))
    assert (sent.verdict, sent.reasons) == (DROP, {"fragment_unplaced": 1})


@pytest.mark.parametrize(
    ("cause", "reason"), (({"ttl": 1}, "ttl_expired"), ({"mtu": 60}, "too_big"))
)
@FAMILIES
def test_nobody_is_told_about_a_later_fragment(
    world: World, family: int, cause: dict, reason: str
) -> None:
    """RFC 1122, 3.2.2, and RFC 4443, 2.4: it has no ports that would tell whose it was."""
    server = add_server(world, Case("dsr", family, "udp"))
    first, second, _ = fragments(datagram(family))
    world.send(frame(first))
    if "mtu" in cause:
        server.mtu = cause["mtu"]
        world.services.made[0].write(server)
    elif family == 4:
        second.ttl = 1
    else:
        second.hlim = 1
    sent = world.send(frame(second))
    assert (sent.verdict, sent.reasons) == (DROP, {reason: 1})


@FAMILIES
def test_fragments_towards_a_removed_server_are_dropped(world: World, family: int) -> None:
    server = add_server(world, Case("dsr", family, "udp"))
    first, second, _ = fragments(datagram(family))
    world.send(frame(first))
    world.services.made[0].remove(server)
    sent = world.send(frame(second))
    assert (sent.verdict, sent.reasons) == (DROP, {"fragment_unplaced": 1})


@pytest.mark.parametrize("method", ("nat", "fullnat"))
@FAMILIES
def test_fragments_of_an_answer_reach_the_client(world: World, family: int, method: str) -> None:
    add_server(world, Case(method, family, "udp"))
    world.send(frame(request("udp", family)))
    dst, dport = CLIENT[family], SPORT
    if method == "fullnat":
        dst, dport = OURS[family], world.connection(family).source_port
    packet = answer("udp", family, dst, dport, SERVER_PORT, payload=bytes(range(150)), df=False)
    assert packet.src == SERVER[family]

    pieces = fragments(packet, 99)
    sent = [
        world.send(frame(piece, src=SERVER_MAC, dst=BACK_MAC), ingress="back") for piece in pieces
    ]

    assert [each.reasons for each in sent] == [{"reply": 1}] * 3
    changed = oracle.to_client(packet, VIP[family], PORT, CLIENT[family], SPORT)
    wanted = [oracle.towards_clients(piece).hex() for piece in rebuilt(pieces, changed)]
    assert [each.frame.hex() for each in sent] == wanted


@FAMILIES
def test_fragments_of_what_is_not_ours_pass(world: World, family: int) -> None:
    add_server(world, Case("nat", family, "udp"))
    for piece in fragments(datagram(family, dst={4: "192.0.2.9", 6: "2001:db8:f::9"}[family])):
        content = frame(piece)
        sent = world.send(content)
        assert (sent.verdict, sent.frame, sent.reasons) == (PASS, content, {"not_ours": 1})


@FAMILIES
def test_fragments_to_a_vips_other_ports_pass(world: World, family: int) -> None:
    """The stack's own service on that address needs them all."""
    add_server(world, Case("dsr", family, "tcp"))
    for piece in fragments(datagram(family)):
        content = frame(piece)
        sent = world.send(content)
        assert (sent.verdict, sent.frame) == (PASS, content)


def test_an_ipv6_atomic_fragment_is_a_whole_packet(world: World) -> None:
    """RFC 6946: a fragment header, but nothing is missing."""
    server = add_server(world, Case("dsr", 6, "udp"))
    whole = request("udp", 6)
    packet = IPv6(src=whole.src, dst=whole.dst, hlim=60) / IPv6ExtHdrFragment(nh=17, id=5)
    packet = packet / whole.payload
    sent = world.send(frame(packet))
    assert sent.frame.hex() == oracle.to_server(packet, server).hex()
    assert world.maps["fragments"].next_key() is None


def test_a_first_fragment_without_its_ports_is_malformed(world: World) -> None:
    add_server(world, Case("dsr", 4, "tcp"))
    packet = fragments(request("tcp", 4, df=False, payload=bytes(100)))[0]
    packet.proto = 6
    packet.payload = Raw(bytes(packet.payload)[:8])
    packet.len = None
    sent = world.send(frame(packet))
    assert (sent.verdict, sent.reasons) == (DROP, {"malformed": 1})
