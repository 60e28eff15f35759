"""What an operator wants a real server to be. Pure.

A wish is what the command line says, made whole; its JSON is what outlives a reboot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from kernlb.model import IPAddress

GUE_PORT = 6080
AUTO = "auto"


class Method(StrEnum):
    DSR = "dsr"
    TUNNEL = "tunnel"
    NAT = "nat"  # has wishes of its own to nobody: it is looked at only


class Tunnel(StrEnum):
    IPIP = "ipip"
    GUE = "gue"
    GRE = "gre"


class Decap(StrEnum):
    """Who takes the outer header off: a device of the kernel, or a program in XDP."""

    DEVICE = "device"
    XDP = "xdp"


class Guard(StrEnum):
    """What keeps the server from answering ARP for its VIPs."""

    SYSCTL = "sysctl"
    NFT = "nft"


@dataclass(frozen=True, slots=True)
class Wish:
    """``interface``: where packets of the balancer come in, "" for the one of the default route.
    ``decap``: None for whichever this kernel can. ``ends``: the server's own addresses that
    tunnels end at, none for one of each VIP's family. ``sources``: balancers, none for anybody
    (XDP only). ``mtu``: None to leave it. ``mss``: the largest that answers of a VIP may ask for,
    None for no limit, AUTO for what the tunnel leaves of the interface's MTU."""

    method: Method
    vips: tuple[IPAddress, ...]
    interface: str = ""
    tunnel: Tunnel = Tunnel.IPIP
    port: int = GUE_PORT
    decap: Decap | None = None
    generic: bool = False
    ends: tuple[IPAddress, ...] = ()
    sources: tuple[IPAddress, ...] = ()
    guard: Guard = Guard.SYSCTL
    mtu: int | None = None
    mss: int | str | None = AUTO
    persist: bool = True

    @property
    def tunnelled(self) -> bool:
        return self.method is Method.TUNNEL

    @property
    def versions(self) -> tuple[int, ...]:
        """4, 6 or both: the families of the VIPs."""
        return tuple(sorted({vip.version for vip in self.vips}))

    def outer(self, inner: int) -> tuple[int, ...]:
        """The families of tunnels that packets of a family come in: its own, if nothing else was
        said."""
        return tuple(sorted({end.version for end in self.ends})) or (inner,)

    @property
    def outers(self) -> tuple[int, ...]:
        return tuple(sorted({outer for inner in self.versions for outer in self.outer(inner)}))


def parse_tunnel(text: str) -> tuple[Tunnel, int]:
    """``ipip``, ``gre``, ``gue`` or ``gue:PORT``. Raises ValueError."""
    name, colon, port = text.partition(":")
    try:
        tunnel = Tunnel(name)
    except ValueError:
        known = ", ".join(Tunnel)
        raise ValueError(f'"{text}" is not a tunnel (known: {known}, gue:PORT)') from None
    if not colon:
        return tunnel, GUE_PORT
    if tunnel is not Tunnel.GUE:
        raise ValueError(f'"{text}" is not a tunnel: only gue has a port')
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(f'"{port}" is not a port: 1 to 65535')
    return tunnel, int(port)


def to_plain(wish: Wish) -> dict[str, Any]:
    return {
        "method": wish.method.value,
        "vips": list(map(str, wish.vips)),
        "interface": wish.interface,
        "tunnel": wish.tunnel.value,
        "port": wish.port,
        "decap": wish.decap.value if wish.decap else None,
        "generic": wish.generic,
        "ends": list(map(str, wish.ends)),
        "sources": list(map(str, wish.sources)),
        "guard": wish.guard.value,
        "mtu": wish.mtu,
        "mss": wish.mss,
        "persist": wish.persist,
    }


def from_plain(plain: Mapping[str, Any]) -> Wish:
    """Raises KeyError, TypeError or ValueError where it is no wish."""
    return Wish(
        method=Method(plain["method"]),
        vips=_addresses(plain["vips"]),
        interface=str(plain["interface"]),
        tunnel=Tunnel(plain["tunnel"]),
        port=int(plain["port"]),
        decap=Decap(plain["decap"]) if plain["decap"] else None,
        generic=bool(plain["generic"]),
        ends=_addresses(plain["ends"]),
        sources=_addresses(plain["sources"]),
        guard=Guard(plain["guard"]),
        mtu=None if plain["mtu"] is None else int(plain["mtu"]),
        mss=plain["mss"] if plain["mss"] in (None, AUTO) else int(plain["mss"]),
        persist=bool(plain["persist"]),
    )


def _addresses(texts: list[str]) -> tuple[IPAddress, ...]:
    return tuple(ip_address(text) for text in texts)
