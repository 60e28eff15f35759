"""Which interfaces the declared services use. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.daemon import Daemon
from kernlb.doctor.facts import Facts
from kernlb.doctor.network import LOOPBACK, Held, Link, Network, Way, Ways
from kernlb.doctor.services import Declared
from kernlb.model import IPAddress

ALL_ONES = {4: 32, 6: 128}


def xdp_interfaces(facts: Facts) -> tuple[str, ...]:
    """Those that settings name, as the daemon has them where it answers."""
    daemon = facts[Daemon]
    return tuple(daemon.xdp_modes) or facts[Declared].xdp_interfaces


def named(facts: Facts) -> Iterator[Link]:
    """Those of the same that exist."""
    network = facts[Network]
    for name in xdp_interfaces(facts):
        if (link := network.link(name)) is not None:
            yield link


def towards_servers(facts: Facts) -> dict[str, list[Way]]:
    """Interfaces by which servers are reached, with the ways."""
    found: dict[str, list[Way]] = {}
    for way in facts[Ways].to.values():
        if way.kind == "unicast" and way.interface:
            found.setdefault(way.interface, []).append(way)
    return found


def towards_clients(network: Network, vip: IPAddress | None) -> set[str]:
    """Interfaces whose network ``vip`` is in, that hold it, or that a default route uses."""
    found = {route.interface for route in network.routes if route.to is None and route.interface}
    if vip is not None:
        found |= {held.interface for held in network.holding(vip)}
        found |= {held.interface for held in around(network, vip)}
    return found - {LOOPBACK, ""}


def used_interfaces(facts: Facts) -> set[str]:
    found = set(towards_servers(facts)) | set(xdp_interfaces(facts))
    for vip in (None, *facts[Declared].vips):
        found |= towards_clients(facts[Network], vip)
    return found


def around(network: Network, vip: IPAddress) -> list[Held]:
    """Other addresses, not on lo, in whose network ``vip`` is: there, it is asked for by ARP."""
    return [
        held
        for held in network.addresses
        if held.interface != LOOPBACK
        and held.ip != vip
        and held.address.version == vip.version
        and held.address.network.prefixlen < ALL_ONES[vip.version]
        and vip in held.address.network
    ]
