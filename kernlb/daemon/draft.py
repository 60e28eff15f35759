"""What would change: the first three hops of four, up to the plan. Reads, never writes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kernlb.datapath import Datapath, DatapathUnavailableError
from kernlb.intent import Intent
from kernlb.model import DatapathKind, Scheduler, ServerKey, ServiceKey, ServiceRef, ServiceState
from kernlb.plan import Op, Plan, server_of
from kernlb.reconcile import diff
from kernlb.schedule.moved import moved


class Share(NamedTuple):
    """Share (0..1) of new flows that a change sends to another server."""

    scheduler: Scheduler
    share: float


@dataclass(slots=True)
class Draft:
    """What one round would change.

    ``ops`` are those of ``plans`` by service. ``conflicts`` are services that somebody else made
    in the kernel. ``prints`` are fingerprints taken before the services were read: a change
    behind our back between the two shows as a difference at the next look, never as agreement.
    ``moved`` is the share of new flows that would change servers, where that can be told.
    """

    ops: dict[ServiceRef, list[Op]] = field(default_factory=dict)
    plans: dict[DatapathKind, Plan] = field(default_factory=dict)
    conflicts: set[ServiceRef] = field(default_factory=set)
    prints: dict[ServiceRef, bytes | None] = field(default_factory=dict)
    moved: dict[ServiceRef, Share] = field(default_factory=dict)

    def settles(self, ref: ServiceRef, server: ServerKey) -> bool:
        """Does the kernel hold a server as it should, whatever else is to be done?"""
        return ref not in self.conflicts and all(
            server_of(op) != server for op in self.ops.get(ref, ())
        )


def draft(
    datapaths: Mapping[DatapathKind, Datapath],
    owned: Container[ServiceRef],
    refs: Iterable[ServiceRef],
    intent: Callable[[ServiceRef], Intent | None],
) -> Draft:
    """The changes that make ``refs`` as ``intent`` says; None means that it should be gone.

    Raises DatapathUnavailableError.
    """
    made = Draft()
    for kind, keys in _by_kind(refs).items():
        datapath = datapaths.get(kind)
        if datapath is None:
            raise DatapathUnavailableError(f"cannot use datapath {kind}: it is not available here")
        observed = _observe(datapath, keys, made)
        desired: dict[ServiceKey, ServiceState] = {}
        for key in keys:
            ref = ServiceRef(kind, key)
            wanted = intent(ref)
            if key in observed and ref not in owned:
                del observed[key]
                if wanted is not None:
                    made.conflicts.add(ref)
            elif wanted is not None:
                desired[key] = wanted.state
        plan = made.plans[kind] = diff(desired, observed)
        for key, ops in _by_service(plan):
            made.ops.setdefault(ServiceRef(kind, key), []).extend(ops)
        for ref in made.ops:
            if ref.key in desired and ref.key in observed:
                share = moved(observed[ref.key], desired[ref.key])
                if share is not None:
                    made.moved[ref] = Share(desired[ref.key].service.scheduler, share)
    return made


def _by_service(plan: Plan) -> Iterator[tuple[ServiceKey, list[Op]]]:
    """Runs of ops of one service. Ops of one share its key, which is dear to hash."""
    key: ServiceKey | None = None
    ops: list[Op] = []
    for op in plan:
        if op.key is not key:
            if key is not None:
                yield key, ops
            key, ops = op.key, []
        ops.append(op)
    if key is not None:
        yield key, ops


def _observe(
    datapath: Datapath, keys: Sequence[ServiceKey], made: Draft
) -> dict[ServiceKey, ServiceState]:
    if len(keys) > 1:  # one dump tells which of many are there at all
        there = {service.key for service in datapath.services()}
        keys = [key for key in keys if key in there]
    for key in keys:
        made.prints[ServiceRef(datapath.kind, key)] = datapath.fingerprint(key)
    return datapath.read(keys)


def _by_kind(refs: Iterable[ServiceRef]) -> dict[DatapathKind, list[ServiceKey]]:
    keys: dict[DatapathKind, list[ServiceKey]] = {}
    for ref in refs:
        keys.setdefault(ref.datapath, []).append(ref.key)
    return keys
