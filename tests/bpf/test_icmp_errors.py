"""ICMP errors reach whoever sent what they quote: servers, or clients of nat and fullnat."""

from __future__ import annotations

import pytest

from tests.bpf import oracle
from tests.bpf.frames import (
    BACK_MAC,
    CLIENT,
    ERRORS,
    OURS,
    PORT,
    ROUTER,
    SERVER,
    SERVER_MAC,
    SERVER_PORT,
    SPORT,
    VIP,
    answer,
    frame,
    icmp_error,
    request,
)
from tests.bpf.services import Server
from tests.bpf.world import PASS, REDIRECT, TX, World

METHODS = ("dsr", "ipip in ipv4", "ipip in ipv6", "gue in ipv4", "gre in ipv6", "nat", "fullnat")
VLANS = {"no tag": (), "one tag": (100,), "two tags": (100, 200)}
KINDS = [(family, kind) for family in ERRORS for kind in ERRORS[family]]
NEAR_SERVER = {4: "10.1.0.254", 6: "fd00:1::254"}


def begin(world: World, method: str, family: int, protocol: str, scheduler: str = "rr") -> Server:
    service = world.service(protocol, family, scheduler=scheduler)
    kind, _, outer = method.partition(" in ipv")
    if outer:
        server = service.add(SERVER[int(outer)], forwarding="tunnel", tunnel=kind)
    else:
        port = {"port": SERVER_PORT} if kind != "dsr" and protocol != "sctp" else {}
        server = service.add(SERVER[family], forwarding=kind, **port)
    return server


def as_server_sees(world: World, server: Server, family: int) -> dict:
    """What stands in a packet of the server's to this client."""
    if server.forwarding == "nat":
        return {"src": server.address, "sport": server.port or PORT}
    if server.forwarding == "fullnat":
        port = world.connection(family).source_port
        return {"src": server.address, "sport": server.port, "dst": OURS[family], "dport": port}
    return {}


def quote(packet, length: int | None = None) -> bytes:
    return bytes(packet)[:length]


def expect_at_server(world: World, server: Server, family: int, kind: str, quoted, sent, length):
    """The error as it reaches the server: quoting what the server itself sent."""
    inner = oracle.translated(quoted, **as_server_sees(world, server, family))
    if server.forwarding in ("nat", "fullnat"):
        body = quote_translated(quoted, inner, length)
        packet = icmp_error(family, kind, body, ROUTER[family], server.address, ttl=59)
        dst, src = server.macs
        return frame(packet, src=src, dst=dst)
    packet = icmp_error(family, kind, quote(quoted, length), ROUTER[family], VIP[family])
    gue = oracle.gue_source_port(sent.frame, server) if server.tunnel == "gue" else 0
    return oracle.to_server(packet, server, gue_sport=gue)


def quote_translated(before, after, length: int | None) -> bytes:
    """A quotation with other addresses and ports. The checksum of the transport in it stays: it
    may not be there whole, and nobody verifies it (IPVS: ip_vs_nat_icmp())."""
    changed = after.copy()
    was = oracle.transport_of(before.__class__(bytes(before)))
    oracle.transport_of(changed).chksum = was.chksum
    return bytes(changed)[:length]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_an_error_sent_to_the_vip_reaches_the_server(
    world: World, method: str, family: int, kind: str
) -> None:
    server = begin(world, method, family, "tcp")
    world.send(frame(request("tcp", family)))
    quoted = request("tcp", family, PORT, SPORT, src=VIP[family], dst=CLIENT[family], flags="A")
    packet = icmp_error(family, kind, quote(quoted, 68), ROUTER[family], VIP[family])

    sent = world.send(frame(packet))

    assert sent.reasons == {"icmp_forwarded": 1}
    assert sent.verdict == TX
    expected = expect_at_server(world, server, family, kind, quoted, sent, 68)
    assert sent.frame.hex() == expected.hex()


@pytest.mark.parametrize("protocol", ("tcp", "udp", "sctp"))
@pytest.mark.parametrize("vlans", VLANS)
@pytest.mark.parametrize("method", ("dsr", "ipip in ipv4", "nat", "fullnat"))
@pytest.mark.parametrize("family", (4, 6))
def test_errors_of_every_protocol_and_with_vlan_tags(
    world: World, method: str, family: int, protocol: str, vlans: str
) -> None:
    if (method, protocol) == ("fullnat", "sctp"):
        method = "nat"  # fullnat has no SCTP; this repeats nat's
    server = begin(world, method, family, protocol)
    world.send(frame(request(protocol, family)))
    quoted = request(protocol, family, PORT, SPORT, src=VIP[family], dst=CLIENT[family], flags="A")
    length = 28 if family == 4 else 48  # the least: 8 bytes of the transport
    packet = icmp_error(family, "time exceeded", quote(quoted, length), ROUTER[family], VIP[family])

    sent = world.send(frame(packet, VLANS[vlans]))

    assert sent.reasons == {"icmp_forwarded": 1}
    expected = expect_at_server(world, server, family, "time exceeded", quoted, sent, length)
    assert sent.frame.hex() == expected.hex()


