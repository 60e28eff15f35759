"""Tells where IPVS would go on sending clients to a dead server, and the setting that ends it.

A verdict stops new flows. What the kernel remembers of old ones is another matter: a UDP flow has
no end that a client would notice, and a persistence template brings a client back to a server of
weight 0. XDP forgets both by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kernlb.daemon.events import Events
from kernlb.declaration import Declaration
from kernlb.health.check import OnDown
from kernlb.model import AddressKey, DatapathKind, FwmarkKey, L4Protocol

SYSCTLS = Path("/proc/sys/net/ipv4/vs")
NODEST, QUIESCENT = "expire_nodest_conn", "expire_quiescent_template"
_NAMED = 3
_STAYS = {
    NODEST: "UDP flows of {} stay with a server that checks took out, and are dropped there",
    QUIESCENT: "persistent clients of {} come back to a server that checks put to weight 0",
}


def sysctl(name: str) -> bool:
    """Is it on? What is not there is no trouble."""
    try:
        return (SYSCTLS / name).read_text().strip() != "0"
    except OSError:
        return True


class Leftovers:
    """Tells of each service once, for as long as it is declared so."""

    def __init__(self, events: Events, on: Callable[[str], bool] = sysctl) -> None:
        self._events = events
        self._on = on
        self._told: dict[str, frozenset[str]] = {}

    def look(self, declared: Mapping[str, Declaration]) -> None:
        """These are in force now."""
        found: dict[str, set[str]] = {}
        for name, declaration in declared.items():
            for each in needed(declaration):
                found.setdefault(each, set()).add(name)
        for each, text in _STAYS.items():
            names = frozenset(found.get(each, ()))
            if names and self._on(each):
                names = frozenset()
            if fresh := sorted(names - self._told.get(each, frozenset())):
                more = f" and {len(fresh) - _NAMED} more" if len(fresh) > _NAMED else ""
                said = text.format(", ".join(fresh[:_NAMED]) + more)
                said += f": net.ipv4.vs.{each} is 0 (ipvs.sysctls in kernlb.yaml sets it)"
                self._events.add(said, "health")
            self._told[each] = names


def needed(declaration: Declaration) -> Iterator[str]:
    """The settings without which clients stay with a dead server of this service."""
    if not declaration.watches or declaration.datapath is not DatapathKind.IPVS:
        return
    service, on_down = declaration.service, declaration.health.on_down
    udp = isinstance(service.key, FwmarkKey) or (
        isinstance(service.key, AddressKey) and service.key.protocol is L4Protocol.UDP
    )
    if udp and on_down is OnDown.REMOVE and not service.one_packet:
        yield NODEST
    if service.persistence is not None and on_down is OnDown.INHIBIT:
        yield QUIESCENT
