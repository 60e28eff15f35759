"""Checksums at their edges: those that come out as zero, or were it before."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet, Raw

from tests.bpf import oracle
from tests.bpf.frames import (
    BACK_MAC,
    CLIENT,
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
from tests.bpf.world import World

FAMILIES = pytest.mark.parametrize("family", (4, 6))
PROTOCOLS = pytest.mark.parametrize("protocol", ("tcp", "udp"))


def checksum_of(packet: Packet) -> int:
    built = packet.__class__(bytes(packet))
    return oracle.transport_of(built).chksum


def balanced(packet: Packet, changed: Packet) -> None:
    """Choose the last two bytes of the payload so that the changed packet's sum is zero."""
    for each in (packet, changed):
        each.lastlayer().load = bytes(10)
    last = checksum_of(changed)
    for each in (packet, changed):
        each.lastlayer().load = bytes(8) + last.to_bytes(2, "big")


@PROTOCOLS
@FAMILIES
def test_a_sum_that_becomes_zero_on_the_way_to_the_server(
    world: World, family: int, protocol: str
) -> None:
    server = world.service(protocol, family).add(SERVER[family], forwarding="nat", port=SERVER_PORT)
    packet = request(protocol, family)
    changed = oracle.translated(packet, dst=server.address, dport=server.port)
    balanced(packet, changed)
    assert checksum_of(changed) == (0xFFFF if protocol == "udp" else 0)
    sent = world.send(frame(packet))
    assert sent.frame.hex() == oracle.to_server(packet, server).hex()


@PROTOCOLS
@FAMILIES
def test_a_sum_that_was_zero_on_the_way_to_the_server(
    world: World, family: int, protocol: str
) -> None:
    server = world.service(protocol, family).add(SERVER[family], forwarding="nat", port=SERVER_PORT)
    packet = request(protocol, family)
    balanced(packet, packet.copy())
    assert checksum_of(packet) == (0xFFFF if protocol == "udp" else 0)
    sent = world.send(frame(packet))
    assert sent.frame.hex() == oracle.to_server(packet, server).hex()


@pytest.mark.parametrize("when", ("before", "after"))
@PROTOCOLS
@FAMILIES
def test_a_sum_of_zero_on_the_way_back(world: World, family: int, protocol: str, when: str) -> None:
    world.service(protocol, family).add(SERVER[family], forwarding="nat", port=SERVER_PORT)
    world.send(frame(request(protocol, family)))
    packet = answer(protocol, family, CLIENT[family], SPORT)
    changed = oracle.to_client(packet, VIP[family], PORT, CLIENT[family], SPORT)
    balanced(packet, packet.copy() if when == "before" else changed)
    changed = oracle.to_client(packet, VIP[family], PORT, CLIENT[family], SPORT)
    sent = world.send(frame(packet, src=SERVER_MAC, dst=BACK_MAC), ingress="back")
    assert sent.frame.hex() == oracle.towards_clients(changed).hex()


@pytest.mark.parametrize("packets", (1, 3))
@pytest.mark.parametrize("when", ("before", "after"))
@pytest.mark.parametrize("method", ("dsr", "tunnel", "nat"))
def test_an_ip_header_whose_sum_is_zero(world: World, method: str, when: str, packets: int) -> None:
    """Its identification makes it so. A flow's first packet, or a later one."""
    server = world.service("tcp", 4).add(SERVER[4], forwarding=method)
    for number in range(packets):
        packet = request("tcp", 4, flags="A" if number else "S", ident=0)
        probe = packet if when == "before" else oracle.aged(packet)
        if method == "nat" and when == "after":
            probe = oracle.translated(probe, dst=server.address)
        packet.id = IP(bytes(probe)).chksum
        sent = world.send(frame(packet))
        assert sent.frame.hex() == oracle.to_server(packet, server).hex()


@pytest.mark.parametrize("tos", (0, 0x55))
def test_an_outer_header_whose_sum_is_zero(world: World, tos: int) -> None:
    server = world.service("udp", 4).add(SERVER[4], forwarding="tunnel")
    for number in range(3):
        packet = request("udp", 4, df=False, ident=0, tos=tos)
        packet.id = IP(bytes(oracle.encapsulated(oracle.aged(packet), server))).chksum
        assert IP(bytes(oracle.encapsulated(oracle.aged(packet), server))).chksum == 0
        sent = world.send(frame(packet))
        assert (number, sent.frame.hex()) == (number, oracle.to_server(packet, server).hex())


@FAMILIES
def test_an_icmp_errors_sum_that_becomes_zero(world: World, family: int) -> None:
    server = world.service("tcp", family).add(SERVER[family], forwarding="nat", port=SERVER_PORT)
    world.send(frame(request("tcp", family)))
    quoted = request("tcp", family, PORT, SPORT, src=VIP[family], dst=CLIENT[family], payload=b"")
    at_server = oracle.translated(quoted, src=server.address, sport=server.port)
    for each in (quoted, at_server):
        oracle.transport_of(each).chksum = 0x1234

    def error(about: Packet, tail: bytes, dst: str, **how) -> Packet:
        body = bytes(about) + tail
        return icmp_error(family, "time exceeded", body, ROUTER[family], dst, **how)

    probe = error(at_server, bytes(2), server.address)
    tail = probe.lastlayer().load[2:4]
    packet = error(quoted, tail, VIP[family])
    expected = error(at_server, tail, server.address, ttl=59)
    assert expected.lastlayer().load[2:4] == b"\0\0"
    sent = world.send(frame(packet))
    dst, src = server.macs
    assert sent.frame.hex() == frame(expected, src=src, dst=dst).hex()


@PROTOCOLS
@FAMILIES
def test_a_wrong_sum_stays_wrong(world: World, family: int, protocol: str) -> None:
    """So that it is found out where it can be: at the server."""
    server = world.service(protocol, family).add(SERVER[family], forwarding="nat", port=SERVER_PORT)
    packet = request(protocol, family)
    content = bytearray(frame(packet))
    content[-1] ^= 0x10
    sent = world.send(bytes(content))
    header = sent.frame[14:34] if family == 4 else b""
    out = sent.frame[34 if family == 4 else 54 :]
    built = (TCP if protocol == "tcp" else UDP)(out)
    again = oracle.translated(packet, dst=server.address, dport=server.port)
    again.lastlayer().load = bytes(Raw(bytes(built.payload)))
    assert checksum_of(again) != built.chksum
    assert not header or IP(header).chksum
