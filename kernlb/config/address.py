"""Addresses that a service or a real server may have, and why the others may not."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Any

from kernlb.model import IPAddress

LOOPBACK = "is a loopback address"


def parse_address(text: str) -> IPAddress:
    """A unicast address, loopback too. Raises ValueError with what is wrong."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(_why_no_address(text)) from None
    if wrong := _wrong(address):
        raise ValueError(f"{text} {wrong}")
    return address


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


def _wrong(address: IPAddress) -> str:
    """Why packets cannot go to one host of that address; integers, as this is asked often."""
    value = int(address)
    if isinstance(address, IPv4Address):
        if value > 0 and value >> 28 < 0xE:
            return ""
        if value >> 28 == 0xE:
            return "is a multicast address"
        if value == 0xFFFFFFFF:
            return "is the broadcast address"
        return "" if value else "is the unspecified address"
    if address.scope_id is not None:
        return "has a zone: the kernel's balancer has none"
    return next((why for test, why in _WRONG_V6 if test(value)), "")


_WRONG_V6: list[tuple[Any, str]] = [
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
