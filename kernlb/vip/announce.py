"""Frames that tell a link who has an address now. Pure.

IPv4: a gratuitous ARP request, sender and target both the VIP (RFC 5227 section 3, RFC 5944
section 4.6). IPv6: an unsolicited neighbour advertisement with the override flag to all nodes
(RFC 4861 section 7.2.6).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from kernlb.model import IPAddress

ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD
REPEATS = 3  # frames are lost, and switches learn late: RFC 4861 MAX_NEIGHBOR_ADVERTISEMENT
INTERVAL = 1.0  # seconds between repeats (RFC 4861 RetransTimer)
_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_OVERRIDE = 0x20000000


def frame(address: IPAddress, mac: bytes) -> bytes:
    """The Ethernet frame that announces ``address`` at ``mac`` (6 bytes)."""
    if isinstance(address, IPv4Address):
        return _gratuitous_arp(address, mac)
    return _neighbour_advertisement(address, mac)


def question(address: IPv4Address, source: IPv4Address, mac: bytes) -> bytes:
    """The frame that asks who has ``address``, from ``source`` at ``mac``."""
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body += mac + source.packed + bytes(6) + address.packed
    return _BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + body


def answer(frame: bytes) -> tuple[IPv4Address, bytes] | None:
    """The address that a frame says somebody has, and at which MAC; None: it is no ARP reply."""
    if len(frame) < 42 or frame[12:14] != struct.pack("!H", ETH_P_ARP):
        return None
    if frame[14:22] != struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2):
        return None
    return IPv4Address(frame[28:32]), frame[22:28]


def _gratuitous_arp(address: IPv4Address, mac: bytes) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body += mac + address.packed + bytes(6) + address.packed
    return _BROADCAST + mac + struct.pack("!H", ETH_P_ARP) + body


def _neighbour_advertisement(address: IPv6Address, mac: bytes) -> bytes:
    option = struct.pack("!BB6s", 2, 1, mac)  # target link-layer address
    message = struct.pack("!BBHI16s", 136, 0, 0, _OVERRIDE, address.packed) + option
    pseudo = address.packed + _ALL_NODES.packed + struct.pack("!I3xB", len(message), 58)
    checksum = _checksum(pseudo + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, 255)
    header += address.packed + _ALL_NODES.packed
    return _ALL_NODES_MAC + mac + struct.pack("!H", ETH_P_IPV6) + header + message


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
