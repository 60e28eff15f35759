"""Which share of the new connections a scheduler promises each server, by its weight. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from kernlb.model import Scheduler

Key = TypeVar("Key")

_ALIKE = frozenset({Scheduler.RR, Scheduler.LC, Scheduler.DH})  # know of weights only 0 or not
_FIRST = frozenset({Scheduler.FO, Scheduler.OVF})  # the heaviest gets all (ovf: while it can)


def promised(scheduler: Scheduler, weights: Mapping[Key, int]) -> dict[Key, float]:
    """Shares, 0 to 1, by the weights in force; they add up to 1 unless no server has any.

    Schedulers that look at connections or at addresses come near to it over many clients."""
    counted: Mapping[Key, int] = weights
    if scheduler in _ALIKE:
        counted = {key: int(weight > 0) for key, weight in weights.items()}
    elif scheduler in _FIRST:
        most = max(weights.values(), default=0)
        first = next((key for key, weight in weights.items() if weight == most), None)
        counted = {key: int(key == first and most > 0) for key in weights}
    total = sum(counted.values())
    return {key: round(weight / total, 6) if total else 0.0 for key, weight in counted.items()}
