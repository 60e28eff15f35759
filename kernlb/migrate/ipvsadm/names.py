"""Names of hosts and ports, as the host's resolver knows them: the one door to it here.

ipvsadm prints names unless it is told -n, and takes them wherever it takes numbers.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import Protocol

from kernlb.model import IPAddress, L4Protocol


class Names(Protocol):
    """What to call hosts and ports, and who is called so."""

    def address(self, text: str) -> IPv4Address | None:
        """Of a host's name, or of an IPv4 address in any of C's notations."""

    def port(self, text: str, protocol: L4Protocol) -> int | None: ...

    def host(self, address: IPAddress) -> str:
        """A name, or the address as text."""

    def service(self, port: int, protocol: L4Protocol) -> str:
        """A name, or the number as text."""


class Numbers:
    """Names nothing and knows no names."""

    def address(self, text: str) -> IPv4Address | None:
        try:
            return IPv4Address(socket.inet_aton(text))
        except (OSError, UnicodeError, ValueError, TypeError):  # TypeError: a NUL within
            return None

    def port(self, text: str, protocol: L4Protocol) -> int | None:
        return None

    def host(self, address: IPAddress) -> str:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        return socket.inet_ntop(family, address.packed)  # unlike str(), as C has mapped ones

    def service(self, port: int, protocol: L4Protocol) -> str:
        return str(port)


class Resolver(Numbers):
    """The names of this host: its files, and whatever else its resolver asks."""

    def __init__(self) -> None:
        self._hosts: dict[IPAddress, str] = {}

    def address(self, text: str) -> IPv4Address | None:
        if (number := super().address(text)) is not None:
            return number
        try:
            return IPv4Address(socket.gethostbyname(text))
        except (OSError, UnicodeError, ValueError, TypeError):  # TypeError: a NUL within
            return None

    def port(self, text: str, protocol: L4Protocol) -> int | None:
        try:
            return socket.getservbyname(text, protocol)
        except (OSError, UnicodeError, ValueError):
            return None

    def host(self, address: IPAddress) -> str:
        if address not in self._hosts:
            try:
                self._hosts[address] = socket.gethostbyaddr(str(address))[0]
            except OSError:
                self._hosts[address] = super().host(address)
        return self._hosts[address]

    def service(self, port: int, protocol: L4Protocol) -> str:
        try:
            return socket.getservbyport(port, protocol)
        except OSError:
            return str(port)
