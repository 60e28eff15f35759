"""Values of directives: numbers, timers, switches, addresses and ranges of them. Pure.

ValueError says what is wrong; keepalived takes no notice of a directive with such a value.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from kernlb.migrate.keepalived.tree import Directive
from kernlb.model import IPAddress

MAX_RANGE = 65_536  # addresses of one range

_BOOL = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
_TIMER = re.compile(r"[0-9]{1,9}(\.[0-9]{0,6})?|\.[0-9]{1,6}", re.ASCII)


def word(directive: Directive, index: int = 0) -> str:
    if len(directive.args) <= index:
        raise ValueError("has no value")
    return directive.args[index]


def number(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or not least <= int(text) <= most:
        raise ValueError(f"must be a number within {least}..{most}")
    return int(text)


def timer(text: str, least: float = 0) -> float:
    """Seconds."""
    if not _TIMER.fullmatch(text) or float(text) < least:
        raise ValueError("must be a time in seconds" + (f", {least:g} at least" if least else ""))
    return round(float(text), 6)


def switch(directive: Directive) -> bool:
    """Alone it means on."""
    if not directive.args:
        return True
    if directive.args[0] not in _BOOL:
        raise ValueError("must be on or off, true or false, yes or no")
    return _BOOL[directive.args[0]]


def port(args: tuple[str, ...], index: int = 1) -> int:
    """0: none is said."""
    if len(args) <= index or not args[index].strip("0"):
        return 0
    return number(args[index], 1, 65_535)


def address(text: str) -> IPAddress:
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{text} is not an IP address") from None
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        raise ValueError(f"{text} has a zone")
    return found


def addresses(text: str) -> list[IPAddress]:
    """``a``, ``a-9``, ``a-b`` or ``a/29``: every address, the ends included."""
    if "/" in text:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise ValueError(f"{error}".lower()) from None
        first, last = network.network_address, network.broadcast_address
    else:
        start, dash, end = text.partition("-")
        first = address(start)
        last = _end(first, end) if dash else first
    if type(first) is not type(last) or int(last) < int(first):
        raise ValueError(f"{text} ends before it begins")
    if int(last) - int(first) >= MAX_RANGE:
        raise ValueError(f"{text} has more than {MAX_RANGE} addresses")
    return [type(first)(value) for value in range(int(first), int(last) + 1)]


def _end(first: IPAddress, end: str) -> IPAddress:
    """The end of a range: an address, or what takes the place of the last octet or group."""
    if "." in end or ":" in end:
        return address(end)
    if isinstance(first, IPv4Address):
        return IPv4Address(int(first) & ~0xFF | number(end, 0, 255))
    if not re.fullmatch(r"[0-9a-fA-F]{1,4}", end):
        raise ValueError(f"{end} is not the end of a range")
    return IPv6Address(int(first) & ~0xFFFF | int(end, 16))


def netmask_prefix(text: str) -> int:
    """Prefix length of an IPv4 netmask with all its one bits in front, one at least."""
    try:
        value = int(IPv4Address(text))
    except ValueError:
        raise ValueError(f"{text} is not an IPv4 netmask") from None
    prefix = value.bit_count()
    if prefix == 0 or value != (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF:
        raise ValueError(f"{text} is not a netmask of which all one bits are in front")
    return prefix
