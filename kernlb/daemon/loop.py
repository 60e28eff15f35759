"""The loop: desired, observed, diff, apply. The only writer of the kernel.

Every wake-up (a reload, an API call, the audit, a deadline) names the services it concerns and
comes through :meth:`Reconciler.reconcile`; the wake-up carries no other meaning. A wake-up costs
what it concerns: nothing here walks all services but at the start.

Rules:

* ownership is written down before a service is made and forgotten after it is gone;
* a service in the kernel that is not owned is never changed: a declaration of its key is a
  CONFLICT until an operator adopts it;
* nothing is taken away from a service (stage BREAK) when something that should come first
  (stage MAKE) was refused;
* VIPs come after the servers behind them and go before the services they lead to;
* what was written is read back: a difference that remains is a failure, not a success.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from kernlb.control.protocol import SyncState
from kernlb.daemon.draft import Draft, Share, draft
from kernlb.daemon.events import Events
from kernlb.daemon.runtime import RuntimeState
from kernlb.daemon.vips import VipKeeper
from kernlb.datapath import Datapath, Failure
from kernlb.declaration import Declaration
from kernlb.intent import Intent, intend
from kernlb.model import DatapathKind, ServiceRef, ServiceState
from kernlb.plan import Op, Plan, Stage
from kernlb.vip.plan import VipOp

BATCH = 32  # services reconciled between two turns of the event loop
SLICE = 256  # ops given to a datapath between two turns of the event loop
_SHOWN = 4  # ops spelled out in an event; more are counted

Clock = Callable[[], float]
Declarations = Mapping[str, Declaration]


@dataclass(frozen=True, slots=True)
class Report:
    """How a declared service stood after it was last looked at."""

    state: SyncState
    error: str = ""


@dataclass(slots=True)
class Outcome:
    """What a reconciliation did, or would do. ``failures`` are in an operator's words."""

    ops: list[Op] = field(default_factory=list)
    vip_ops: list[VipOp] = field(default_factory=list)
    moved: dict[ServiceRef, Share] = field(default_factory=dict)
    conflicts: set[ServiceRef] = field(default_factory=set)
    failures: dict[ServiceRef, str] = field(default_factory=dict)
    vip_failures: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        return [*self.failures.values(), *self.vip_failures]

    def add(self, made: Draft) -> Outcome:
        for plan in made.plans.values():
            self.ops.extend(plan)
        self.moved |= made.moved
        self.conflicts |= made.conflicts
        return self


