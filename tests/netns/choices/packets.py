"""Packets of TCP and UDP as values, to bytes and back; whatever else is on the wire is no packet.

Written out here, not by scapy: importing that takes a guest under emulation longer than a test.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from kernlb.model import IPAddress, L4Protocol

_NUMBER = {L4Protocol.TCP: 6, L4Protocol.UDP: 17}
_ICMP = {4: 1, 6: 58}
_TYPE = {4: 0x0800, 6: 0x86DD}
_TTL, _PAYLOAD = 60, b"kernlb"
_FLAGS = "FSRPA"


@dataclass(frozen=True, slots=True)
class Packet:
    """``protocol`` None: an ICMP message, of which only the addresses are told."""

    protocol: L4Protocol | None
    source: IPAddress
    sport: int
    destination: IPAddress
    dport: int
    flags: str = ""  # of TCP, in the order FSRPA

    def saying(self, flags: str) -> Packet:
        return replace(self, flags=flags)


def frame(packet: Packet, source: str, destination: str) -> bytes:
    """On the wire, from one MAC address to another."""
    version = packet.source.version
    transport = _transport(packet)
    if version == 4:
        header = struct.pack(
            "!BBHHHBBH4s4s",
            *(0x45, 0, 20 + len(transport), 0x1234, 0x4000, _TTL, _number(packet), 0),
            *(packet.source.packed, packet.destination.packed),
        )
        header = header[:10] + _checksum(header) + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, len(transport), _number(packet), _TTL)
        header += packet.source.packed + packet.destination.packed
    ethernet = bytes.fromhex((destination + source).replace(":", ""))
    return ethernet + struct.pack("!H", _TYPE[version]) + header + transport


def parse(content: bytes) -> tuple[str, Packet] | None:
    """The MAC address that a frame is for, and the packet in it, if it is one."""
    mac = content[:6].hex(":")
    (kind,) = struct.unpack_from("!H", content, 12)
    if kind == _TYPE[4]:
        number, l4 = content[23], 14 + 4 * (content[14] & 15)
        ends: tuple[IPAddress, IPAddress] = (
            IPv4Address(content[26:30]),
            IPv4Address(content[30:34]),
        )
    elif kind == _TYPE[6]:
        number, l4 = content[20], 54
        ends = IPv6Address(content[22:38]), IPv6Address(content[38:54])
    else:
        return None
    if number == _ICMP[ends[0].version]:
        return mac, Packet(None, ends[0], 0, ends[1], 0)
    for protocol, each in _NUMBER.items():
        if each == number:
            sport, dport = struct.unpack_from("!HH", content, l4)
            flags = _letters(content[l4 + 13]) if protocol is L4Protocol.TCP else ""
            return mac, Packet(protocol, ends[0], sport, ends[1], dport, flags)
    return None


def client(version: int, number: int) -> IPAddress:
    """One of many, behind the gateway."""
    first = ip_address("198.51.100.0" if version == 4 else "2001:db8:c::")
    return first + number


def _number(packet: Packet) -> int:
    assert packet.protocol is not None
    return _NUMBER[packet.protocol]


def _transport(packet: Packet) -> bytes:
    ports = struct.pack("!HH", packet.sport, packet.dport)
    if packet.protocol is L4Protocol.UDP:
        content, at = ports + struct.pack("!HH", 8 + len(_PAYLOAD), 0) + _PAYLOAD, 6
    else:
        bits = sum(1 << _FLAGS.index(flag) for flag in packet.flags)
        content, at = ports + struct.pack("!IIBBHHH", 7000, 9000, 0x50, bits, 512, 0, 0), 16
    pseudo = packet.source.packed + packet.destination.packed
    pseudo += struct.pack("!IxxxB", len(content), _number(packet))
    return content[:at] + _checksum(pseudo + content) + content[at + 2 :]


def _letters(bits: int) -> str:
    return "".join(flag for place, flag in enumerate(_FLAGS) if bits >> place & 1 and flag != "P")


def _checksum(content: bytes) -> bytes:
    content += bytes(len(content) % 2)
    total = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
