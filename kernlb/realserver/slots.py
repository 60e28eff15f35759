"""Slots of a host, and changes of their values: what is printed, recorded, done and undone. Pure.

A value is text, or None where the thing is not there:

    sysctl   net/ipv4/conf/all/arp_ignore      "1" (slashes: names of interfaces have dots)
    module   ipip                              "loaded"
    link     kernlb4in6                        the words behind `ip link add NAME`
    up       tunl0                             "up" or "down"
    mtu      eth0                              "1500"
    fou      6080 4                            "gue"
    address  192.0.2.10 lo                     its prefix lengths: "32"
    rules    arp                               a table of nftables, as `nft -f` takes it
    decap    eth0                              the words behind `kernlb realserver decap attach`
    file     /etc/...                          its text
    symlink  /etc/...                          its target
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple

from kernlb.doctor.ops import written

TABLE = "kernlb_realserver"


class Kind(StrEnum):
    SYSCTL = "sysctl"
    MODULE = "module"
    LINK = "link"
    UP = "up"
    MTU = "mtu"
    FOU = "fou"
    ADDRESS = "address"
    RULES = "rules"
    DECAP = "decap"
    FILE = "file"
    SYMLINK = "symlink"


class Slot(NamedTuple):
    """``at``: the device of an address, the family of a fou port."""

    kind: Kind
    name: str
    at: str = ""

    def __str__(self) -> str:
        return _CALLED[self.kind](self)


_CALLED: dict[Kind, Callable[[Slot], str]] = {
    Kind.SYSCTL: lambda slot: written(slot.name),
    Kind.MODULE: lambda slot: f"module {slot.name}",
    Kind.LINK: lambda slot: f"device {slot.name}",
    Kind.UP: lambda slot: f"state of {slot.name}",
    Kind.MTU: lambda slot: f"mtu of {slot.name}",
    Kind.FOU: lambda slot: f"fou port {slot.name} (IPv{slot.at})",
    Kind.ADDRESS: lambda slot: f"address {slot.name} on {slot.at}",
    Kind.RULES: lambda slot: f"table {slot.name} {TABLE}",
    Kind.DECAP: lambda slot: f"decap on {slot.name}",
    Kind.FILE: lambda slot: slot.name,
    Kind.SYMLINK: lambda slot: slot.name,
}


@dataclass(frozen=True, slots=True)
class Change:
    """Of one slot, from one value to another."""

    slot: Slot
    before: str | None
    after: str | None

    @property
    def undone(self) -> Change:
        return Change(self.slot, self.after, self.before)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """What an operator would type for it, in words; files have none."""
        return _COMMANDS[self.slot.kind](self) if self.slot.kind in _COMMANDS else ()

    def __str__(self) -> str:
        if self.slot.kind in (Kind.FILE, Kind.SYMLINK):
            return f"{'remove' if self.after is None else 'write'} {self.slot.name}"
        if self.slot.kind is Kind.RULES and self.after is not None:
            return f"nft -f - <<END\n{self.commands[0][1]}END"
        text = "; ".join(" ".join(words).strip() for words in self.commands)
        if self.slot.kind in (Kind.SYSCTL, Kind.MTU) and self.before is not None:
            return f"{text}  # was {self.before}"
        return text


def same(slot: Slot, one: str | None, other: str | None) -> bool:
    """Do two values say the same? Tables are known by the digest in their comment, since every
    version of nft prints them in its own way."""
    if slot.kind is Kind.RULES and one is not None and other is not None:
        return _comment(one) == _comment(other)
    return one == other


def _comment(table: str) -> str:
    found = re.search(r'comment "([^"]*)"', table)
    return found[1] if found else table


Words = tuple[tuple[str, ...], ...]


def _module(change: Change) -> Words:
    return (("modprobe", *(() if change.after else ("-r",)), change.slot.name),)


def _link(change: Change) -> Words:
    removed = (("ip", "link", "del", change.slot.name),) if change.before else ()
    if change.after is None:
        return removed
    return (*removed, ("ip", "link", "add", change.slot.name, *change.after.split()))


def _fou(change: Change) -> Words:
    family = f"-{change.slot.at}"
    if change.after is None:
        return (("ip", family, "fou", "del", "port", change.slot.name),)
    return (("ip", family, "fou", "add", "port", change.slot.name, change.after),)


def _address(change: Change) -> Words:
    """The new one first: an address that goes and comes back takes routes with it."""
    before, after = (
        set((value or "").split(",")) - {""} for value in (change.before, change.after)
    )
    version = ip_address(change.slot.name).version
    nodad = ("nodad",) if version == 6 else ()
    lines = [
        ("ip", "address", verb, f"{change.slot.name}/{prefix}", "dev", change.slot.at, *flags)
        for verb, prefixes, flags in (("add", after - before, nodad), ("del", before - after, ()))
        for prefix in sorted(prefixes)
    ]
    return tuple(reversed(lines)) if version == 6 else tuple(lines)  # IPv6: one prefix at a time


def _rules(change: Change) -> Words:
    """One transaction: the old table goes when the new one comes."""
    removal = f"delete table {change.slot.name} {TABLE}\n" if change.before is not None else ""
    return (("nft", removal + (change.after or "")),)


def _decap(change: Change) -> Words:
    device, command = change.slot.name, ("kernlb", "realserver", "decap")
    if change.after is None:
        return ((*command, "detach", device),)
    return ((*command, "attach", device, *change.after.split()),)


_COMMANDS: dict[Kind, Callable[[Change], Words]] = {
    Kind.SYSCTL: lambda change: (("sysctl", "-w", f"{written(change.slot.name)}={change.after}"),),
    Kind.MODULE: _module,
    Kind.LINK: _link,
    Kind.UP: lambda change: (("ip", "link", "set", change.slot.name, change.after or "down"),),
    Kind.MTU: lambda change: (("ip", "link", "set", change.slot.name, "mtu", change.after or ""),),
    Kind.FOU: _fou,
    Kind.ADDRESS: _address,
    Kind.RULES: _rules,
    Kind.DECAP: _decap,
}
