"""The loop: desired, observed, diff, apply. The only writer of the kernel.

Every wake-up (a reload, an API call, the audit, a deadline) names the services it concerns and
comes through :meth:`Reconciler.reconcile`; the wake-up carries no other meaning. A wake-up costs
what it concerns: nothing here walks all services but at the start.

Rules:

* ownership is written down before a service is made and forgotten after it is gone;
* a service in the kernel that is not owned is never changed: a declaration of its key is a
  CONFLICT until an operator adopts it;
* nothing is taken away from a service (stage BREAK) when something that should come first
  (stage MAKE) was refused, but who is dead or disabled goes while another serves;
* VIPs come after the servers behind them and go before the services they lead to; a service
  that moves to another key stays at the old one, VIP and all, until the new one is there;
* what was written is read back: a difference that remains is a failure, not a success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

from kernlb.control.protocol import SyncState
from kernlb.daemon.desired import Declarations, Desired
from kernlb.daemon.draft import Draft, draft
from kernlb.daemon.events import Events
from kernlb.daemon.execute import Executed, execute, send
from kernlb.daemon.outcome import Outcome
from kernlb.daemon.reports import AUDIT, Reports, conflict
from kernlb.daemon.retries import RETRY, Retries
from kernlb.daemon.runtime import RuntimeState
from kernlb.daemon.vips import VipKeeper
from kernlb.datapath import Datapath
from kernlb.declaration import Declaration
from kernlb.intent import Admin, Intent
from kernlb.model import (
    AddressKey,
    DatapathKind,
    IPAddress,
    ServerKey,
    ServiceRef,
    ServiceState,
)
from kernlb.plan import Plan, Stage
from kernlb.reconcile import diff

BATCH = 32  # services reconciled between two turns of the event loop


class Reconciler:
    """Makes the kernel hold what is desired. One change at a time (``_lock``)."""

    def __init__(
        self,
        datapaths: Mapping[DatapathKind, Datapath],
        runtime: RuntimeState,
        desired: Desired,
        vips: VipKeeper,
        events: Events,
    ) -> None:
        self.datapaths = datapaths
        self.runtime = runtime
        self.desired = desired
        self.vips = vips
        self.events = events
        self.reports = Reports(events)
        self.retries = Retries()
        self._verified: dict[ServiceRef, tuple[bytes, ServiceState]] = {}
        self._lock = asyncio.Lock()
        self._vips_stale = True
        self._withdrawn: Set[ServiceRef] = frozenset()

    # -- wake-ups

    async def declare(
        self,
        declarations: Declarations,
        held: Iterable[str],
        cause: str,
        *,
        everything: bool = False,
    ) -> Outcome:
        """Put declarations in force and carry them out; with ``everything``, look at the
        services that they do not change too."""
        async with self._lock:
            concerned = self.desired.declare(declarations, held)
            if everything:
                rest = [ref for ref in self.desired.refs() if not self._sound(ref)]
                concerned = list(dict.fromkeys([*rest, *concerned]))
            self._vips_stale = True
            return await self._reconcile(concerned, cause)

    async def hold(
        self, declaration: Declaration, server: ServerKey, hold: Admin | None, cause: str
    ) -> Outcome:
        """Put an operator's hold on a server, None to lift it, and carry it out."""
        async with self._lock:
            self.runtime.hold(declaration.name, server, hold)
            self.desired.wake([declaration.ref])
            return await self._reconcile([declaration.ref], cause)

    def settled(self, ref: ServiceRef, server: ServerKey) -> bool:
        """Does the kernel hold a server as it should, whatever else is wrong with its service?"""
        try:
            return self.draft([ref], self.desired.intent).settles(ref, server)
        except OSError:
            return False

    async def wake(self, refs: Sequence[ServiceRef], cause: str) -> Outcome:
        """Work out anew what ``refs`` should be, and make them so."""
        async with self._lock:
            self.desired.wake(refs)
            return await self._reconcile(refs, cause)

    async def audit(self, refs: Sequence[ServiceRef], *, vips: bool = False) -> None:
        """Look at ``refs``, and at the VIPs if asked to, and put right what differs."""
        async with self._lock:
            self._vips_stale |= vips
            suspects = [ref for ref in refs if not self._sound(ref)]
            if suspects or vips:
                await self._reconcile(suspects, AUDIT)

    async def flush(self, cause: str) -> Outcome:
        """Take out of the kernel what kernlb put there; what is foreign stays, as do holds."""
        async with self._lock:
            self._vips_stale = True
            return await self._reconcile(self.desired.withdraw(), cause)

    # -- adoption

    def not_ours(self, refs: Iterable[ServiceRef]) -> dict[ServiceRef, ServiceState]:
        """Those of ``refs`` that somebody else made in the kernel, as they are there."""
        found: dict[ServiceRef, ServiceState] = {}
        for ref in refs:
            if ref not in self.runtime.owned and ref.datapath in self.datapaths:
                for state in self.datapaths[ref.datapath].read([ref.key]).values():
                    found[ref] = state
        return found

    async def give_back(self, states: Mapping[ServiceRef, ServiceState]) -> None:
        """Make services that could not be adopted what they were, and somebody else's again."""
        async with self._lock:
            for ref, state in states.items():
                plan = diff({ref.key: state}, self.datapaths[ref.datapath].read([ref.key]))
                for stage in Stage:
                    await send(self.datapaths[ref.datapath], plan.stage(stage))
                self._verified.pop(ref, None)
            self.runtime.disown(states)

    # -- plan

    async def preview(
        self,
        wanted: Declarations,
        held: Set[str],
        *,
        everything: bool = False,
        adopting: Set[ServiceRef] = frozenset(),
    ) -> Outcome:
        """What declaring ``wanted`` would do. Reads, never writes."""
        by_ref = {declaration.ref: declaration for declaration in wanted.values()}
        refs = self.desired.concerned(wanted, held)
        if everything:
            refs = list(dict.fromkeys([*by_ref, *refs]))

        renamed = self.desired.renamed(wanted, held)
        holds = {name: self.runtime.holds(old) for name, old in renamed.items()}

        def intent(ref: ServiceRef) -> Intent | None:
            found = by_ref.get(ref)
            return None if found is None else self.desired.intent_of(found, holds.get(found.name))

        outcome = Outcome()
        for batch in _batches(refs):
            made = self.draft(batch, intent, adopting)
            outcome.add(made)
            for ref in made.conflicts:
                outcome.failures[ref] = conflict(by_ref[ref])
            await asyncio.sleep(0)
        outcome.vip_ops = await self.vips.draft(self.desired.announced(wanted.values(), holds))
        return outcome

    def draft(
        self,
        refs: Sequence[ServiceRef],
        intent: Callable[[ServiceRef], Intent | None],
        adopting: Set[ServiceRef] = frozenset(),
    ) -> Draft:
        """What would make ``refs`` as ``intent`` says. Reads, never writes."""
        return draft(self.datapaths, self.runtime.owned.keys() | adopting, refs, intent)

    # -- carry out

    async def _reconcile(self, refs: Iterable[ServiceRef], cause: str) -> Outcome:
        outcome = Outcome()
        kept: list[ServiceRef] = []
        gone: list[ServiceRef] = []
        for ref in refs:
            (kept if ref in self.desired else gone).append(ref)
        for batch in _batches(kept):
            await self._round(batch, cause, outcome)
            await asyncio.sleep(0)
        self.desired.write_down(cause)
        if self._vips_stale or self.desired.withdrawn != self._withdrawn:
            self._withdrawn = self.desired.withdrawn
            declared = self.desired.announced(self.desired.declarations.values())
            with_vip = [each.ref for each in declared if each.vip is not None]
            unready = {ref for ref in with_vip if not self.reports.synced(ref)}
            outcome.vip_ops, outcome.vip_failures = await self.vips.keep(
                declared, unready=unready, in_use=self._left_addresses(), cause=cause
            )
            self._vips_stale = bool(outcome.vip_failures or unready)
        for batch in _batches(ref for ref in gone if not self._stays(ref)):
            await self._round(batch, cause, outcome)
            await asyncio.sleep(0)
        return outcome

    def _stays(self, ref: ServiceRef) -> bool:
        """Is an undeclared service left in the kernel? While its file is bad, or while the
        service that takes its place under another key is not there yet."""
        name = self.runtime.owned.get(ref)
        if name is None or name in self.desired.held:
            return True
        heir = self.desired.declarations.get(name)
        return heir is not None and not self.reports.synced(heir.ref)

    def _left_addresses(self) -> set[IPAddress]:
        """Addresses of undeclared services that are left in the kernel."""
        if not self.runtime.vips:
            return set()
        return {
            ref.key.address
            for ref in self.runtime.owned
            if ref not in self.desired and isinstance(ref.key, AddressKey) and self._stays(ref)
        }

    async def _round(self, refs: list[ServiceRef], cause: str, outcome: Outcome) -> None:
        try:
            made = self.draft(refs, self.desired.intent)
            done = await self._carry_out(refs, made)
            refused = done.failures.keys() | made.conflicts
            unlike = self._read_back([ref for ref in refs if ref not in refused], made)
        except OSError as error:
            for ref in refs:
                self._fail(ref, SyncState.FAILED, str(error), outcome)
                self._try_again(ref, cause)
            return
        outcome.add(made, done.left)
        failures = done.failures | unlike
        undone = set(map(id, done.left))
        settled: list[ServiceRef] = []
        for ref in refs:
            if ref in made.conflicts:
                self._fail(ref, SyncState.CONFLICT, conflict(self.desired[ref]), outcome)
                continue
            if ref not in unlike:
                name = self.runtime.owned.get(ref, str(ref.key))
                taken = [op for op in made.ops.get(ref, ()) if id(op) not in undone]
                self.reports.changed(ref, name, taken, cause)
            if ref in failures:
                self._fail(ref, SyncState.FAILED, failures[ref], outcome)
                self._try_again(ref, cause)
                continue
            self.retries.settled(ref)
            if ref in self.desired:
                self.reports.put(ref, SyncState.SYNCED)
            else:
                self.reports.forget(ref)
                settled.append(ref)
        try:
            self.runtime.disown(settled)
        except OSError as error:  # gone, and still written down: the audit tries again
            for ref in settled:
                self._fail(ref, SyncState.FAILED, f"cannot forget {ref.key}: {error}", outcome)

    def _fail(self, ref: ServiceRef, state: SyncState, error: str, outcome: Outcome) -> None:
        name = self.desired[ref].name if ref in self.desired else self.runtime.owned.get(ref, "")
        self.reports.put(ref, state, error, name)
        outcome.failures[ref] = error

    def _try_again(self, ref: ServiceRef, cause: str) -> None:
        """Soon, if somebody has spoken of its servers; the audit comes to all."""
        found = self.desired[ref] if ref in self.desired else None  # noqa: SIM401 (no mapping)
        if found is not None and (found.watches or self.runtime.holds(found.name)):
            self.retries.failed(ref, again=cause in (AUDIT, RETRY))
        else:
            self.retries.settled(ref)

    async def _carry_out(self, refs: Iterable[ServiceRef], made: Draft) -> Executed:
        # a service whose file has another name now changes hands without an op
        ours = (ref for ref in refs if ref in made.ops or ref in self.runtime.owned)
        self.runtime.own({ref: self.desired[ref].name for ref in ours if ref in self.desired})
        for ref in made.ops:
            self._verified.pop(ref, None)
        return await execute(self.datapaths, made, self.desired.intent)

    def _read_back(self, refs: Sequence[ServiceRef], made: Draft) -> dict[ServiceRef, str]:
        """Differences that remain, by service; what is as wanted counts as verified."""
        remaining: dict[ServiceRef, str] = {}
        again = self.draft([ref for ref in refs if ref in made.ops], self.desired.intent)
        for ref in refs:
            if ref in again.ops:
                left = Plan(tuple(again.ops[ref]))
                remaining[ref] = f"cannot make {ref.key} as declared, still wanted: {left}"
                continue
            mark = (again if ref in made.ops else made).prints.get(ref)
            wanted = self.desired.intent(ref)
            if wanted is not None and mark is not None:
                self._verified[ref] = (mark, wanted.state)
        return remaining

    def _sound(self, ref: ServiceRef) -> bool:
        """Cheap: does the kernel still hold what was last verified to be wanted?"""
        if not self.reports.synced(ref):
            return False
        known, wanted = self._verified.get(ref), self.desired.intent(ref)
        if known is None or wanted is None or known[1] is not wanted.state:
            return False
        try:
            return self.datapaths[ref.datapath].fingerprint(ref.key) == known[0]
        except OSError:
            return False  # the reconciliation says what is wrong


def _batches(refs: Iterable[ServiceRef]) -> Iterator[list[ServiceRef]]:
    """A batch is of one datapath: one that fails does not take the other with it."""
    kinds: dict[DatapathKind, list[ServiceRef]] = {}
    for ref in refs:
        kinds.setdefault(ref.datapath, []).append(ref)
    for of_kind in kinds.values():
        for at in range(0, len(of_kind), BATCH):
            yield of_kind[at : at + BATCH]
