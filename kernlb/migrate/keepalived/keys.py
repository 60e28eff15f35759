"""What virtual servers are reached by: addresses, marks, and groups of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import address, addresses, number, port, word
from kernlb.migrate.report import Place
from kernlb.model import MAX_FWMARK, IPAddress


@dataclass(frozen=True, slots=True)
class Key:
    """An address with its port (0: every port), or a mark; ``family`` 4, 6 or 0: not said."""

    place: Place
    address: IPAddress | None = None
    port: int = 0
    fwmark: int = 0
    family: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    keys: tuple[Key, ...]
    by: Directive


def read_group(directive: Directive, ledger: Ledger) -> Group | None:
    """A virtual_server_group; None: it has no name or nothing in it."""
    if not directive.args:
        ledger.lost(directive, "has no name")
        return None
    keys: list[Key] = []
    for entry in directive.block or ():
        try:
            keys.extend(_entry(entry))
        except ValueError as error:
            ledger.lost(entry, f"{error}: keepalived ignores it")
            continue
        ledger.use(entry, 2 if entry.name == "fwmark" else 1)
        ledger.leftover(entry)
    if not keys:
        ledger.lost(directive, "has nothing in it: keepalived ignores it")
        return None
    ledger.use(directive, 1)
    return Group(directive.args[0], tuple(keys), directive)


def read_key(directive: Directive) -> Key:
    """Of ``virtual_server ADDRESS [PORT]`` or ``virtual_server fwmark N``. Raises ValueError."""
    if directive.args[:1] == ("fwmark",):
        return Key(directive.place, fwmark=_mark(word(directive, 1)))
    where = address(word(directive))
    return Key(directive.place, where, port(directive.args), family=where.version)


def _entry(entry: Directive) -> list[Key]:
    if entry.name == "fwmark":
        family = {"inet": 4, "inet6": 6, "": 0}.get(entry.args[1] if entry.args[1:] else "")
        if family is None:
            raise ValueError(f"{entry.args[1]} is no family")
        return [Key(entry.place, fwmark=_mark(word(entry)), family=family)]
    at = port(entry.args, 0)
    return [Key(entry.place, each, at, family=each.version) for each in addresses(entry.name)]


def _mark(text: str) -> int:
    mark = number(text, 0, MAX_FWMARK)
    if mark == 0:
        raise ValueError("mark 0 is no mark: the kernel takes it for an address")
    return mark
