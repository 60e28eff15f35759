"""Packets that the tests send, built by scapy: who talks to whom, and every shape of header.

A packet is an IP packet of scapy's with nothing computed yet, so that changing a field and
building it again gives the lengths and checksums of the changed one. `frame` puts it on the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    in6_chksum,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData, SCTPChunkInit
from scapy.packet import Packet, Raw
from scapy.utils import checksum

CLIENT = {4: "198.51.100.7", 6: "2001:db8:c::7"}
ROUTER = {4: "198.51.100.254", 6: "2001:db8:c::254"}  # between the client and us
VIP = {4: "192.0.2.1", 6: "2001:db8:f::1"}
OURS = {4: "10.1.0.1", 6: "fd00:1::1"}  # of outer headers and fullnat
SERVERS = {
    4: [f"10.1.0.{n}" for n in range(10, 30)],
    6: [f"fd00:1::{n:x}" for n in range(16, 36)],
}
SERVER = {family: addresses[0] for family, addresses in SERVERS.items()}

CLIENT_MAC = "02:00:00:00:01:01"  # whoever hands us what clients send
OUR_MAC = "02:00:00:00:01:02"
BACK_MAC = "02:00:00:00:02:02"  # ours, towards the servers
SERVER_MAC = "02:00:00:00:02:01"

SPORT, PORT, SERVER_PORT = 40000, 80, 8080
NUMBER = {"tcp": 6, "udp": 17, "sctp": 132}
PAYLOAD = bytes(range(40, 77))


def transport(
    protocol: str,
    sport: int = SPORT,
    dport: int = PORT,
    *,
    flags: str = "S",
    payload: bytes = PAYLOAD,
    udp_checksum: int | None = None,
) -> Packet:
    if protocol == "tcp":
        return TCP(sport=sport, dport=dport, flags=flags, seq=7000, ack=9000) / Raw(payload)
    if protocol == "udp":
        return UDP(sport=sport, dport=dport, chksum=udp_checksum) / Raw(payload)
    chunk = SCTPChunkInit(init_tag=5) if flags == "S" else SCTPChunkData(data=payload)
    return SCTP(sport=sport, dport=dport) / chunk


OPTIONS = [IPOption(b"\x94\x04\x00\x00"), *[IPOption(b"\x01")] * 4]  # router alert, NOPs

# What may stand between the fixed IP header and the transport: name -> (families, builder)
HEADERS: dict[str, tuple[tuple[int, ...], Callable[[], list[Packet]]]] = {
    "plain": ((4, 6), list),
    "ipv4 options": ((4,), list),
    "hop-by-hop": ((6,), lambda: [IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")])]),
    "destination options": ((6,), lambda: [IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))])]),
    "routing": ((6,), lambda: [IPv6ExtHdrRouting(type=253, segleft=0, addresses=[])]),
    "three extensions": (
        (6,),
        lambda: [
            IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")]),
            IPv6ExtHdrRouting(type=253, segleft=0, addresses=[]),
            IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")]),
        ],
    ),
}


def ip(
    family: int,
    upper: Packet,
    src: str | None = None,
    dst: str | None = None,
    *,
    headers: str = "plain",
    ttl: int = 60,
    tos: int = 0,
    df: bool = True,
    ident: int = 0x1234,
) -> Packet:
    """From the client to the VIP unless said otherwise."""
    src, dst = src or CLIENT[family], dst or VIP[family]
    if family == 4:
        packet = IP(src=src, dst=dst, ttl=ttl, tos=tos, id=ident, flags="DF" if df else 0)
        if headers == "ipv4 options":
            packet.options = OPTIONS
    else:
        packet = IPv6(src=src, dst=dst, hlim=ttl, tc=tos, fl=0xABCDE)
        for extension in HEADERS[headers][1]():
            packet = packet / extension
    return packet / upper


def request(protocol: str, family: int, sport: int = SPORT, dport: int = PORT, **how) -> Packet:
    """A client's packet to the VIP; `how` is divided among `transport` and `ip`."""
    upper = {k: how.pop(k) for k in ("flags", "payload", "udp_checksum") if k in how}
    return ip(family, transport(protocol, sport, dport, **upper), **how)


def answer(
    protocol: str, family: int, dst: str, dport: int, sport: int = SERVER_PORT, **how
) -> Packet:
    """A server's packet to `dst`."""
    how.setdefault("src", SERVER[family])
    how.setdefault("flags", "SA")
    return request(protocol, family, sport, dport, dst=dst, **how)


def ethernet(
    vlans: Sequence[int] = (), src: str = CLIENT_MAC, dst: str = OUR_MAC, outer_tag: int = 0x8100
) -> Packet:
    """With its VLAN tags; `outer_tag` is the type of the first of two."""
    header = Ether(src=src, dst=dst)
    for index, vlan in enumerate(vlans):
        tag = Dot1AD if outer_tag == 0x88A8 and index == 0 and len(vlans) > 1 else Dot1Q
        header = header / tag(vlan=vlan)
    return header


def frame(packet: Packet, vlans: Sequence[int] = (), type_of: int = 0, **how) -> bytes:
    """The bytes on the wire. ``type_of`` is the family of a packet that is bytes already."""
    header = ethernet(vlans, **how)
    if type_of:
        header.lastlayer().type = 0x0800 if type_of == 4 else 0x86DD
    return bytes(header / packet)


# Errors: family -> kind -> type, code, second word of the header
ERRORS = {
    4: {
        "port unreachable": (3, 3, 0),
        "frag needed": (3, 4, 1400),
        "time exceeded": (11, 0, 0),
        "parameter problem": (12, 0, 0),
    },
    6: {
        "port unreachable": (1, 4, 0),
        "packet too big": (2, 0, 1400),
        "time exceeded": (3, 0, 0),
        "parameter problem": (4, 0, 0),
    },
}


def icmp(family: int, kind: tuple[int, int, int], body: bytes, src: str, dst: str, **how) -> Packet:
    """An ICMP message of `kind` (type, code, second word) as an IP packet."""
    message = struct.pack("!BBHI", kind[0], kind[1], 0, kind[2]) + body
    if family == 4:
        packet, total = ip(4, Raw(b""), src, dst, **how), checksum(message)
        packet.proto = 1
    else:
        packet = ip(6, Raw(b""), src, dst, **how)
        packet.lastlayer().underlayer.nh = 58
        total = in6_chksum(58, IPv6(src=src, dst=dst), message)
    packet.lastlayer().load = message[:2] + total.to_bytes(2, "big") + message[4:]
    return packet


def icmp_error(family: int, kind: str, quoted: bytes, src: str, dst: str, **how) -> Packet:
    """An error of ERRORS about the packet that began with `quoted`."""
    return icmp(family, ERRORS[family][kind], quoted, src, dst, **how)


def echo(family: int, request: bool = True, src: str = "", dst: str = "", **how) -> Packet:
    kind = {4: (0, 8), 6: (129, 128)}[family][request]
    src, dst = src or CLIENT[family], dst or VIP[family]
    return icmp(family, (kind, 0, 0x00070001), PAYLOAD, src, dst, **how)
