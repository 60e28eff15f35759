"""What a real server is to be, and what of it was read that only matters there. Pure values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kernlb.doctor.network import LOOPBACK, Link, Network
from kernlb.model import IPAddress
from kernlb.realserver.wish import Decap, Method, Wish


@dataclass(frozen=True, slots=True)
class Role:
    """``wish`` with its interface and decap decided. ``ports``: of its services, as ("tcp", 80).
    ``balancers``: their addresses on the server's side. ``prepared``: `setup` recorded it."""

    wish: Wish
    ports: tuple[tuple[str, int], ...] = ()
    balancers: tuple[IPAddress, ...] = ()
    prepared: bool = False

    @property
    def interface(self) -> str:
        return self.wish.interface

    @property
    def holds(self) -> tuple[IPAddress, ...]:
        """The VIPs that are to be on this host."""
        return () if self.wish.method is Method.NAT else self.wish.vips

    def of(self, version: int) -> tuple[IPAddress, ...]:
        return tuple(vip for vip in self.holds if vip.version == version)

    @property
    def by_device(self) -> bool:
        """Does a device of the kernel take tunnels in?"""
        return self.wish.tunnelled and self.wish.decap is Decap.DEVICE

    @property
    def by_xdp(self) -> bool:
        return self.wish.tunnelled and self.wish.decap is Decap.XDP


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits. ``address`` None: any address of ``version`` (0: of both)."""

    protocol: str
    port: int
    version: int
    address: IPAddress | None = None

    def takes(self, address: IPAddress) -> bool:
        if self.address is not None:
            return self.address == address
        return self.version in (0, address.version)


@dataclass(frozen=True, slots=True)
class Listeners:
    all: tuple[Listener, ...]

    def at(self, protocol: str, port: int) -> tuple[Listener, ...]:
        return tuple(each for each in self.all if (each.protocol, each.port) == (protocol, port))


@dataclass(frozen=True, slots=True)
class Kernel:
    """``modules`` that are there, ``loadable`` ones; ``fou``: ports by family outside, with what
    fou does there."""

    modules: frozenset[str] = frozenset()
    loadable: frozenset[str] = frozenset()
    fou: tuple[tuple[int, int, str], ...] = ()  # family, port, kind


@dataclass(frozen=True, slots=True)
class Attached:
    """Decap on the interface; ``addresses`` None: it is not there. ``risen``: counts of packets,
    and what came on top while looking."""

    addresses: tuple[IPAddress, ...] | None = None
    sources: tuple[IPAddress, ...] = ()
    gue_port: int = 0
    generic: bool = False
    risen: tuple[tuple[str, int, int], ...] = ()  # name, count, of these while looking


@dataclass(frozen=True, slots=True)
class Counters:
    """The kernel's, as TcpExtIPReversePathFilter; ``risen`` while looking, in so many seconds."""

    values: Mapping[str, int]
    risen: Mapping[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class WayBack:
    """How an answer of an address leaves to a client. ``interface`` "": it cannot."""

    source: IPAddress
    client: IPAddress
    interface: str = ""
    gateway: IPAddress | None = None

    def __str__(self) -> str:
        if not self.interface:
            return f"from {self.source} to {self.client}: no route"
        via = f" via {self.gateway}" if self.gateway else ""
        return f"from {self.source} to {self.client}{via} dev {self.interface}"


@dataclass(frozen=True, slots=True)
class WaysBack:
    all: tuple[WayBack, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """``stale``: what setup changed and is not so any more, in words. ``at_boot``: will systemd
    do it again?"""

    stale: tuple[str, ...] = ()
    at_boot: bool = True


def talkative(network: Network) -> Iterator[Link]:
    """The interfaces that answer ARP."""
    for link in network.links:
        if link.up and link.ethernet and link.name != LOOPBACK and link.kind != "dummy":
            yield link
