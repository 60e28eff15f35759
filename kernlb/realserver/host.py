"""A host as it was found. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from kernlb.doctor.network import Link, Network
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import IPAddress

MAIN = 254  # the table of routes that is asked when no rule says otherwise


@dataclass(frozen=True, slots=True)
class Host:
    """``modules``: those of TUNNEL_MODULES that are there; ``loadable``: that could be.
    ``program``: what a unit of systemd starts as kernlb."""

    network: Network
    sysctls: Sysctls
    modules: frozenset[str] = frozenset()
    loadable: frozenset[str] = frozenset()
    program: str = "/usr/bin/kernlb"

    @property
    def outside(self) -> str:
        """The interface of the default route, else the only Ethernet that is up; "" if unclear."""
        for version in (4, 6):
            if device := self.way_out(version):
                return device
        ethernets = [link for link in self.network.links if link.up and link.ethernet]
        return ethernets[0].name if len(ethernets) == 1 else ""

    def way_out(self, version: int) -> str:
        """The interface of the default route of a family, "" without one."""
        for route in self.network.routes:
            if route.to is None and route.table == MAIN and route.family == version:
                return route.interface
        return ""

    def own(self, interface: str, version: int) -> tuple[IPAddress, ...]:
        """The addresses of an interface that others may reach it at."""
        return tuple(
            held.ip
            for held in self.network.addresses
            if held.interface == interface
            and held.ip.version == version
            and not held.ip.is_link_local
        )

    def link(self, name: str) -> Link | None:
        return self.network.link(name)
