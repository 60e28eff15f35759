"""Flap damping: a server that comes and goes is kept out until it makes up its mind. Pure.

It stands between the state machine of a check, which services may share, and the policy of one
service: each service has its own idea of how much flapping it bears. A server whose condition
changed more than ``changes`` times within ``period`` seconds counts as HELD until it has not
changed for ``hold`` seconds. What it did before is not forgotten by then: while there are more
than ``changes`` changes in the last ``period`` seconds, one more holds it again at once.

Only changes between good and down are counted; the first finding of a new server is none.
"""

from __future__ import annotations

from typing import NamedTuple

from kernlb.health.check import Damping
from kernlb.health.fsm import Condition


class Flapping(NamedTuple):
    """``changes`` are the times of the last changes, oldest first, no more than matter."""

    changes: tuple[float, ...] = ()
    held: bool = False


CALM = Flapping()


def counts(old: Condition, new: Condition) -> bool:
    """Is a change from ``old`` to ``new``, as the service sees them, one that damping counts?"""
    return old is not Condition.WAITING and old.good is not new.good


def changed(flapping: Flapping, damping: Damping, now: float) -> Flapping:
    """Hear of a change that counts."""
    if not damping.changes:
        return CALM
    flapping = settled(flapping, damping, now)
    recent = (*(when for when in flapping.changes if when > now - damping.period), now)
    flaps = len(recent) > damping.changes
    return Flapping(recent[-damping.changes - 1 :], flapping.held or flaps)


def release(flapping: Flapping, damping: Damping) -> float | None:
    """When a held server is let go if nothing changes until then; None if it is not held."""
    if not flapping.held:
        return None
    return flapping.changes[-1] + damping.hold if damping.changes else flapping.changes[-1]


def settled(flapping: Flapping, damping: Damping, now: float) -> Flapping:
    """Let go what has been quiet for long enough. Idempotent."""
    due = release(flapping, damping)
    if due is None or now < due:
        return flapping
    return Flapping(flapping.changes)


def damped(flapping: Flapping, condition: Condition) -> Condition:
    """What the service is told: HELD in place of up and down."""
    return Condition.HELD if flapping.held and condition is not Condition.WAITING else condition
