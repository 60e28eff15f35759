"""Health in the daemon: declarations become watches, conditions become standings.

Follows the declarations in force, has the monitor watch what they name, and answers the one
question that intent has: how does each server of this service stand? When that changes, the
services concerned are reconciled. Nothing here writes the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from kernlb.daemon import health_sentences
from kernlb.daemon.events import Events
from kernlb.daemon.runtime import RuntimeState
from kernlb.daemon.stances import Stances
from kernlb.daemon.watching import Beginnings, Carry, Datapaths, Service, Watched
from kernlb.declaration import Declaration
from kernlb.health import damping, fsm
from kernlb.health.fsm import Condition
from kernlb.health.monitor import Key, Monitor, Subject
from kernlb.health.policy import Judgement, Seen, judge
from kernlb.intent import Admins, Standings, Verdict
from kernlb.model import RealServer, ServerKey, ServiceRef

CAUSE = "health"
_OUT = (Verdict.DOWN, Verdict.WAITING)  # of the kernel

Declared = Mapping[str, Declaration]
Wake = Callable[[Sequence[ServiceRef], str], Awaitable[object]]


class HealthKeeper:
    """Standings of the servers of all declared services.

    ``carry`` gives the forwarding path to a server that is to be probed at its VIP; ``look``
    hears what is in force, each time that it is another.
    """

    def __init__(
        self,
        datapaths: Datapaths,
        runtime: RuntimeState,
        events: Events,
        carry: Carry,
        look: Callable[[Declared], None] = lambda declared: None,
    ) -> None:
        self._beginnings = Beginnings(datapaths, runtime, carry)
        self._stances = Stances(runtime, events)
        self._events = events
        self._look = look
        self.monitor: Monitor  # from use() on
        self.ejected: Callable[[ServiceRef, ServerKey], bool] = lambda ref, server: False
        self.services: Mapping[ServiceRef, Service] = {}
        self._watchers: dict[Key, list[tuple[ServiceRef, ServerKey]]] = {}
        self._withdrawn: set[ServiceRef] = set()
        self._concerned: dict[ServiceRef, None] = {}
        self._wanted = asyncio.Event()
        self._releases: dict[ServiceRef, asyncio.TimerHandle] = {}

    def use(self, monitor: Monitor) -> None:
        """Before anything is declared."""
        self.monitor = monitor

    # -- declarations

    def follow(self, declarations: Declared) -> None:
        """These are in force from now on. A server that the kernel holds keeps its place."""
        services: dict[ServiceRef, Service] = {}
        changed: list[ServiceRef] = []
        for declaration in declarations.values():
            if declaration.watches:
                old = self.services.get(declaration.ref)
                if old is None or old.declaration is not declaration:
                    old = self._beginnings.service(declaration, old)
                    changed.append(declaration.ref)
                services[declaration.ref] = old
        for ref in self.services.keys() - services.keys():
            self._concerned.pop(ref, None)
            if timer := self._releases.pop(ref, None):
                timer.cancel()
        self.services = services
        self._withdrawn &= services.keys()
        for ref in changed:
            if services[ref].declaration.health.withdraw_vip and services[ref].stance.withdrawn:
                self._withdrawn.add(ref)
            self._release_later(ref)
        self._stances.follow({each.ref for each in declarations.values()}, services.keys())
        self._watchers = {}
        wanted: dict[Key, bool] = {}
        for ref, service in services.items():
            for server, each in service.watched.items():
                self._watchers.setdefault(each.key, []).append((ref, server))
                wanted[each.key] = wanted.get(each.key, False) or each.begins.good
        self.monitor.watch(wanted)
        self._look(declarations)

    # -- what intent asks

    def standings(self, declaration: Declaration, holds: Admins, *, final: bool) -> Standings:
        """How the servers stand. ``final``: this is what the kernel will hold from now on; else
        only what would be, of a declaration that need not be in force."""
        if not declaration.watches:
            return {}
        service = self._service(declaration)
        judged = self._judge(service, holds)
        if final and self.services.get(declaration.ref) is service:
            self._settle(service, judged)
        return judged.standings

    def withdraws(self, declaration: Declaration, holds: Admins) -> bool:
        """Would the VIP of any declaration not be there now?"""
        if not (declaration.watches and declaration.health.withdraw_vip):
            return False
        return self._judge(self._service(declaration), holds).stance.withdrawn

    @property
    def withdrawn(self) -> frozenset[ServiceRef]:
        """Services whose VIP is to be taken away."""
        return frozenset(self._withdrawn)

    def write_down(self, cause: str) -> None:
        """Where services stand, for a daemon that is started after this one."""
        self._stances.write_down(cause)

    def _service(self, declaration: Declaration) -> Service:
        """The service in force, or what it would be by another declaration."""
        service = self.services.get(declaration.ref)
        if service is not None and service.declaration is declaration:
            return service
        return self._beginnings.service(declaration, service)

    def _judge(self, service: Service, holds: Admins) -> Judgement:
        now, declaration = self.monitor.now, service.declaration
        seen = [self._seen(service, server, holds, now) for server in declaration.servers]
        sorry = bool(declaration.sorry_servers)
        return judge(declaration.health, seen, service.stance, sorry=sorry)

    def _settle(self, service: Service, judged: Judgement) -> None:
        service.stance = judged.stance
        self._stances.note(service.declaration.ref, judged.stance)
        placed = (key for key, each in judged.standings.items() if each.verdict not in _OUT)
        service.placed = frozenset(placed)
        service.ever_placed |= service.placed
        if judged.stance.withdrawn:
            self._withdrawn.add(service.declaration.ref)
        else:
            self._withdrawn.discard(service.declaration.ref)
        name = service.declaration.name
        for word in judged.words:
            self._events.add(f"service {name} {word.text}", CAUSE, name)

    def _seen(self, service: Service, server: RealServer, holds: Admins, now: float) -> Seen:
        watched = service.watched.get(server.key)
        subject = self.monitor.subjects.get(watched.key) if watched is not None else None
        seen = Seen(
            server.key,
            server.weight,
            watched.begins if watched is not None else Condition.UP,
            percent=watched.percent if watched is not None else None,
            held=server.key in holds,
            in_kernel=server.key in service.placed,
            was_in=server.key in service.ever_placed,
        )
        if watched is None or subject is None:
            return seen
        heard = subject.state.last_good is not None
        return seen._replace(
            condition=self._condition(service, server.key, watched, subject, now),
            percent=subject.wish.percent if heard else seen.percent,
            leaving=subject.wish.leaving,
            last_good=subject.state.last_good,
            failures=subject.state.failures,
        )

    def _condition(
        self,
        service: Service,
        server: ServerKey,
        watched: Watched,
        subject: Subject,
        now: float,
    ) -> Condition:
        limits = service.declaration.health.damping
        condition = fsm.seen_by(watched.begins, subject.state.condition)
        if condition.good and self.ejected(service.declaration.ref, server):
            return Condition.HELD
        return damping.damped(damping.settled(watched.flapping, limits, now), condition)

    # -- what readers ask

    def condition(self, service: Service, server: ServerKey, watched: Watched) -> Condition:
        """A server as its service sees it now."""
        subject = self.monitor.subjects.get(watched.key)
        if subject is None:
            return watched.begins
        return self._condition(service, server, watched, subject, self.monitor.now)

    def sharing(self, key: Key) -> int:
        """How many servers of services one probe speaks for."""
        return len(self._watchers.get(key, ()))

    # -- what the monitor says

    def changed(self, transitions: Mapping[Key, fsm.Transition | None]) -> None:
        """Conditions are others now; None: only what the server asks for is."""
        now = self.monitor.now
        for key, transition in transitions.items():
            refs = self._watchers.get(key, [])
            if transition is not None:
                self._tell(*health_sentences.of_transition(transition, self.services, refs))
            for ref, server in refs:
                if transition is not None:
                    self._hear(ref, server, transition, now)
                self._concerned[ref] = None
        self._wanted.set()

    def _tell(self, *sentences: health_sentences.Sentence) -> None:
        for text, service, server in sentences:
            self._events.add(text, CAUSE, service, server)

    def _hear(
        self, ref: ServiceRef, server: ServerKey, transition: fsm.Transition, now: float
    ) -> None:
        service = self.services[ref]
        watched, limits = service.watched[server], service.declaration.health.damping
        old = fsm.seen_by(watched.begins, transition.old)
        self._let_go(service, server, old, now)
        if old.good is not transition.new.good or old is Condition.WAITING:
            watched.went[transition.new] += 1
        if not damping.counts(old, transition.new):
            return
        before = watched.flapping.held
        watched.flapping = damping.changed(watched.flapping, limits, now)
        if watched.flapping.held and not before:
            name = service.declaration.name
            self._tell(health_sentences.held_down(name, server, limits))
        self._release_later(ref)

    def _release_later(self, ref: ServiceRef) -> None:
        """Have the service looked at when the first server that is held down may be let go."""
        if timer := self._releases.pop(ref, None):
            timer.cancel()
        service = self.services[ref]
        limits = service.declaration.health.damping
        dues = [damping.release(each.flapping, limits) for each in service.watched.values()]
        if any(due is not None for due in dues):
            first = min(due for due in dues if due is not None)
            loop = asyncio.get_running_loop()
            self._releases[ref] = loop.call_at(first, self._release, ref)

    def _release(self, ref: ServiceRef) -> None:
        self._releases.pop(ref, None)
        service, now = self.services[ref], self.monitor.now
        for server, each in service.watched.items():
            state = self.monitor.subjects[each.key].state
            self._let_go(service, server, fsm.seen_by(each.begins, state.condition), now)
        self._release_later(ref)
        self._concerned[ref] = None
        self._wanted.set()

    def _let_go(
        self, service: Service, server: ServerKey, condition: Condition, now: float
    ) -> None:
        """Hold a server down no longer that was quiet for long enough."""
        watched, limits = service.watched[server], service.declaration.health.damping
        held = watched.flapping.held
        watched.flapping = damping.settled(watched.flapping, limits, now)
        if held and not watched.flapping.held and condition is not Condition.WAITING:
            self._tell(health_sentences.let_go(service.declaration.name, server, limits, condition))

    def again(self, refs: Sequence[ServiceRef]) -> None:
        """Have services judged anew: something that is no probe has spoken of their servers."""
        self._concerned.update(dict.fromkeys(ref for ref in refs if ref in self.services))
        self._wanted.set()

    async def run(self, wake: Wake) -> None:
        """Have services reconciled whose standings may have changed, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            refs, self._concerned = list(self._concerned), {}
            if refs:
                try:
                    await wake(refs, CAUSE)
                except OSError as error:  # the audit looks again
                    self._events.add(f"cannot follow the checks: {error}", CAUSE)
