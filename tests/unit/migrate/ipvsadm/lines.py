"""Names that no test asks a resolver for, and the parser with them."""

from __future__ import annotations

from ipaddress import IPv4Address

from kernlb.migrate.ipvsadm.names import Numbers
from kernlb.migrate.ipvsadm.options import Command, parse
from kernlb.model import IPAddress, L4Protocol

HOSTS = {"web.example.net": IPv4Address("192.0.2.10"), "one.example.net": IPv4Address("10.0.0.1")}
PORTS = {("http", L4Protocol.TCP): 80, ("domain", L4Protocol.UDP): 53}


class Known(Numbers):
    """These hosts and ports have names, and no others."""

    def address(self, text: str) -> IPv4Address | None:
        return HOSTS.get(text) or super().address(text)

    def port(self, text: str, protocol: L4Protocol) -> int | None:
        return PORTS.get((text, protocol))

    def host(self, address: IPAddress) -> str:
        return next((name for name, each in HOSTS.items() if each == address), str(address))

    def service(self, port: int, protocol: L4Protocol) -> str:
        found = (name for (name, of), each in PORTS.items() if (each, of) == (port, protocol))
        return next(found, str(port))


def command(line: str) -> Command:
    return parse(line.split(), Known())
