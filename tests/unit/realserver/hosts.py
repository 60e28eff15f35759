"""Hosts as values: one interface, a default route, and what a story adds."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

from kernlb.doctor.network import Held, Link, Network, Route
from kernlb.doctor.sysctls import Sysctls
from kernlb.realserver.host import MAIN, Host
from kernlb.realserver.tunnels import TUNNEL_MODULES
from kernlb.realserver.wish import Method, Wish

VIP = ip_address("192.0.2.10")
VIP6 = ip_address("2001:db8::10")
LO = Link(1, "lo", mtu=65536, ethernet=False)
ETH0 = Link(2, "eth0")
OWN = ("10.1.0.11/24", "fd00:b::11/64")


def held(address: str, interface: str = "eth0") -> Held:
    return Held(ip_interface(address), interface)


def default(interface: str = "eth0", family: int = 4) -> Route:
    return Route(family, None, interface, None, MAIN)


def host(
    *more: Held,
    links: tuple[Link, ...] = (LO, ETH0),
    routes: tuple[Route, ...] = (default(),),
    modules: Any = TUNNEL_MODULES,
    own: tuple[str, ...] = OWN,
    **sysctls: str,
) -> Host:
    """Sysctls as all_rp_filter="1"."""
    values = {
        f"net/ipv4/conf/{name.partition('_')[0]}/{name.partition('_')[2]}": value
        for name, value in sysctls.items()
    }
    addresses = (*map(held, own), *more)
    return Host(Network(links, addresses, (), routes), Sysctls(values), frozenset(modules))


def dsr(*vips: Any, **more: Any) -> Wish:
    return Wish(Method.DSR, vips or (VIP,), persist=False, **more)


def tunnel(*vips: Any, **more: Any) -> Wish:
    return Wish(Method.TUNNEL, vips or (VIP,), **{"persist": False, "mss": None, **more})
