"""Flap damping: who is held, since which change, and until when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernlb.health.check import Damping
from kernlb.health.damping import CALM, Flapping, changed, counts, damped, release, settled
from kernlb.health.fsm import Condition

DAMPING = Damping(changes=3, period=100.0, hold=30.0)
dampings = st.builds(
    Damping, changes=st.integers(1, 5), period=st.integers(1, 200), hold=st.integers(1, 200)
)
changes = st.lists(st.integers(0, 60), max_size=40).map(
    lambda gaps: [float(sum(gaps[: n + 1])) for n in range(len(gaps))]
)


def after(times: list[float], damping: Damping = DAMPING) -> Flapping:
    flapping = CALM
    for now in times:
        flapping = changed(flapping, damping, now)
    return flapping


def test_as_many_changes_as_are_allowed_hold_nobody() -> None:
    assert not after([0, 10, 20]).held


def test_one_more_change_within_the_period_holds() -> None:
    assert after([0, 10, 20, 99]).held


def test_changes_longer_ago_than_the_period_are_forgotten() -> None:
    assert not after([0, 10, 20, 100]).held


def test_a_held_server_is_let_go_when_it_was_quiet_for_long_enough() -> None:
    flapping = after([0, 10, 20, 30])
    assert release(flapping, DAMPING) == 60
    assert settled(flapping, DAMPING, 59.9).held
    assert not settled(flapping, DAMPING, 60).held


def test_a_change_while_held_begins_the_wait_anew() -> None:
    assert release(after([0, 10, 20, 30, 59]), DAMPING) == 89


def test_a_server_let_go_is_held_again_at_its_next_change() -> None:
    flapping = settled(after([0, 10, 20, 30]), DAMPING, 60)
    assert changed(flapping, DAMPING, 61).held
    assert not changed(flapping, DAMPING, 131).held


def test_nobody_is_held_with_damping_off() -> None:
    off = Damping(changes=0)
    assert after([float(n) for n in range(50)], off) == CALM
    assert not settled(after([0, 10, 20, 30]), off, 30).held  # switched off while it was held


@pytest.mark.parametrize("condition", Condition)
def test_a_held_server_counts_as_down_whatever_its_condition(condition: Condition) -> None:
    seen = damped(Flapping((1.0,), held=True), condition)
    assert not seen.good
    assert (seen is Condition.HELD) is (condition is not Condition.WAITING)
    assert damped(CALM, condition) is condition


@pytest.mark.parametrize(
    ("old", "new", "counted"),
    [
        (Condition.WAITING, Condition.UP, False),
        (Condition.WAITING, Condition.DOWN, False),
        (Condition.UNCONFIRMED, Condition.UP, False),
        (Condition.UNCONFIRMED, Condition.DOWN, True),
        (Condition.UP, Condition.DOWN, True),
        (Condition.DOWN, Condition.UP, True),
    ],
)
def test_only_changes_between_good_and_down_count(
    old: Condition, new: Condition, counted: bool
) -> None:
    assert counts(old, new) is counted


@given(dampings, changes)
def test_held_means_what_its_definition_says(damping: Damping, times: list[float]) -> None:
    """An oracle over all of the past: triggered by a full period, held while none was quiet."""
    flapping = CALM
    for at, now in enumerate(times):
        flapping = changed(flapping, damping, now)
        held = False
        for n, when in enumerate(times[: at + 1]):
            if n and when - times[n - 1] >= damping.hold:
                held = False
            window = [each for each in times[: n + 1] if each > when - damping.period]
            held = held or len(window) > damping.changes
        assert flapping.held is held
        assert len(flapping.changes) <= damping.changes + 1
        due = release(flapping, damping)
        assert due == (now + damping.hold if held else None)
        assert settled(flapping, damping, now + damping.hold).held is False
        assert settled(settled(flapping, damping, now), damping, now) == settled(
            flapping, damping, now
        )
