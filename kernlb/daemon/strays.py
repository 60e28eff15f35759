"""Finds servers that answer ARP for a VIP: on the balancer's own link, they take its packets.

A probe at the VIP does not show it, as it goes to the server's own MAC; so the link is asked, some
VIPs at a time. Who answers is known by the MAC of its own address. Others that answer (a second
balancer) are none of ours. Linux answers neighbour solicitations for addresses of the interface
alone, so IPv6 has no such fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from itertools import islice
from typing import NamedTuple

from kernlb.datapath.xdp.hops import Neighbour
from kernlb.model import IPAddress

AT_ONCE = 64  # VIPs asked for in one look
PATIENCE = 0.5  # seconds for answers

WhoHas = Callable[[str, Mapping[IPv4Address, IPv4Address], float], set[tuple[IPv4Address, bytes]]]


class Neighbourhood(NamedTuple):
    """A server that is reached directly by an interface, its VIP, and ours to ask from."""

    interface: str
    server: IPAddress
    vip: IPv4Address
    source: IPv4Address


class Strays:
    """``who_has`` asks a link (vip.asking), ``neighbours`` the kernel. For any one thread."""

    def __init__(self, who_has: WhoHas, neighbours: Callable[[], Iterable[Neighbour]]) -> None:
        self._who_has = who_has
        self._neighbours = neighbours
        self._turn: dict[tuple[str, IPv4Address], None] = {}  # least lately asked first
        self.found: frozenset[tuple[IPAddress, IPv4Address]] = frozenset()  # server, VIP

    def look(self, places: Iterable[Neighbourhood]) -> None:
        """Takes PATIENCE for each interface. Raises OSError."""
        places = list(places)
        sources = {(each.interface, each.vip): each.source for each in places}
        self._turn = {each: None for each in (*self._turn, *sources) if each in sources}
        asked = list(islice(self._turn, AT_ONCE))
        heard: set[tuple[IPv4Address, bytes]] = set()
        for interface in {interface for interface, _ in asked}:
            vips = {vip: sources[name, vip] for name, vip in asked if name == interface}
            heard |= self._who_has(interface, vips, PATIENCE)
        for each in asked:  # to the end of the queue
            del self._turn[each]
            self._turn[each] = None
        macs: dict[IPAddress, bytes] = {}
        if heard:
            macs = {each.next_hop.address: each.mac for each in self._neighbours()}
        now = {
            (each.server, each.vip)
            for each in places
            if (each.vip, macs.get(each.server, b"")) in heard
        }
        vips_asked = {vip for _, vip in asked}
        wanted = {(each.server, each.vip) for each in places}
        kept = {each for each in self.found if each[1] not in vips_asked and each in wanted}
        self.found = frozenset(kept | now)