class Reconciler:
    """Holds what is declared; makes the kernel hold it too."""

    def __init__(
        self,
        datapaths: Mapping[DatapathKind, Datapath],
        runtime: RuntimeState,
        vips: VipKeeper,
        events: Events,
        clock: Clock,
    ) -> None:
        self.datapaths = datapaths
        self.runtime = runtime
        self.vips = vips
        self.events = events
        self.declarations: dict[str, Declaration] = {}
        self.held: frozenset[str] = frozenset()  # names whose file is bad and was never good
        self.reports: dict[ServiceRef, Report] = {}
        self.verified: dict[ServiceRef, tuple[bytes, ServiceState]] = {}
        self.drift_repaired = 0
        self.lock = asyncio.Lock()
        self._clock = clock
        self._by_ref: dict[ServiceRef, Declaration] = {}
        self._intents: dict[ServiceRef, Intent] = {}
        self._vips_stale = True

    # -- what is wanted

    def declare(self, declarations: Declarations, held: Iterable[str] = ()) -> list[ServiceRef]:
        """Replace what is declared; the services that this concerns."""
        before = self.declarations
        self.held = frozenset(held)
        concerned = self._concerned(declarations, self.held)
        for name in before.keys() | declarations.keys():
            old, new = before.get(name), declarations.get(name)
            if old is not new:
                self._vips_stale = True
                self._drop_holds(old, new)
        self.declarations = dict(declarations)
        self._by_ref = {declaration.ref: declaration for declaration in declarations.values()}
        for ref in concerned:
            self._intents.pop(ref, None)
            if ref not in self._by_ref:
                self.reports.pop(ref, None)
        return concerned

    def _concerned(self, wanted: Declarations, held: Set[str]) -> list[ServiceRef]:
        """Services that differ between what is declared and what is wanted; those that go
        come last."""
        before = self.declarations
        changed: dict[ServiceRef, None] = {}
        for name, new in wanted.items():
            old = before.get(name)
            if old is not new and old != new:
                changed[new.ref] = None
        refs = {declaration.ref for declaration in wanted.values()}
        gone = {
            ref: None
            for ref, name in self.runtime.owned.items()
            if ref not in refs and name not in held
        }
        return [*changed, *gone]

    async def preview(
        self,
        wanted: Declarations,
        held: Set[str],
        *,
        everything: bool = False,
        adopting: Set[ServiceRef] = frozenset(),
    ) -> Outcome:
        """What declaring ``wanted`` would do; with ``everything``, drift of the rest too."""
        by_ref = {declaration.ref: declaration for declaration in wanted.values()}
        refs = dict.fromkeys(self._concerned(wanted, held))
        if everything:
            refs = dict.fromkeys([*by_ref, *refs])

        def intent(ref: ServiceRef) -> Intent | None:
            declaration = by_ref.get(ref)
            return None if declaration is None else self.intent_of(declaration)

        owned = self.runtime.owned.keys() | adopting
        outcome = Outcome()
        for batch in _batches(refs):
            made = self.draft(batch, intent, owned)
            outcome.add(made)
            for ref in made.conflicts:
                outcome.failures[ref] = _conflict(by_ref[ref])
            await asyncio.sleep(0)
        outcome.vip_ops = await self.vips.draft(wanted.values())
        return outcome

    def declared(self, ref: ServiceRef) -> Declaration | None:
        return self._by_ref.get(ref)

    def intent(self, ref: ServiceRef) -> Intent | None:
        """What the kernel should hold for a service now; None: nothing."""
        declaration = self._by_ref.get(ref)
        return None if declaration is None else self.intended(declaration)

    def intended(self, declaration: Declaration) -> Intent:
        """The intent for a service that is declared."""
        found = self._intents.get(declaration.ref)
        if found is None:
            found = self._intents[declaration.ref] = self.intent_of(declaration)
        return found

    def intent_of(self, declaration: Declaration) -> Intent:
        return intend(declaration, {}, self.runtime.holds(declaration.name), self._clock())

    def wake(self, refs: Iterable[ServiceRef]) -> None:
        """Forget what was concluded about services: something that they depend on changed."""
        for ref in refs:
            self._intents.pop(ref, None)

    def draft(
        self,
        refs: Sequence[ServiceRef],
        intent: Callable[[ServiceRef], Intent | None],
        owned: Container[ServiceRef] | None = None,
    ) -> Draft:
        """What would change to make ``refs`` as ``intent`` says. Reads, never writes."""
        return draft(self.datapaths, self.runtime.owned if owned is None else owned, refs, intent)

    # -- carry out

    async def reconcile(self, refs: Iterable[ServiceRef], cause: str) -> Outcome:
        """Make the kernel hold what is wanted for ``refs``; nothing else is touched."""
        async with self.lock:
            return await self.reconcile_locked(refs, cause)

    async def reconcile_locked(self, refs: Iterable[ServiceRef], cause: str) -> Outcome:
        outcome = Outcome()
        kept: list[ServiceRef] = []
        gone: list[ServiceRef] = []
        for ref in refs:
            (kept if ref in self._by_ref else gone).append(ref)
        for batch in _batches(kept):
            await self._round(batch, cause, outcome)
            await asyncio.sleep(0)
        if self._vips_stale or cause == "audit":
            outcome.vip_ops, outcome.vip_failures = await self.vips.keep(
                self.declarations.values(), outcome.failures.keys(), cause
            )
            self._vips_stale = bool(outcome.vip_failures or outcome.failures)
        for batch in _batches(gone):
            await self._round(batch, cause, outcome)
            await asyncio.sleep(0)
        return outcome

    async def _round(self, refs: list[ServiceRef], cause: str, outcome: Outcome) -> None:
        try:
            made = self.draft(refs, self.intent)
            failures = await self._carry_out(made)
            sound = [ref for ref in refs if ref not in failures and ref not in made.conflicts]
            failures |= self._read_back(sound, made)
        except OSError as error:
            for ref in refs:
                self._report(ref, SyncState.FAILED, str(error), outcome)
            return
        for ref in made.conflicts:
            self._report(ref, SyncState.CONFLICT, _conflict(self._by_ref[ref]), outcome)
        outcome.add(made)
        for ref in refs:
            ops = made.ops.get(ref, [])
            if ref in made.conflicts:
                continue
            if ref in failures:
                self._report(ref, SyncState.FAILED, failures[ref], outcome)
                continue
            self._tell(ref, ops, cause)
            if ref in self._by_ref:
                self._report(ref, SyncState.SYNCED, "", outcome)
        self.runtime.disown(ref for ref in refs if ref not in self._by_ref and ref not in failures)

    async def _carry_out(self, made: Draft) -> dict[ServiceRef, str]:
        self.runtime.own({ref: self._by_ref[ref].name for ref in made.ops if ref in self._by_ref})
        failures: dict[ServiceRef, str] = {}
        for kind, plan in made.plans.items():
            for op in plan:
                self.verified.pop(ServiceRef(kind, op.key), None)
            for stage in Stage:
                sound = [op for op in plan.stage(stage) if ServiceRef(kind, op.key) not in failures]
                refused = await self._apply(kind, sound)
                for failure in refused:
                    failures.setdefault(ServiceRef(kind, failure.op.key), str(failure))
        return failures

    async def _apply(self, kind: DatapathKind, ops: Sequence[Op]) -> list[Failure]:
        refused: list[Failure] = []
        for part in _slices(ops, SLICE):
            refused += self.datapaths[kind].apply(part)
            await asyncio.sleep(0)
        return refused

    def _read_back(self, refs: Sequence[ServiceRef], made: Draft) -> dict[ServiceRef, str]:
        """Differences that remain, by service; what is as wanted counts as verified."""
        remaining: dict[ServiceRef, str] = {}
        again = draft(
            self.datapaths, self.runtime.owned, [r for r in refs if r in made.ops], self.intent
        )
        for ref in refs:
            if ref in again.ops:
                left = Plan(tuple(again.ops[ref]))
                remaining[ref] = f"cannot make {ref.key} as declared, still wanted: {left}"
                continue
            mark = (again if ref in made.ops else made).prints.get(ref)
            wanted = self.intent(ref)
            if wanted is not None and mark is not None:
                self.verified[ref] = (mark, wanted.state)
        return remaining

    # -- audit

    def in_sync(self, ref: ServiceRef) -> bool:
        """Cheap: does the kernel still hold what was last verified to be wanted?"""
        known, wanted = self.verified.get(ref), self.intent(ref)
        if known is None or wanted is None or known[1] is not wanted.state:
            return False
        return self.datapaths[ref.datapath].fingerprint(ref.key) == known[0]

    async def audit(self, refs: Sequence[ServiceRef]) -> None:
        """Look at ``refs`` and put right what differs."""
        async with self.lock:
            suspects = [ref for ref in refs if not self.sound(ref)]
            await self.reconcile_locked(suspects, "audit")

    def refs(self) -> list[ServiceRef]:
        """Every service that is declared, or owned and to be removed still."""
        return [*self._by_ref, *self._concerned(self.declarations, self.held)]

    def sound(self, ref: ServiceRef) -> bool:
        """Cheap: does the kernel still hold what was last verified to be wanted?"""
        known, wanted = self.verified.get(ref), self.intent(ref)
        if known is None or wanted is None or known[1] is not wanted.state:
            return False
        try:
            return self.datapaths[ref.datapath].fingerprint(ref.key) == known[0]
        except OSError:
            return False  # the reconciliation says what is wrong

    # -- tell

    def _report(self, ref: ServiceRef, state: SyncState, error: str, outcome: Outcome) -> None:
        before = self.reports.get(ref, _UNKNOWN)
        self.reports[ref] = Report(state, error)
        if error:
            outcome.failures[ref] = error
            if before.error != error:
                self.events.add(error, "kernel")

    def _tell(self, ref: ServiceRef, ops: list[Op], cause: str) -> None:
        if not ops:
            return
        name = self.runtime.owned.get(ref, str(ref.key))
        text = "; ".join(" ".join(str(op).split()) for op in ops[:_SHOWN])
        if len(ops) > _SHOWN:
            text += f"; and {len(ops) - _SHOWN} more changes"
        if cause == "audit" and self.reports.get(ref, _UNKNOWN).state is SyncState.SYNCED:
            self.drift_repaired += 1
            text = f"drift repaired: {text}"
        self.events.add(f"service {name}: {text}", cause)

    def counts(self) -> Counter[SyncState]:
        return Counter(report.state for report in self.reports.values())

    def _drop_holds(self, old: Declaration | None, new: Declaration | None) -> None:
        """An operator's hold goes with the server it was on."""
        if old is None or not self.runtime.holds(old.name):
            return
        kept = {server.key for server in new.servers} if new is not None else set()
        gone = [server for server in self.runtime.holds(old.name) if server not in kept]
        if gone:
            self.runtime.forget(old.name, gone)


_UNKNOWN = Report(SyncState.PENDING)


def _conflict(declaration: Declaration) -> str:
    return (
        f"cannot take over {declaration.service.key}: it is in the kernel and kernlb did not "
        f"make it (kernlb service adopt {declaration.name}, or remove it there)"
    )


def _batches(refs: Iterable[ServiceRef]) -> Iterator[list[ServiceRef]]:
    """A batch is of one datapath: one that fails does not take the other with it."""
    kinds: dict[DatapathKind, list[ServiceRef]] = {}
    for ref in refs:
        kinds.setdefault(ref.datapath, []).append(ref)
    for of_kind in kinds.values():
        for at in range(0, len(of_kind), BATCH):
            yield of_kind[at : at + BATCH]


def _slices(ops: Sequence[Op], size: int) -> Iterator[Sequence[Op]]:
    for at in range(0, len(ops), size):
        yield ops[at : at + size]
