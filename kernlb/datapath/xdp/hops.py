"""Where a frame for a server goes next: decided from routes, neighbours and links as values. Pure.

The kernel answers which way (:class:`Route`), who is there (:class:`Neighbour`) and on what
(:class:`Link`); from these :func:`path` says what a frame needs on the wire, once for all servers
behind one next hop, and :func:`hop` adds what is a destination's own. Nothing here asks.

Rules:

* what the kernel itself would not send to is :class:`Unresolved`, with a sentence for operators;
  a neighbour that stopped answering is such a case, and its last known address is not used: it
  may be somebody else's by now, and frames to it would vanish without being counted;
* a VLAN device is its parent and a tag; bonds and bridges are what they are;
* a caveat of a device (``note``) does not make a hop unresolved: it is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kernlb.model import Family, IPAddress

# How good an entry of the neighbour table is (include/uapi/linux/neighbour.h, NUD_*).
REACHABLE, STALE, DELAY, PROBE = 0x02, 0x04, 0x08, 0x10
NOARP, PERMANENT = 0x40, 0x80
VALID = REACHABLE | STALE | DELAY | PROBE | NOARP | PERMANENT  # its address is in use

VLAN_8021Q = 0x8100

# The kernel's own list of what cannot transmit for XDP is the absence of ndo_xdp_xmit.
_SENDS_NOTHING = ("bridge", "team", "macvlan", "ipvlan", "openvswitch")
_SENDING_BOND_MODES = (0, 1, 2, 4)  # bond_xdp_check(), drivers/net/bonding/bond_main.c


class NextHop(NamedTuple):
    """A neighbour that frames go to: a server, or the gateway before it."""

    ifindex: int
    address: IPAddress


class Question(NamedTuple):
    """Which way to ``destination``, for packets from ``source`` where that is given?"""

    destination: IPAddress
    source: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The kernel's answer to a Question."""

    ifindex: int
    gateway: IPAddress | None = None  # None: the destination is on the link
    source: IPAddress | None = None  # which the kernel prefers; None: it has none
    mtu: int = 0  # of the route or of a discovered path; 0: the device's


@dataclass(frozen=True, slots=True)
class NoRoute:
    """The kernel has no way that XDP could take."""

    reason: str


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. ``kind`` is as in ``ip -d link``, "" for hardware."""

    index: int
    name: str
    mac: bytes  # 6 bytes; b"" where it has none
    mtu: int
    kind: str = ""
    up: bool = True
    carrier: bool = True
    arp: bool = True  # Ethernet, and neighbours are looked up
    mtu6: int = 0  # of IPv6 on it, where routers advertise one; 0: as mtu
    parent: int = 0  # VLAN devices: the device below, 0 if that is in another namespace
    vlan: int = 0
    vlan_protocol: int = VLAN_8021Q
    bond_mode: int = 0

    def mtu_of(self, family: Family) -> int:
        return self.mtu6 if family is Family.IPV6 and self.mtu6 else self.mtu


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the kernel's neighbour table."""

    next_hop: NextHop
    state: int  # NUD_*
    mac: bytes = b""
    managed: bool = False  # the kernel keeps it resolved by itself
    ours: bool = False  # it bears kernlb's mark
    learned: bool = False  # by another program, which looks after it

    @property
    def keeper_is_another(self) -> bool:
        """An operator or another program looks after it: kernlb has nothing to add."""
        foreign = not self.ours and (self.managed or self.learned)
        return bool(self.state & (PERMANENT | NOARP)) or foreign

    @property
    def kept_by_us(self) -> bool:
        return self.ours and self.managed and not self.state & (PERMANENT | NOARP)


# What the kernel tells of its own accord, beside a Link or a Neighbour that changed.


class LinkGone(NamedTuple):
    ifindex: int


class NeighbourGone(NamedTuple):
    next_hop: NextHop


class RoutesChanged(NamedTuple):
    """Ways to the addresses ``first`` to ``last`` of ``family``, as numbers, may be others now."""

    family: Family
    first: int
    last: int


class AddressesChanged(NamedTuple):
    """The host's own addresses on a device did: sources may be others."""

    ifindex: int


Event = Link | LinkGone | Neighbour | NeighbourGone | RoutesChanged | AddressesChanged


@dataclass(frozen=True, slots=True)
class Path:
    """What every frame to one next hop needs."""

    ifindex: int  # the device that XDP transmits on
    source_mac: bytes
    destination_mac: bytes
    link: Link  # as the route names it: a VLAN device is not its parent
    note: str = ""


