"""Which devices take tunnels in, which modules bring them, and what a tunnel costs. Pure."""

from __future__ import annotations

from kernlb.realserver.wish import Tunnel, Wish

# A device that takes a tunnel's outer header off, by its family and that of what is inside: the
# module that brings it, and its name. gue is ipip behind a port of fou.
TUNNEL_DEVICES: dict[tuple[str, int, int], tuple[str, str]] = {
    ("ipip", 4, 4): ("ipip", "tunl0"),
    ("ipip", 6, 4): ("sit", "sit0"),
    ("ipip", 6, 6): ("ip6_tunnel", "ip6tnl0"),
    ("ipip", 4, 6): ("ip6_tunnel", "kernlb4in6"),
    ("gre", 4, 4): ("ip_gre", "gre0"),
    ("gre", 6, 4): ("ip_gre", "gre0"),
    ("gre", 4, 6): ("ip6_gre", "ip6gre0"),
    ("gre", 6, 6): ("ip6_gre", "ip6gre0"),
}
"""By (tunnel, family inside, family outside)."""

MADE = "kernlb4in6"  # made by us: ip6tnl0 takes IPv6 in IPv6 alone
FOU_MODULES = {4: "fou", 6: "fou6"}
TUNNEL_MODULES = ("ipip", "sit", "ip6_tunnel", "ip_gre", "ip6_gre", "fou", "fou6")
FALLBACK_DEVICES = {
    "ipip": "tunl0",
    "sit": "sit0",
    "ip6_tunnel": "ip6tnl0",
    "ip_gre": "gre0",
    "ip6_gre": "ip6gre0",
}
"""What a module brings by itself."""

OVERHEAD = {"ipip": {4: 20, 6: 40}, "gue": {4: 32, 6: 52}, "gre": {4: 28, 6: 48}}
"""Bytes that a tunnel adds outside, by its family; gre with its checksum."""

_IP_AND_TCP = {4: 40, 6: 60}  # bytes of headers in a segment


def devices(wish: Wish) -> tuple[tuple[str, str], ...]:
    """The tunnel devices that a wish needs, each with its module."""
    kind = Tunnel.GRE if wish.tunnel is Tunnel.GRE else Tunnel.IPIP
    found = [
        TUNNEL_DEVICES[kind.value, inner, outer]
        for inner in wish.versions
        for outer in wish.outer(inner)
    ]
    return tuple(dict.fromkeys(found))


def takes_ipv4(wish: Wish) -> tuple[str, ...]:
    """Those devices from which packets of IPv4 come."""
    if 4 not in wish.versions:
        return ()
    kind = Tunnel.GRE if wish.tunnel is Tunnel.GRE else Tunnel.IPIP
    found = [TUNNEL_DEVICES[kind.value, 4, outer][1] for outer in wish.outer(4)]
    return tuple(dict.fromkeys(found))


def fou_modules(wish: Wish) -> dict[int, str]:
    """The modules that gue needs, by the family outside."""
    if wish.tunnel is not Tunnel.GUE:
        return {}
    return {version: FOU_MODULES[version] for version in wish.outers}


def segment(wish: Wish, mtu: int, version: int) -> int:
    """The largest segment of TCP that comes whole through the tunnel over links of an MTU."""
    added = max(OVERHEAD[wish.tunnel][outer] for outer in wish.outer(version))
    return mtu - added - _IP_AND_TCP[version]
