"""Interfaces, addresses, neighbours and ways out, as the kernel tells them. Pure values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface

from kernlb.model import IPAddress

LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. ``kind`` is the kernel's word (veth, vlan, bond, ipip), "" for hardware and
    lo. ``lower`` is the index that a vlan or tunnel stands on, or a veth's peer, 0 for none;
    ``lower_namespace``: that index is of another namespace, which has this number
    here; -1: of this one. ``xdp`` is "", native, generic or
    offloaded. ``data``: settings of its kind as text (bond's mode, vlan's id)."""

    index: int
    name: str
    kind: str = ""
    up: bool = True  # administratively
    carrier: bool = True
    mtu: int = 1500
    mac: str = ""
    ethernet: bool = True
    answers_arp: bool = True
    lower: int = 0
    lower_namespace: int = -1
    master: int = 0
    rx_queues: int = 1
    tx_queues: int = 1
    xdp: str = ""
    xdp_program: int = 0
    rx_dropped: int = 0
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """An address on an interface; it prints as evidence."""

    address: IPv4Interface | IPv6Interface
    interface: str
    duplicate: bool = False  # IPv6: somebody else answered for it
    tentative: bool = False
    scope: int = 0  # 0 global, 253 link, 254 host

    @property
    def ip(self) -> IPAddress:
        return self.address.ip

    def __str__(self) -> str:
        return f"{self.address} on {self.interface}"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the neighbour table. ``state`` in lower case: reachable, stale, failed ..."""

    address: IPAddress
    interface: str
    mac: str
    state: str


@dataclass(frozen=True, slots=True)
class Way:
    """Where packets to an address go: ``ip route get``. ``kind``: unicast, local, blackhole,
    unreachable, prohibit, or "none" where no route matches. ``by_default``: a default route."""

    to: IPAddress
    kind: str = "unicast"
    interface: str = ""
    gateway: IPAddress | None = None
    source: IPAddress | None = None
    mtu: int = 0  # of the route, 0 if it has none of its own
    by_default: bool = False

    @property
    def next_hop(self) -> IPAddress:
        return self.gateway or self.to

    def __str__(self) -> str:
        via = f"via {self.gateway} " if self.gateway else ""
        return (
            f"{self.to} {via}dev {self.interface}" if self.interface else f"{self.to}: {self.kind}"
        )


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a table, for checks that look at default routes. ``to`` None: default."""

    family: int
    to: IPv4Interface | IPv6Interface | None
    interface: str
    gateway: IPAddress | None
    table: int
    kind: str = "unicast"
    advmss: int = 0
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Network:
    """The whole of it, of one network namespace."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Held, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    routes: tuple[Route, ...] = ()

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def by_index(self, index: int) -> Link | None:
        return next((link for link in self.links if link.index == index), None)

    def of_kind(self, kind: str) -> Iterator[Link]:
        return (link for link in self.links if link.kind == kind)

    def holding(self, address: IPAddress) -> tuple[Held, ...]:
        return tuple(held for held in self.addresses if held.ip == address)

    def neighbour(self, interface: str, address: IPAddress) -> Neighbour | None:
        return next(
            (
                each
                for each in self.neighbours
                if each.address == address and each.interface == interface
            ),
            None,
        )

    def is_local(self, address: IPAddress) -> bool:
        """On an interface here, or taken in by a local route."""
        if self.holding(address):
            return True
        return any(
            route.kind == "local" and route.to is not None and address in route.to.network
            for route in self.routes
        )


@dataclass(frozen=True, slots=True)
class Ways:
    """Where packets to servers go, by address."""

    to: Mapping[IPAddress, Way]


@dataclass(frozen=True, slots=True)
class FarEnds:
    """Far ends of veths in other namespaces, by the name of the near end."""

    by_interface: Mapping[str, Link]


@dataclass(frozen=True, slots=True)
class Claims:
    """Who answered ARP for VIPs, besides this host: address, Ethernet address, interface."""

    all: tuple[tuple[IPAddress, str, str], ...] = ()
