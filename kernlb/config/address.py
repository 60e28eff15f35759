"""Addresses that a service or a real server may have, and why the others may not."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, inet_pton

from kernlb.model import IPAddress


def parse_address(text: str) -> IPAddress:
    """A unicast address, loopback too. Raises ValueError with what is wrong."""
    try:  # a hundred thousand of these at a start: ipaddress parses text four times slower
        value = int.from_bytes(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        return _parse_other(text)
    if (value <= 0 or value >= _MULTICAST) and (why := _why_not_v4(value)):
        raise ValueError(f"{text} {why}")
    return IPv4Address(value)


def is_loopback(address: IPAddress) -> bool:
    value = int(address)
    return value >> 24 == 127 if isinstance(address, IPv4Address) else value == 1


def prefix_of(netmask: str) -> int:
    """Prefix length of an IPv4 netmask. Raises ValueError with what is wrong."""
    try:
        value = int(IPv4Address(netmask))
    except ValueError:
        raise ValueError(f'"{netmask}" is not an IPv4 netmask (for IPv6 use prefix)') from None
    prefix = value.bit_count()
    if value != (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF:
        raise ValueError(f"{netmask} is not a netmask: its one bits are not all in front")
    if prefix == 0:
        raise ValueError("0.0.0.0 would put all clients on one server: the shortest prefix is 1")
    return prefix


def _parse_other(text: str) -> IPAddress:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(_why_no_address(text)) from None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{text} has a zone: IPVS and XDP know none")
        for test, why in _WRONG_V6:
            if test(int(address)):
                raise ValueError(f"{text} {why}")
    return address


_MULTICAST = 0xE0000000


def _why_not_v4(value: int) -> str:
    if value == 0:
        return "is the unspecified address"
    if value == 0xFFFFFFFF:
        return "is the broadcast address"
    return "is a multicast address" if value >> 28 == 0xE else ""


_WRONG_V6: list[tuple[Callable[[int], bool], str]] = [
    (lambda value: value >> 120 == 0xFF, "is a multicast address"),
    (lambda value: value == 0, "is the unspecified address"),
    (lambda value: value >> 118 == 0xFE80 >> 6, "is a link-local address: which link is unknown"),
    (lambda value: value >> 32 == 0xFFFF, "is an IPv4-mapped address: write the IPv4 address"),
]


def _why_no_address(text: str) -> str:
    shown = text.encode("unicode_escape").decode()
    if "/" in text:
        return f'"{shown}" is not an address: leave the prefix length out'
    if text.count(":") == 1 or text.startswith("["):
        return f'"{shown}" is not an address: the port has a key of its own'
    return f'"{shown}" is not an IP address (names are not resolved)'
