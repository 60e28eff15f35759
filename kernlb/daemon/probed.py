"""Servers that are probed at their VIP, and the ways to them: chosen from what the kernel answers.

Pure. A way needs a route to the server, and an address of ours of the VIP's family where the
server's answer can come in; what is missing is said in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple

from kernlb.daemon.strays import Neighbourhood
from kernlb.datapath.probing import Path, Paths
from kernlb.datapath.xdp.hops import NoRoute, Route
from kernlb.declaration import Declaration
from kernlb.health.check import Via, Way
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    Forwarding,
    IPAddress,
    RealServer,
    ServerKey,
    ServiceRef,
)

Name = tuple[ServiceRef, ServerKey]
AddressOn = Callable[[str, Family], IPAddress | None]  # ours on an interface

_NOT_YET = Way(None, "the way to it is not made yet")


class Answers(NamedTuple):
    """Names of links by index, and the way to each address."""

    names: Mapping[int, str]
    routes: Mapping[IPAddress, Route | NoRoute]


@dataclass(slots=True)
class Probed:
    """A server that is probed at its VIP, and the way as it is now."""

    kind: DatapathKind
    vip: IPAddress
    server: RealServer
    way: Way = field(default=_NOT_YET, compare=False)


def probed_in(
    declared: Mapping[str, Declaration],
) -> Iterator[tuple[Name, DatapathKind, IPAddress, RealServer]]:
    for declaration in declared.values():
        key = declaration.service.key
        if not declaration.watches or not isinstance(key, AddressKey):
            continue
        for server in declaration.servers:
            watch = declaration.watches.get(server.key)
            if watch is not None and watch.via is Via.VIP:
                name = declaration.ref, server.key
                yield name, declaration.datapath, key.address, server.with_weight(1)


def path_to(probed: Probed, answers: Answers, address_on: AddressOn) -> Path | None:
    """None where there is none. ``probed`` gets to know the way, or why not."""
    server, vip = probed.server, probed.vip
    route, entry = answers.routes[server.address], answers.routes[vip]
    if isinstance(route, NoRoute):
        probed.way = Way(None, route.reason)
        return None
    device, family = answers.names.get(route.ifindex), Family.of(vip)
    if device is None:
        gone = f"the link to {server.address} (interface {route.ifindex})"
        probed.way = Way(None, f"{gone} is not there any more")
        return None
    source = route.source
    if source is None or source.version != vip.version:
        source = address_on(device, family)
    if source is None:
        why = f"no {family} address on {device}"
        probed.way = Way(None, f"{why}, which {server.address} could answer")
        return None
    probed.way = Way(source)
    return Path(
        family,
        server,
        route.ifindex,
        route.gateway or server.address,
        route.source,
        entry.ifindex if isinstance(entry, Route) else None,
    )


def neighbours(
    paths: Paths, probed: Mapping[int, Probed], names: Mapping[int, str]
) -> Iterator[Neighbourhood]:
    """Those on a link of ours that could answer for their VIP there."""
    for mark, path in paths.items():
        vip, source = probed[mark].vip, probed[mark].way.source
        server, direct = path.server.address, path.next_hop == path.server.address
        if direct and isinstance(vip, IPv4Address) and isinstance(source, IPv4Address):
            yield Neighbourhood(names[path.ifindex], server, vip, source)


def hint(vip: IPAddress, server: RealServer) -> str:
    """What to look at on a server that answers at its own address only."""
    if server.forwarding is Forwarding.TUNNEL and server.tunnel is not None:
        kind = server.tunnel.type
        return f"is {vip} on its lo, is its {kind} device up, and rp_filter off there?"
    return f"is {vip} on its lo?"