@dataclass(frozen=True, slots=True)
class Hop:
    """How to reach a server. ``mtu`` is of the way there, before encapsulation is taken off."""

    ifindex: int
    source_mac: bytes
    destination_mac: bytes
    mtu: int
    vlan: int = 0  # 802.1Q tag, 0: none
    source: IPAddress | None = None
    note: str = ""  # why frames may not get out all the same


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Why a server cannot be reached now. What is known all the same serves the program when it
    asks the FIB: the device that it may redirect to, the source of an outer header, the MTU."""

    reason: str
    ifindex: int = 0
    mtu: int = 0
    source: IPAddress | None = None


Outcome = Hop | Unresolved


def next_hop(destination: IPAddress, route: Route) -> NextHop:
    return NextHop(route.ifindex, route.gateway or destination)


def path(
    to: NextHop, links: Mapping[int, Link], neighbours: Mapping[NextHop, Neighbour]
) -> Path | Unresolved:
    """What frames to ``to`` need, or why there can be none."""
    link = links.get(to.ifindex)
    if link is None:
        return Unresolved(f"there is no interface {to.ifindex}")
    egress = _egress(link, links)
    if isinstance(egress, str):
        return Unresolved(egress)
    for each in (link, egress):
        if not each.up:
            return Unresolved(f"{each.name} is down")
        if not each.carrier:
            return Unresolved(f"{each.name} has no carrier")
    if not link.arp or len(link.mac) != 6:
        return Unresolved(f"{link.name} has no Ethernet neighbours")
    neighbour = neighbours.get(to)
    if neighbour is None or not neighbour.state & VALID or len(neighbour.mac) != 6:
        reason = f"no answer from neighbour {to.address} on {link.name}"
        return Unresolved(reason, egress.index, link.mtu)
    return Path(egress.index, link.mac, neighbour.mac, link, _note(egress))


def hop(
    destination: IPAddress, route: Route, way: Path | Unresolved, source: IPAddress | None = None
) -> Outcome:
    """The hop of one destination; ``source`` is the operator's choice, if there is one."""
    source = source or route.source
    if isinstance(way, Unresolved):
        return Unresolved(way.reason, way.ifindex, route.mtu or way.mtu, source)
    mtu = way.link.mtu_of(Family.of(destination))
    mtu = min(mtu, route.mtu or mtu)
    tag = way.link.vlan if way.link.kind == "vlan" else 0
    return Hop(way.ifindex, way.source_mac, way.destination_mac, mtu, tag, source, way.note)


def decide(
    destination: IPAddress,
    answer: Route | NoRoute,
    links: Mapping[int, Link],
    neighbours: Mapping[NextHop, Neighbour],
    source: IPAddress | None = None,
) -> Outcome:
    """All of the above for one destination."""
    if isinstance(answer, NoRoute):
        return Unresolved(answer.reason, source=source)
    return hop(destination, answer, path(next_hop(destination, answer), links, neighbours), source)


def choose_source(server: IPAddress, sources: Sequence[IPAddress]) -> IPAddress | None:
    """One of ``sources`` of the server's family, always the same; None if there is none.

    The highest digest wins (rendezvous), so that a source that comes or goes moves its own
    servers and no others."""
    fitting = [each for each in sources if each.version == server.version]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return max(fitting, key=lambda each: hashlib.blake2b(each.packed + server.packed).digest())


def _egress(link: Link, links: Mapping[int, Link]) -> Link | str:
    """The device that XDP transmits on, or why there is none."""
    if link.kind != "vlan":
        return link
    parent = links.get(link.parent)
    if parent is None:
        return f"the interface below {link.name} is not in this namespace"
    if parent.kind == "vlan":
        return f"{link.name} puts two VLAN tags on a frame, and only one can be written"
    if link.vlan_protocol != VLAN_8021Q:
        return f"{link.name} is not 802.1Q (protocol {link.vlan_protocol:#06x})"
    return parent


def _note(egress: Link) -> str:
    if egress.kind in _SENDS_NOTHING:
        return f"{egress.name} ({egress.kind}) cannot transmit for XDP"
    if egress.kind == "bond" and egress.bond_mode not in _SENDING_BOND_MODES:
        return f"{egress.name} (bond mode {egress.bond_mode}) cannot transmit for XDP"
    return ""