@pytest.mark.parametrize("vlans", VLANS)
@pytest.mark.parametrize("source", ("the server", "a router before it"))
@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@pytest.mark.parametrize("method", ("nat", "fullnat"))
@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_an_error_about_a_translated_packet_reaches_the_client(
    world: World, method: str, family: int, kind: str, protocol: str, source: str, vlans: str
) -> None:
    server = begin(world, method, family, protocol)
    original = request(protocol, family)
    world.send(frame(original))
    seen = {"dst": server.address, "dport": server.port}
    if method == "fullnat":
        seen |= {"src": OURS[family], "sport": world.connection(family).source_port}
    quoted = oracle.translated(original, **seen)
    src = server.address if source == "the server" else NEAR_SERVER[family]
    dst = OURS[family] if method == "fullnat" else CLIENT[family]
    packet = icmp_error(family, kind, quote(quoted, 60), src, dst)

    content = frame(packet, VLANS[vlans], src=SERVER_MAC, dst=BACK_MAC)
    sent = world.send(content, ingress="back")

    assert sent.reasons == {"icmp_forwarded": 1}
    assert sent.verdict == REDIRECT
    body = quote_translated(quoted, original, 60)
    expected = icmp_error(family, kind, body, VIP[family], CLIENT[family], ttl=59)
    assert sent.frame.hex() == oracle.towards_clients(expected).hex()


@pytest.mark.parametrize("scheduler", ("sh", "mh"))
@pytest.mark.parametrize("family", (4, 6))
def test_hashing_finds_the_server_of_an_error_without_connection(
    world: World, family: int, scheduler: str
) -> None:
    server = begin(world, "dsr", family, "udp", scheduler)
    quoted = request("udp", family, PORT, SPORT, src=VIP[family], dst=CLIENT[family])
    kind = "frag needed" if family == 4 else "packet too big"
    packet = icmp_error(family, kind, quote(quoted), ROUTER[family], VIP[family])

    sent = world.send(frame(packet))

    assert sent.reasons == {"icmp_forwarded": 1}
    assert sent.frame.hex() == oracle.to_server(packet, server).hex()
    assert world.connections(family) == []


STRANGE = {
    "a flow that is not known": {"dport": 1},
    "another address of ours": {"src": {4: "192.0.2.77", 6: "2001:db8:f::77"}},
    "a port without service": {"sport": 81},
    "another protocol": {"protocol": "udp"},
}


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("what", STRANGE)
def test_an_error_about_what_is_not_balanced_is_passed(
    world: World, family: int, what: str
) -> None:
    begin(world, "nat", family, "tcp")
    world.send(frame(request("tcp", family)))
    how = {"sport": PORT, "dport": SPORT, "src": VIP[family], "dst": CLIENT[family]}
    how |= {k: v[family] if isinstance(v, dict) else v for k, v in STRANGE[what].items()}
    quoted = request(how.pop("protocol", "tcp"), family, **how)
    packet = frame(icmp_error(family, "time exceeded", bytes(quoted), ROUTER[family], VIP[family]))

    sent = world.send(packet)

    assert (sent.verdict, sent.frame) == (PASS, packet)
    assert set(sent.reasons) <= {"icmp_unmatched", "not_ours"}


@pytest.mark.parametrize("dst", ({4: "192.0.2.77", 6: "2001:db8:f::77"}, CLIENT, SERVER))
@pytest.mark.parametrize("method", ("dsr", "nat"))
@pytest.mark.parametrize("family", (4, 6))
def test_an_error_to_another_than_who_sent_what_it_quotes_is_passed(
    world: World, family: int, method: str, dst: dict[int, str]
) -> None:
    """RFC 1122, 3.2.2: an error goes to the source of the packet that it is about."""
    begin(world, method, family, "tcp")
    world.send(frame(request("tcp", family)))
    quoted = request("tcp", family, PORT, SPORT, src=VIP[family], dst=CLIENT[family])
    packet = frame(icmp_error(family, "time exceeded", bytes(quoted), ROUTER[family], dst[family]))

    sent = world.send(packet)

    assert (sent.verdict, sent.frame) == (PASS, packet)


@pytest.mark.parametrize("family", (4, 6))
def test_a_server_in_nat_may_err_about_its_own_traffic(world: World, family: int) -> None:
    begin(world, "nat", family, "tcp")
    quoted = answer("tcp", family, SERVER[family], 5432, 55555, src=CLIENT[family])
    packet = frame(
        icmp_error(family, "port unreachable", bytes(quoted), SERVER[family], CLIENT[family])
    )

    sent = world.send(packet, ingress="back")

    assert (sent.verdict, sent.frame) == (PASS, packet)
