"""Which slots to change: what is wanted, what is there, what was recorded. Pure.

Rules: what has a good value is left alone and is nobody's to put back; what is changed is
recorded with the value that it had before the first change; what is wanted no longer is put back;
what somebody else changed since stays, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernlb.realserver.slots import Change, Kind, Slot, same

Present = Mapping[Slot, str | None]


@dataclass(frozen=True, slots=True)
class Want:
    """``fine``: other values that do as well and are left alone."""

    slot: Slot
    value: str | None
    fine: frozenset[str | None] = frozenset()

    def met_by(self, value: str | None) -> bool:
        return value in self.fine or same(self.slot, value, self.value)


@dataclass(frozen=True, slots=True)
class Plan:
    """``record``: what is to be put back one day, in the order it was done; on disk first.
    ``notes``: what is left as it is, and why."""

    changes: tuple[Change, ...]
    record: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def plan_setup(wants: Sequence[Want], recorded: Sequence[Change], present: Present) -> Plan:
    """From what is there to what is wanted. ``present`` has a value for every slot of both."""
    known = {change.slot: change for change in recorded}
    wanted = {want.slot for want in wants}
    dropped = plan_remove([each for each in recorded if each.slot not in wanted], present)
    changes: list[Change] = []
    record: list[Change] = []
    for want in wants:
        there = present[want.slot]
        former = known.get(want.slot)
        if not want.met_by(there):
            changes.append(Change(want.slot, there, want.value))
            record.append(Change(want.slot, former.before if former else there, want.value))
        elif former is not None:
            record.append(former)
    # What is dropped goes last: one guard is there before the other goes.
    return Plan((*changes, *dropped.changes), tuple(record), dropped.notes)


def plan_remove(recorded: Sequence[Change], present: Present) -> Plan:
    """Back to what was before, the last change first."""
    changes, notes = [], []
    for former in reversed(recorded):
        there = present[former.slot]
        if same(former.slot, there, former.before):
            continue
        if former.slot.kind is Kind.SYSCTL and (former.before is None or there is None):
            continue  # of a device that came, or went
        if same(former.slot, there, former.after):
            changes.append(Change(former.slot, there, former.before))
        elif there is not None:
            notes.append(f"left {former.slot} as it is: it was changed since")
    return Plan(tuple(changes), (), tuple(notes))
