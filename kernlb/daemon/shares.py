"""Which share of the new connections a scheduler promises each server, by its weight. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.model import Scheduler

_ALIKE = frozenset({Scheduler.RR, Scheduler.LC, Scheduler.DH})  # know of weights only 0 or not
_FIRST = frozenset({Scheduler.FO, Scheduler.OVF})  # the heaviest gets all (ovf: while it can)


def promised(scheduler: Scheduler, weights: Sequence[int]) -> list[float]:
    """Shares, 0 to 1, by the weights in force; they add up to 1 unless no server has any.

    Schedulers that look at connections or at addresses come near to it over many clients."""
    counted: Sequence[int] = weights
    if scheduler in _ALIKE:
        counted = [int(weight > 0) for weight in weights]
    elif scheduler in _FIRST:
        first = max(range(len(weights)), key=weights.__getitem__, default=-1)
        counted = [int(at == first and weight > 0) for at, weight in enumerate(weights)]
    total = sum(counted)
    return [round(weight / total, 6) if total else 0.0 for weight in counted]
