"""Health in the daemon: declarations become watches, conditions become standings.

Follows the declarations in force, has the monitor watch what they name, and answers the one
question that intent has: how does each server of this service stand? When that changes, the
services concerned are reconciled. Nothing here writes the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from kernlb.daemon.events import Events
from kernlb.datapath import Datapath
from kernlb.declaration import Declaration
from kernlb.health import damping, fsm
from kernlb.health.check import Carried, ExecCheck, Several, Target, Via, Watch
from kernlb.health.fsm import Condition
from kernlb.health.monitor import Key, Monitor, Subject
from kernlb.health.policy import Phase, Seen, Stance, judge
from kernlb.intent import Admins, Standings, Verdict
from kernlb.model import AddressKey, DatapathKind, RealServer, ServerKey, ServiceRef, ServiceState

CAUSE = "health"
_OUT = (Verdict.DOWN, Verdict.WAITING)  # of the kernel

Datapaths = Mapping[DatapathKind, Datapath]
Carry = Callable[[Declaration, RealServer], Carried | None]
Wake = Callable[[Sequence[ServiceRef], str], Awaitable[object]]


@dataclass(slots=True)
class Watched:
    """A server as one service watches it."""

    key: Key
    begins: Condition
    flapping: damping.Flapping = damping.CALM


@dataclass(slots=True)
class _Service:
    declaration: Declaration
    watched: dict[ServerKey, Watched]
    stance: Stance
    placed: Set[ServerKey]  # in the kernel, with any weight


class HealthKeeper:
    """Standings of the servers of all declared services.

    ``carry`` gives the forwarding path to a server that is to be probed at its VIP.
    """

    def __init__(self, datapaths: Datapaths, events: Events, carry: Carry) -> None:
        self._datapaths = datapaths
        self._events = events
        self._carry = carry
        self.monitor: Monitor  # from use() on
        self._services: dict[ServiceRef, _Service] = {}
        self._watchers: dict[Key, list[tuple[ServiceRef, ServerKey]]] = {}
        self._concerned: dict[ServiceRef, None] = {}
        self._wanted = asyncio.Event()
        self._releases: dict[ServiceRef, asyncio.TimerHandle] = {}

    def use(self, monitor: Monitor) -> None:
        """Before anything is declared."""
        self.monitor = monitor

    # -- declarations

    def follow(self, declarations: Mapping[str, Declaration]) -> None:
        """These are in force from now on. A server that the kernel holds keeps its place."""
        before, self._services = self._services, {}
        for declaration in declarations.values():
            if not declaration.watches:
                continue
            old = before.get(declaration.ref)
            if old is not None and old.declaration is declaration:
                self._services[declaration.ref] = old
            else:
                self._services[declaration.ref] = self._service(declaration, old)
        for ref in before.keys() - self._services.keys():
            self._concerned.pop(ref, None)
            if timer := self._releases.pop(ref, None):
                timer.cancel()
        self._watchers = {}
        wanted: dict[Key, bool] = {}
        for ref, service in self._services.items():
            for server, each in service.watched.items():
                self._watchers.setdefault(each.key, []).append((ref, server))
                wanted[each.key] = wanted.get(each.key, False) or each.begins.good
        self.monitor.watch(wanted)

    def _service(self, declaration: Declaration, old: _Service | None) -> _Service:
        watched: dict[ServerKey, Watched] = {}
        known = old.watched if old is not None else {}
        fresh: list[tuple[RealServer, Key]] = []
        for server, key in self._keys(declaration):
            same = known.get(server.key)
            if same is not None and same.key == key:
                watched[server.key] = same
            else:
                fresh.append((server, key))
        there = self._read(declaration) if fresh else None
        held = there.by_key() if there is not None else {}
        for server, key in fresh:
            now = held.get(server.key)
            serves = now is not None and now.weight > 0
            watched[server.key] = Watched(key, fsm.first(serves, declaration.health.initial))
        if old is not None:
            return _Service(declaration, watched, old.stance, old.placed)
        stance = Stance()
        if there is not None and not there.serves and declaration.health.withdraw_vip:
            stance = Stance(Phase.BELOW)  # it was so before a restart: only good results end it
        return _Service(declaration, watched, stance, held.keys())

    def _keys(self, declaration: Declaration) -> Iterator[tuple[RealServer, Key]]:
        for server in declaration.servers:
            watch = declaration.watches.get(server.key)
            if watch is not None:
                yield (
                    server,
                    Key(watch.check, watch.timing, self._target(declaration, server, watch)),
                )

    def _target(self, declaration: Declaration, server: RealServer, watch: Watch) -> Target:
        """The service is part of it only where the probe has to know: others share it."""
        service = declaration.service.key
        carried = self._carry(declaration, server) if watch.via is Via.VIP else None
        if isinstance(service, AddressKey) and (carried is not None or _has_program(watch)):
            return Target(server.address, server.port, service.address, service.port, carried)
        return Target(server.address, server.port, carried=carried)

    def _read(self, declaration: Declaration) -> ServiceState | None:
        datapath = self._datapaths.get(declaration.datapath)
        key = declaration.service.key
        try:
            return None if datapath is None else datapath.read([key]).get(key)
        except OSError:
            return None  # the reconciliation says what is wrong

    # -- what intent asks

    def standings(self, declaration: Declaration, holds: Admins, *, final: bool) -> Standings:
        """How the servers stand. ``final``: this is what the kernel will hold from now on; else
        only what would be, of a declaration that need not be in force."""
        if not declaration.watches:
            return {}
        service = self._services.get(declaration.ref)
        if service is None or service.declaration is not declaration:
            service, final = self._service(declaration, service), False
        now = self.monitor.now
        seen = [self._seen(service, server, holds, now) for server in declaration.servers]
        judged = judge(
            declaration.health, seen, service.stance, sorry=bool(declaration.sorry_servers)
        )
        if final:
            service.stance = judged.stance
            service.placed = {
                key for key, each in judged.standings.items() if each.verdict not in _OUT
            }
            for word in judged.words:
                self._events.add(f"{declaration.name}: {word.text}", CAUSE)
        return judged.standings

    def _seen(self, service: _Service, server: RealServer, holds: Admins, now: float) -> Seen:
        watched = service.watched.get(server.key)
        subject = self.monitor.subjects.get(watched.key) if watched is not None else None
        seen = Seen(
            server.key,
            server.weight,
            watched.begins if watched is not None else Condition.UP,
            held=server.key in holds,
            in_kernel=server.key in service.placed,
        )
        if watched is None or subject is None:
            return seen
        return seen._replace(
            condition=self._condition(service, watched, subject, now),
            percent=subject.wish.percent,
            leaving=subject.wish.leaving,
            last_good=subject.state.last_good,
            failures=subject.state.failures,
        )

    def _condition(
        self, service: _Service, watched: Watched, subject: Subject, now: float
    ) -> Condition:
        limits = service.declaration.health.damping
        watched.flapping = damping.settled(watched.flapping, limits, now)
        condition = fsm.seen_by(watched.begins, subject.state.condition)
        return damping.damped(watched.flapping, condition)

    @property
    def withdrawn(self) -> frozenset[ServiceRef]:
        """Services whose VIP is to be taken away."""
        return frozenset(ref for ref, each in self._services.items() if each.stance.withdrawn)

    # -- what the monitor says

    def changed(self, transitions: Mapping[Key, fsm.Transition | None]) -> None:
        """Conditions are others now; None: only what the server asks for is."""
        now = self.monitor.now
        for key, transition in transitions.items():
            refs = self._watchers.get(key, [])
            if transition is not None and not transition.confirms and refs:
                self._tell(transition, refs)
            for ref, server in refs:
                if transition is not None:
                    self._hear(ref, server, transition, now)
                self._concerned[ref] = None
        self._wanted.set()

    def _tell(
        self, transition: fsm.Transition, refs: Sequence[tuple[ServiceRef, ServerKey]]
    ) -> None:
        names = sorted({self._services[ref].declaration.name for ref, _ in refs})
        where = names[0] if len(names) == 1 else f"{len(names)} services ({', '.join(names[:3])})"
        count = f"{transition.reached} of {transition.needed}"
        text = f"{refs[0][1]} of {where} is {transition.new}: {transition.result} ({count})"
        self._events.add(text, CAUSE)

    def _hear(
        self, ref: ServiceRef, server: ServerKey, transition: fsm.Transition, now: float
    ) -> None:
        service = self._services[ref]
        watched, limits = service.watched[server], service.declaration.health.damping
        old = fsm.seen_by(watched.begins, transition.old)
        if not damping.counts(old, transition.new):
            return
        before = watched.flapping.held
        watched.flapping = damping.changed(watched.flapping, limits, now)
        if watched.flapping.held and not before:
            self._events.add(f"{server} of {service.declaration.name} flaps: held down", CAUSE)
        self._release_later(ref)

    def _release_later(self, ref: ServiceRef) -> None:
        """Have the service looked at when the first server that is held down may be let go."""
        if timer := self._releases.pop(ref, None):
            timer.cancel()
        service = self._services[ref]
        limits = service.declaration.health.damping
        dues = [damping.release(each.flapping, limits) for each in service.watched.values()]
        if any(due is not None for due in dues):
            first = min(due for due in dues if due is not None)
            loop = asyncio.get_running_loop()
            self._releases[ref] = loop.call_at(first, self._release, ref)

    def _release(self, ref: ServiceRef) -> None:
        self._releases.pop(ref, None)
        service, now = self._services[ref], self.monitor.now
        for each in service.watched.values():
            each.flapping = damping.settled(each.flapping, service.declaration.health.damping, now)
        self._release_later(ref)
        self._concerned[ref] = None
        self._wanted.set()

    async def run(self, wake: Wake) -> None:
        """Have services reconciled whose standings may have changed, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            refs, self._concerned = list(self._concerned), {}
            if refs:
                await wake(refs, CAUSE)


def _has_program(watch: Watch) -> bool:
    checks = watch.check.checks if isinstance(watch.check, Several) else (watch.check,)
    return any(isinstance(check, ExecCheck) for check in checks)
