"""The declared services as the doctor sees them, and how the daemon is. Pure values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kernlb.model import (
    AddressKey,
    DatapathKind,
    Forwarding,
    IPAddress,
    RealServer,
    Scheduler,
    ServiceKey,
)


@dataclass(frozen=True, slots=True)
class Service:
    """``vip_interface`` None: kernlb does not keep its address."""

    name: str
    datapath: DatapathKind
    key: ServiceKey
    scheduler: Scheduler
    servers: tuple[RealServer, ...] = ()
    vip_interface: str | None = None
    withdrawn: bool = False  # its VIP, on purpose

    @property
    def vip(self) -> IPAddress | None:
        """None for a service of a firewall mark."""
        return self.key.address if isinstance(self.key, AddressKey) else None

    def forwards(self, *methods: Forwarding) -> tuple[RealServer, ...]:
        return tuple(server for server in self.servers if server.forwarding in methods)


@dataclass(frozen=True, slots=True)
class Declared:
    """``source`` says where they were read: the daemon, or files. ``faults``: sentences about
    files that are bad. ``xdp_interfaces``: those that settings name."""

    services: tuple[Service, ...] = ()
    source: str = ""
    faults: tuple[str, ...] = ()
    xdp_interfaces: tuple[str, ...] = ()
    xdp_mode: str = "native"
    ipvs_sysctls: tuple[tuple[str, int], ...] = ()  # those that settings keep, and their values

    def of(self, kind: DatapathKind) -> Iterator[Service]:
        return (service for service in self.services if service.datapath is kind)

    def pairs(
        self, *methods: Forwarding, datapath: DatapathKind | None = None
    ) -> Iterator[tuple[Service, RealServer]]:
        """Services with each server that is forwarded to by one of ``methods`` (none: any)."""
        for service in self.services:
            if datapath in (None, service.datapath):
                for server in service.servers:
                    if not methods or server.forwarding in methods:
                        yield service, server

    @property
    def vips(self) -> dict[IPAddress, list[Service]]:
        found: dict[IPAddress, list[Service]] = {}
        for service in self.services:
            if service.vip is not None:
                found.setdefault(service.vip, []).append(service)
        return found


def names(services: Iterable[Service]) -> str:
    """``service web``, ``services api, db, web and 3 more``."""
    found = sorted({service.name for service in services})
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return f"service{'s' if len(found) > 1 else ''} {shown}"
