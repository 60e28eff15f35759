"""Cursors of rr and wrr, moved as IPVS moves them when servers come, go and change. Pure.

Members are listed oldest first, and the program walks from the last one down, so a cursor is the
place of the member used last and the next one is below it. The list's head, from where the last
member comes next, is any number that is no member: 0 for rr, the number of members for wrr.
See net/netfilter/ipvs/ip_vs_rr.c and ip_vs_wrr.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

RR_HEAD = 0


class Turn(NamedTuple):
    """Of wrr. ``weight`` is that of the round, 0 before the first."""

    weight: int
    place: int
    max_weight: int
    step: int

    @property
    def cursor(self) -> int:
        return self.weight << 32 | self.place


def rr_removed(cursor: int, index: int, left: int) -> int:
    """The cursor after member ``index`` has gone and ``left`` members remain."""
    if cursor > index:
        cursor -= 1
    return RR_HEAD if cursor >= left else cursor


def wrr_begun(weights: Sequence[int]) -> Turn:
    """ip_vs_wrr_init_svc()"""
    step, most = _steps(weights)
    return Turn(most, len(weights), most, step)


def wrr_changed(weight: int, weights: Sequence[int]) -> Turn:
    """ip_vs_wrr_dest_changed(): from the head, at the weight where the round was or below."""
    step, most = _steps(weights)
    if weight > most or weight == 0:
        weight = most
    elif step > 1:
        weight = weight // step * step + 1
    return Turn(weight, len(weights), most, step)


def _steps(weights: Sequence[int]) -> tuple[int, int]:
    """Greatest common divisor, and the largest weight less what a step takes off it."""
    step = gcd(*weights) or 1
    return step, max(weights, default=0) - (step - 1)
