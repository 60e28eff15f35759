"""Broken packets are dropped by name or left to the stack; never forwarded, whatever is cut off."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, PadN
from scapy.packet import Raw

from tests.bpf import oracle
from tests.bpf.frames import (
    HEADERS,
    ROUTER,
    SERVER,
    VIP,
    echo,
    frame,
    icmp_error,
    ip,
    request,
    transport,
)
from tests.bpf.test_forwarding import METHODS, VLANS, Case, add_server, protocols
from tests.bpf.world import DROP, PASS, World

HARMLESS = ({"malformed": 1}, {"not_ours": 1})


def expect_harmless(world: World, content: bytes) -> str:
    """Dropped as malformed, or passed as it is; returns which."""
    sent = world.send(content)
    assert sent.reasons in HARMLESS
    (reason,) = sent.reasons
    assert sent.verdict == (DROP if reason == "malformed" else PASS)
    assert sent.frame == content
    return reason


def shapes() -> Iterator[tuple]:
    for method in ("dsr", "nat", "fullnat", "ipip in ipv4", "gue in ipv6"):
        for family in (4, 6):
            for protocol in protocols(method):
                yield method, family, protocol, "plain", ""
    for headers, (families, _) in HEADERS.items():
        for family in families:
            for vlans in VLANS:
                yield "ipip in ipv4", family, "tcp", headers, vlans


@pytest.mark.parametrize(("method", "family", "protocol", "headers", "vlans"), list(shapes()))
def test_a_frame_cut_at_any_byte(
    world: World, method: str, family: int, protocol: str, headers: str, vlans: str
) -> None:
    add_server(world, Case(method, family, protocol))
    whole = frame(request(protocol, family, headers=headers), VLANS[vlans])
    for length in range(14, len(whole)):
        expect_harmless(world, whole[:length])
    assert world.connections(family) == []
    assert world.send(whole).reasons == {"forwarded": 1}


@pytest.mark.parametrize("headers", HEADERS)
@pytest.mark.parametrize("protocol", ("tcp", "udp", "sctp"))
@pytest.mark.parametrize("family", (4, 6))
def test_a_packet_that_ends_within_its_headers(
    world: World, family: int, protocol: str, headers: str
) -> None:
    """The lengths agree with each other, but the transport header is not whole."""
    headers = headers if family in HEADERS[headers][0] else "plain"
    add_server(world, Case("ipip in ipv4", family, protocol))
    packet = request(protocol, family, headers=headers)
    content = bytes(packet)
    least = {"tcp": 20, "udp": 8, "sctp": 12}[protocol]
    end = len(content) - len(oracle.transport_of(packet)) + least
    for length in range(20 if family == 4 else 40, end):
        cut = bytearray(content[:length])
        if family == 4:
            struct.pack_into("!H", cut, 2, length)
        else:
            struct.pack_into("!H", cut, 4, length - 40)
        expect_harmless(world, frame(Raw(bytes(cut)), type_of=family))
    assert world.connections(family) == []


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@pytest.mark.parametrize("family", (4, 6))
def test_an_error_cut_at_any_byte_reaches_nobody(world: World, family: int, protocol: str) -> None:
    add_server(world, Case("nat", family, protocol))
    world.send(frame(request(protocol, family)))
    quoted = request(
        protocol,
        family,
        80,
        40000,
        src=VIP[family],
        dst="198.51.100.7" if family == 4 else "2001:db8:c::7",
    )
    packet = icmp_error(family, "time exceeded", bytes(quoted), ROUTER[family], VIP[family])
    whole = frame(packet)
    for length in range(14, len(whole)):
        expect_harmless(world, whole[:length])
    assert world.send(whole).reasons == {"icmp_forwarded": 1}


@pytest.mark.parametrize("family", (4, 6))
def test_an_echo_cut_at_any_byte_is_not_answered(world: World, family: int) -> None:
    world.service("tcp", family)
    whole = frame(echo(family))
    for length in range(14, len(whole)):
        expect_harmless(world, whole[:length])


def changed(family: int, protocol: str, offset: int, value: bytes, **how) -> bytes:
    content = bytearray(frame(request(protocol, family, **how)))
    content[14 + offset : 14 + offset + len(value)] = value
    return bytes(content)


LIES = {
    "IPv4 total length 0": changed(4, "tcp", 2, b"\0\0"),
    "IPv4 total length less than the header": changed(4, "tcp", 2, b"\0\x13"),
    "IPv4 total length of the header alone": changed(4, "tcp", 2, b"\0\x14"),
    "IPv4 total length within TCP": changed(4, "tcp", 2, b"\0\x27"),
    "IPv4 total length within UDP": changed(4, "udp", 2, b"\0\x1b"),
    "IPv4 total length beyond the frame": changed(4, "tcp", 2, b"\x05\xdc"),
    "IPv4 total length 65535": changed(4, "udp", 2, b"\xff\xff"),
    "IPv4 header of 0 words": changed(4, "tcp", 0, b"\x40"),
    "IPv4 header of 4 words": changed(4, "tcp", 0, b"\x44"),
    "IPv4 header of 15 words, leaving no TCP": changed(4, "tcp", 0, b"\x4f", payload=b""),
    "version 6 in an IPv4 frame": changed(4, "tcp", 0, b"\x65"),
    "version 0 in an IPv4 frame": changed(4, "udp", 0, b"\x05"),
    "version 4 in an IPv6 frame": changed(6, "tcp", 0, b"\x45"),
    "TCP header of 0 words": changed(4, "tcp", 32, b"\x00"),
    "TCP header of 4 words": changed(4, "tcp", 32, b"\x40"),
    "TCP header beyond the packet": changed(4, "tcp", 32, b"\xf0", payload=b""),
    "TCP header of 4 words in IPv6": changed(6, "tcp", 52, b"\x40"),
    "TCP header beyond the packet in IPv6": changed(6, "tcp", 52, b"\xf0", payload=b""),
    "IPv6 payload length 0": changed(6, "tcp", 4, b"\0\0"),
    "IPv6 payload length within TCP": changed(6, "tcp", 4, b"\0\x13"),
    "IPv6 payload length within UDP": changed(6, "udp", 4, b"\0\x07"),
    "IPv6 payload length beyond the frame": changed(6, "udp", 4, b"\x10\x00"),
    "IPv6 extension beyond the frame": changed(6, "tcp", 41, b"\xff", headers="hop-by-hop"),
    "IPv6 extension ends within TCP": changed(
        6, "tcp", 41, b"\x07", headers="hop-by-hop", payload=b""
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_length_that_lies(world: World, name: str) -> None:
    for protocol in ("tcp", "udp"):
        for family in (4, 6):
            service = world.service(protocol, family)
            service.add(SERVER[family], forwarding="nat", port=8080)
    assert expect_harmless(world, LIES[name]) == "malformed"
    assert world.connections(4) + world.connections(6) == []


def test_more_extension_headers_than_anyone_sends(world: World) -> None:
    add_server(world, Case("dsr", 6, "tcp"))
    upper = transport("tcp")
    for _ in range(12):
        upper = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")]) / upper
    expect_harmless(world, frame(ip(6, upper)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", (4, 6))
def test_padding_behind_a_short_packet_is_no_part_of_it(
    world: World, family: int, method: str
) -> None:
    """Ethernet frames have 60 bytes at least."""
    server = add_server(world, Case(method, family, "udp"))
    packet = request("udp", family, payload=b"")
    content = frame(packet)
    padding = bytes(max(0, 60 - len(content)) + 6)
    sent = world.send(content + padding)
    assert sent.reasons == {"forwarded": 1}
    chosen = {}
    if method == "fullnat":
        chosen["source_port"] = world.connection(family).source_port
    if server.tunnel == "gue":
        chosen["gue_sport"] = oracle.gue_source_port(sent.frame, server)
    expected = oracle.to_server(packet, server, padding=padding, **chosen)
    assert sent.frame.hex() == expected.hex()


@pytest.mark.parametrize("family", (4, 6))
def test_padding_is_no_part_of_what_a_reset_acknowledges(world: World, family: int) -> None:
    world.service("tcp", family)
    packet = request("tcp", family, payload=b"")
    sent = world.send(frame(packet) + bytes(6))
    assert sent.reasons == {"refused": 1}
    assert sent.frame.hex() == oracle.answered(oracle.reset(packet)).hex()


NO_HOSTS = {
    4: ("0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255"),
    6: ("::", "::1", "ff02::1", "ff0e::1"),
}


@pytest.mark.parametrize("protocol", ("tcp", "udp", "sctp"))
@pytest.mark.parametrize(
    ("family", "src"), [(family, each) for family in NO_HOSTS for each in NO_HOSTS[family]]
)
def test_a_source_that_is_no_host_begins_nothing(
    world: World, family: int, src: str, protocol: str
) -> None:
    """RFC 1122, 3.2.1.3; the kernel's own routing drops such packets before IPVS sees them."""
    add_server(world, Case("dsr", family, protocol))
    world.service(protocol, family, port=81)
    for how in ({}, {"ttl": 1}, {"dport": 81}):
        assert expect_harmless(world, frame(request(protocol, family, src=src, **how)))
    assert world.connections(family) == []


@pytest.mark.parametrize(
    ("family", "src"), [(family, each) for family in NO_HOSTS for each in NO_HOSTS[family]]
)
def test_a_ping_from_a_source_that_is_no_host_is_not_answered(
    world: World, family: int, src: str
) -> None:
    world.service("tcp", family)
    expect_harmless(world, frame(echo(family, src=src)))
