"""How a declared service is watched, and what it is taken for before its checks have spoken.

A server that the kernel lets work keeps its place; one that is not there waits for its first good
answer. What cannot be read counts as there: nobody loses a server because the kernel could not be
asked. Reads the kernel, never writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from kernlb.daemon.runtime import RuntimeState
from kernlb.datapath import Datapath
from kernlb.declaration import Declaration
from kernlb.health import damping, fsm
from kernlb.health.check import (
    AgentCheck,
    Carried,
    Check,
    ExecCheck,
    Initial,
    Several,
    Target,
    Via,
    Watch,
)
from kernlb.health.fsm import Condition
from kernlb.health.monitor import Key
from kernlb.health.stance import Stance, resumed
from kernlb.model import AddressKey, DatapathKind, RealServer, ServerKey

Datapaths = Mapping[DatapathKind, Datapath]
Carry = Callable[[Declaration, RealServer], Carried | None]


@dataclass(slots=True)
class Watched:
    """A server as one service watches it. ``percent`` holds until its agent is heard; ``went``
    counts how often it came into which condition."""

    key: Key
    begins: Condition
    percent: int | None = None
    flapping: damping.Flapping = damping.CALM
    went: Counter[Condition] = field(default_factory=Counter)


@dataclass(slots=True)
class Service:
    """A declared service: its watched servers, where it stands, and who is in the kernel, with
    any weight, or was."""

    declaration: Declaration
    watched: dict[ServerKey, Watched]
    stance: Stance
    placed: Set[ServerKey]
    ever_placed: Set[ServerKey]


Servers = Mapping[ServerKey, RealServer]


class Beginnings:
    """``carry`` gives the forwarding path to a server that is to be probed at its VIP."""

    def __init__(self, datapaths: Datapaths, runtime: RuntimeState, carry: Carry) -> None:
        self._datapaths = datapaths
        self._runtime = runtime
        self._carry = carry

    def service(self, declaration: Declaration, old: Service | None) -> Service:
        """As it begins, or goes on from ``old`` with what has not changed."""
        watched: dict[ServerKey, Watched] = {}
        known = old.watched if old is not None else {}
        fresh: list[tuple[RealServer, Key]] = []
        for server, key in self._keys(declaration):
            same = known.get(server.key)
            if same is not None and same.key == key:
                watched[server.key] = same
            else:
                fresh.append((server, key))
        if old is not None and not fresh:
            return _goes_on(declaration, watched, old)
        there, readable = self._read(declaration)
        for server, key in fresh:
            before = known.get(server.key)
            new = before is None if old is not None else there is None
            each = _begun(declaration, server, key, there or {}, new=new)
            if not readable:
                each.begins = Condition.UNCONFIRMED
            if before is not None:
                each.went, each.flapping = before.went, before.flapping
            watched[server.key] = each
        if old is not None:
            return _goes_on(declaration, watched, old)
        serves = any(each.begins.good for each in watched.values())
        stance = resumed(self._runtime.stances.get(declaration.ref), serves=serves)
        placed = (there or {}).keys() if readable else watched.keys()
        return Service(declaration, watched, stance, placed, placed)

    def _keys(self, declaration: Declaration) -> Iterator[tuple[RealServer, Key]]:
        for server in declaration.servers:
            watch = declaration.watches.get(server.key)
            if watch is not None:
                target = self._target(declaration, server, watch)
                yield server, Key(watch.check, watch.timing, target)

    def _target(self, declaration: Declaration, server: RealServer, watch: Watch) -> Target:
        """The service is part of it only where the probe has to know: others share it."""
        service = declaration.service.key
        carried = self._carry(declaration, server) if watch.via is Via.VIP else None
        if isinstance(service, AddressKey) and (
            carried is not None or _has(watch.check, ExecCheck)
        ):
            return Target(server.address, server.port, service.address, service.port, carried)
        return Target(server.address, server.port, carried=carried)

    def _read(self, declaration: Declaration) -> tuple[Servers | None, bool]:
        """Its servers in the kernel, None where the service is not there; and whether the kernel
        could be asked at all."""
        datapath = self._datapaths.get(declaration.datapath)
        key = declaration.service.key
        if datapath is None:
            return None, False
        try:
            found = datapath.read([key]).get(key)
        except OSError:
            return None, False  # the reconciliation says what is wrong
        return (found.by_key() if found is not None else None), True


def _goes_on(declaration: Declaration, watched: dict[ServerKey, Watched], old: Service) -> Service:
    ever = old.ever_placed & {server.key for server in declaration.servers}
    return Service(declaration, watched, old.stance, old.placed, ever)


def _begun(
    declaration: Declaration, server: RealServer, key: Key, there: Servers, *, new: bool
) -> Watched:
    """``new``: nobody can have taken it out of the kernel for its health."""
    now = there.get(server.key)
    serves = now is not None and now.weight > 0
    initial = declaration.health.initial if new else Initial.WAIT
    watched = Watched(key, fsm.first(serves, initial))
    if now is not None and serves and server.weight and _has(key.check, AgentCheck):
        watched.percent = min(100, max(1, round(now.weight * 100 / server.weight)))
    return watched


def _has(check: Check, kind: type) -> bool:
    checks = check.checks if isinstance(check, Several) else (check,)
    return any(isinstance(each, kind) for each in checks)
