"""ICMP and ICMPv6 echo, as bytes and back, and what errors of either say. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

from kernlb.health.outcome import Outcome

COOKIE = 8  # bytes at the start of the payload
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_FILL = bytes(range(0x30, 0x5B))

_UNREACHABLE = Outcome.UNREACHABLE
_PROHIBITED = Outcome.PROHIBITED
_NO_PROTOCOL = Outcome.PROTOCOL_UNREACHABLE

# (type, code) -> outcome, words. Errors that are not here say nothing of the far end.
ERRORS_4: dict[tuple[int, int], tuple[Outcome, str]] = {  # RFC 792, RFC 1122, RFC 1812
    (3, 0): (_UNREACHABLE, "network unreachable"),
    (3, 1): (_UNREACHABLE, "host unreachable"),
    (3, 2): (_NO_PROTOCOL, ""),
    (3, 3): (_UNREACHABLE, "port unreachable"),  # what netfilter's REJECT says by default
    (3, 5): (_UNREACHABLE, "source route failed"),
    (3, 6): (_UNREACHABLE, "network unknown"),
    (3, 7): (_UNREACHABLE, "host unknown"),
    (3, 8): (_UNREACHABLE, "source host isolated"),
    (3, 9): (_PROHIBITED, "network"),
    (3, 10): (_PROHIBITED, "host"),
    (3, 11): (_UNREACHABLE, "network unreachable for this type of service"),
    (3, 12): (_UNREACHABLE, "host unreachable for this type of service"),
    (3, 13): (_PROHIBITED, "by a filter"),
    (3, 14): (_PROHIBITED, "host precedence violation"),
    (3, 15): (_PROHIBITED, "precedence cutoff"),
    (11, 0): (_UNREACHABLE, "time to live exceeded"),
    (11, 1): (_UNREACHABLE, "fragment reassembly time exceeded"),
}
ERRORS_6: dict[tuple[int, int], tuple[Outcome, str]] = {  # RFC 4443
    (1, 0): (_UNREACHABLE, "no route"),
    (1, 1): (_PROHIBITED, "by a filter"),
    (1, 2): (_UNREACHABLE, "beyond the scope of our address"),
    (1, 3): (_UNREACHABLE, "address unreachable"),
    (1, 4): (_UNREACHABLE, "port unreachable"),
    (1, 5): (_PROHIBITED, "our address failed a policy"),
    (1, 6): (_PROHIBITED, "the route rejects"),
    (3, 0): (_UNREACHABLE, "hop limit exceeded"),
    (3, 1): (_UNREACHABLE, "fragment reassembly time exceeded"),
    (4, 1): (_NO_PROTOCOL, ""),
}
REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}


class Echo(NamedTuple):
    """``payload`` may be cut short where an error quotes it."""

    kind: int
    identifier: int
    sequence: int
    payload: bytes


def fill(size: int) -> bytes:
    """What follows the cookie in a payload of ``size`` bytes."""
    rest = max(0, size - COOKIE)
    return (_FILL * (rest // len(_FILL) + 1))[:rest]


def request(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo request. The kernel fills in the checksum of ICMPv6 (raw(7), ipv6(7))."""
    packet = _HEADER.pack(REQUEST[version], 0, 0, identifier, sequence) + payload
    if version == 6:
        return packet
    return packet[:2] + checksum(packet).to_bytes(2, "big") + packet[4:]


def checksum(data: bytes) -> int:
    """RFC 1071, by the remainder: 2**16 is 1 modulo 2**16 - 1."""
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    folded = number % 0xFFFF or (0xFFFF if number else 0)
    return ~folded & 0xFFFF


def parse(data: bytes) -> Echo | None:
    """A request or a reply, without what is before its ICMP header; None if it is too short."""
    if len(data) < _HEADER.size:
        return None
    kind, _, _, identifier, sequence = _HEADER.unpack_from(data)
    return Echo(kind, identifier, sequence, data[_HEADER.size :])


def without_ip(packet: bytes) -> bytes:
    """What an IPv4 packet carries."""
    return packet[(packet[0] & 0xF) * 4 :] if packet else b""
