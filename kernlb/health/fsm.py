"""The state machine of one check of one server: results in, conditions out. Pure.

The rules are ``TABLE``, and the diagram in docs/health.md is drawn from it. What no row says
changes nothing. Four things to know:

- A server new to the kernel is WAITING, and its *first* good result brings it up: ``rise`` is for
  servers that have failed, and this one has not.
- A server that serves already, as after a restart of the daemon, is UNCONFIRMED: it counts as
  good, keeps its place, and falls as any other after ``fall`` bad results.
- Opinion NONE counts for nothing: it neither adds to a row of results nor breaks one.
- HELD is no row of this table: it is what damping makes of a condition (``damping``).

Services that share one check share its state. They may differ in how they begin: see ``seen_by``.
Times are seconds of one clock that never goes back; the clock is the caller's.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from kernlb.health.check import Initial, Timing
from kernlb.health.outcome import Opinion, Result


class Condition(StrEnum):
    WAITING = "waiting"  # never good since it was added; not in the kernel
    UNCONFIRMED = "unconfirmed"  # taken for good: it serves already, or the policy says so
    UP = "up"
    DOWN = "down"
    HELD = "held"  # flaps, and counts as down until it stops: never a state of this machine

    __hash__ = str.__hash__  # Enum's own is a call of Python, at every look into a table

    good: bool


for _condition in Condition:
    _condition.good = _condition in (Condition.UP, Condition.UNCONFIRMED)
_UNHEARD = frozenset({Condition.WAITING, Condition.UNCONFIRMED})


class Needs(StrEnum):
    """How many results of one opinion in a row a change takes."""

    ONE = "one"
    RISE = "rise"
    FALL = "fall"


class Row(NamedTuple):
    """``needs`` results in a row of ``opinion`` lead from ``old`` to ``new``."""

    old: Condition
    opinion: Opinion
    needs: Needs
    new: Condition


TABLE = (
    Row(Condition.WAITING, Opinion.GOOD, Needs.ONE, Condition.UP),
    Row(Condition.WAITING, Opinion.BAD, Needs.FALL, Condition.DOWN),
    Row(Condition.UNCONFIRMED, Opinion.GOOD, Needs.ONE, Condition.UP),
    Row(Condition.UNCONFIRMED, Opinion.BAD, Needs.FALL, Condition.DOWN),
    Row(Condition.UP, Opinion.BAD, Needs.FALL, Condition.DOWN),
    Row(Condition.DOWN, Opinion.GOOD, Needs.RISE, Condition.UP),
)
_GOOD_ROWS = {row.old: row for row in TABLE if row.opinion is Opinion.GOOD}
_BAD_ROWS = {row.old: row for row in TABLE if row.opinion is Opinion.BAD}


class State(NamedTuple):
    """``streak`` counts the last results of one opinion: 3 is three good ones in a row, -3 three
    bad ones. ``since`` is when the condition began, ``last_good`` when the last good result
    came, None: never."""

    condition: Condition
    since: float
    streak: int = 0
    last_good: float | None = None

    @property
    def failures(self) -> int:
        """Bad results in a row."""
        return max(0, -self.streak)

    @property
    def in_doubt(self) -> bool:
        """Did the last results differ from the condition in force?"""
        return self.streak > 0 if self.condition is Condition.DOWN else self.streak < 0


class Transition(NamedTuple):
    """A change of condition. ``reached`` results in a row, of ``needed``; ``lasted`` is how long
    the old condition was in force, in seconds."""

    old: Condition
    new: Condition
    result: Result
    reached: int
    needed: int
    lasted: float

    @property
    def confirms(self) -> bool:
        """Was the server good before and after, so that there is nothing to tell?"""
        return self.old.good and self.new.good

    def __str__(self) -> str:
        took = f"{self.result.duration * 1000:.0f} ms"
        return f"{self.old} -> {self.new}: {self.result} ({took}, {self.reached}/{self.needed})"


def first(serves: bool, policy: Initial = Initial.WAIT) -> Condition:
    """How a server begins. ``serves``: it is in the kernel already, with a weight above 0."""
    return Condition.UNCONFIRMED if serves or policy is Initial.UP else Condition.WAITING


def begin(good: bool, now: float) -> State:
    """``good``: taken for good until it is known better."""
    return State(Condition.UNCONFIRMED if good else Condition.WAITING, now)


def seen_by(begins: Condition, condition: Condition) -> Condition:
    """What a service sees of a check that it shares: until the check has brought a server up or
    down, ``begins``, the service's own ``first``. WAITING and UNCONFIRMED move alike."""
    return begins if condition in _UNHEARD else condition


def step(
    state: State, result: Result, timing: Timing, now: float
) -> tuple[State, Transition | None]:
    """Hear one result."""
    condition, since, streak, last_good = state
    opinion = result.outcome.opinion
    if opinion is Opinion.GOOD:
        count = streak + 1 if streak > 0 else 1
        streak, last_good, row = count, now, _GOOD_ROWS.get(condition)
    elif opinion is Opinion.BAD:
        count = 1 - streak if streak < 0 else 1
        streak, row = -count, _BAD_ROWS.get(condition)
    else:
        return state, None
    if row is None or count < (needed := _needed(row.needs, timing)):
        return State(condition, since, streak, last_good), None
    transition = Transition(condition, row.new, result, count, needed, now - since)
    return State(row.new, now, streak, last_good), transition


def would_fall(state: State, timing: Timing) -> bool:
    """Would one more bad result bring the server down?"""
    row = _BAD_ROWS.get(state.condition)
    return row is not None and state.failures + 1 >= _needed(row.needs, timing)


def _needed(needs: Needs, timing: Timing) -> int:
    if needs is Needs.ONE:
        return 1
    return timing.rise if needs is Needs.RISE else timing.fall


def next_start(state: State, timing: Timing, start: float, end: float, random: float) -> float:
    """When to ask next, after a probe from ``start`` to ``end`` that left ``state``.

    ``random`` in 0..1 spreads probes; jitter brings them early, never late. A server in doubt is
    asked again as soon as ``fast_interval`` allows. Two probes never overlap.
    """
    if state.in_doubt:
        due = start + min(timing.fast_interval, timing.interval)
    else:
        due = start + timing.interval * (1 - timing.jitter * random)
    return max(end, due)
