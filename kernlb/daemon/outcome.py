"""What a reconciliation did, or would do, and how each service stands after it."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from kernlb.control.protocol import SyncState
from kernlb.daemon.draft import Draft, Share
from kernlb.model import ServiceRef
from kernlb.plan import Op
from kernlb.vip.plan import VipOp


@dataclass(frozen=True, slots=True)
class Report:
    """How a declared service stood after it was last looked at."""

    state: SyncState
    error: str = ""


UNKNOWN = Report(SyncState.PENDING)


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

    def errors_of(self, refs: Container[ServiceRef], known: Container[str]) -> list[str]:
        """Errors of ``refs``, and those of VIPs that were not ``known`` before."""
        failures = [error for ref, error in self.failures.items() if ref in refs]
        return [*failures, *(error for error in self.vip_failures if error not in known)]

    def add(self, made: Draft, left: Iterable[Op] = ()) -> Outcome:
        """What ``made`` says, except for the ops that were ``left`` undone."""
        undone = set(map(id, left))
        for plan in made.plans.values():
            self.ops.extend(op for op in plan if id(op) not in undone)
        self.moved |= made.moved
        self.conflicts |= made.conflicts
        return self
