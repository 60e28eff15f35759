"""Addresses, ranges of them and ports as ldirectord writes them. Pure; ValueError says why not.

Names of hosts are not resolved; of ports, the usual names are known.
"""

from __future__ import annotations

import re

from kernlb.migrate.keepalived.values import address, addresses, number
from kernlb.model import IPAddress

# Names of services that stand in such files; others are to be written as numbers.
PORTS = {
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "domain": 53,
    "http": 80,
    "www": 80,
    "pop3": 110,
    "nntp": 119,
    "ntp": 123,
    "imap2": 143,
    "imap": 143,
    "ldap": 389,
    "https": 443,
    "submission": 587,
    "ldaps": 636,
    "imaps": 993,
    "pop3s": 995,
    "radius": 1812,
    "mysql": 3306,
    "sip": 5060,
    "postgresql": 5432,
}

_WHERE = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[0-9A-Za-z._+-]+?))(?:->\[?(?P<end>[^:\s\]]+)\]?)?"
    r"(?::(?P<port>[0-9A-Za-z_-]+))?"
)


def place_of(text: str) -> tuple[IPAddress, int]:
    """One address, and its port: 0 for none."""
    every, port = places_of(text)
    if len(every) > 1:
        raise ValueError(f"{text} is several addresses")
    return every[0], port


def places_of(text: str) -> tuple[list[IPAddress], int]:
    match = _WHERE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is not address:port")
    first = match["v6"] or match["host"]
    try:
        address(first)
        every = addresses(f"{first}-{match['end']}" if match["end"] else first)
    except ValueError as error:
        raise ValueError(f"{error} (names are not resolved)") from None
    return every, _port(match["port"] or "")


def _port(text: str) -> int:
    if not text:
        return 0
    if text in PORTS:
        return PORTS[text]
    if not text.isdigit():
        raise ValueError(f"{text} is no number of a port")
    return number(text, 0, 65_535)
