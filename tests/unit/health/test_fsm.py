"""The state machine of a check: every row of its table, and what no row says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernlb.health import fsm
from kernlb.health.check import Initial, Timing
from kernlb.health.fsm import TABLE, Condition, Needs, Row, State, Transition
from kernlb.health.outcome import Opinion, Outcome, Result

GOOD = Result(Outcome.PASSED, 0.001)
BAD = Result(Outcome.REFUSED, 0.002)
NONE = Result(Outcome.SUSPENDED, 0.0)
RESULTS = {Opinion.GOOD: GOOD, Opinion.BAD: BAD, Opinion.NONE: NONE}
MACHINE = (Condition.WAITING, Condition.UNCONFIRMED, Condition.UP, Condition.DOWN)

timings = st.builds(Timing, rise=st.integers(1, 5), fall=st.integers(1, 5))
results = st.lists(st.sampled_from([GOOD, BAD, NONE]), max_size=40)


def needed(needs: Needs, timing: Timing) -> int:
    return {Needs.ONE: 1, Needs.RISE: timing.rise, Needs.FALL: timing.fall}[needs]


def run(state: State, heard: list[Result], timing: Timing) -> tuple[State, list[Transition]]:
    transitions = []
    for now, result in enumerate(heard, 1):
        state, transition = fsm.step(state, result, timing, float(now))
        transitions += [] if transition is None else [transition]
    return state, transitions


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.old} {row.opinion}")
@given(timing=timings)
def test_a_row_takes_as_many_results_as_it_says_and_not_one_less(row: Row, timing: Timing) -> None:
    number = needed(row.needs, timing)
    begun = State(row.old, 0.0)
    short, nothing = run(begun, [RESULTS[row.opinion]] * (number - 1), timing)
    assert short.condition is row.old and nothing == []
    state, (transition,) = run(begun, [RESULTS[row.opinion]] * number, timing)
    assert state.condition is row.new
    assert transition == Transition(
        row.old, row.new, RESULTS[row.opinion], number, number, lasted=float(number)
    )
    assert state.since == number


@pytest.mark.parametrize("condition", MACHINE)
@pytest.mark.parametrize("opinion", Opinion)
@given(timing=timings)
def test_what_no_row_says_changes_no_condition(
    condition: Condition, opinion: Opinion, timing: Timing
) -> None:
    if any(row.old is condition and row.opinion is opinion for row in TABLE):
        return
    state, transitions = run(State(condition, 0.0), [RESULTS[opinion]] * 12, timing)
    assert state.condition is condition
    assert not transitions


def test_no_two_rows_speak_of_the_same() -> None:
    assert len({(row.old, row.opinion) for row in TABLE}) == len(TABLE)


def test_every_condition_but_the_first_two_is_reached_and_left() -> None:
    assert {row.new for row in TABLE} == {Condition.UP, Condition.DOWN}
    assert {row.old for row in TABLE} == set(MACHINE)


@given(timings, st.booleans(), results)
def test_the_condition_is_what_a_plain_reading_of_the_results_gives(
    timing: Timing, good: bool, heard: list[Result]
) -> None:
    """An oracle without a table: the last results in a row, read backwards."""
    condition = Condition.UNCONFIRMED if good else Condition.WAITING
    told: list[Opinion] = []
    state = fsm.begin(good, 0.0)
    for now, result in enumerate(heard, 1):
        state, _ = fsm.step(state, result, timing, float(now))
        if result is not NONE:
            told.append(result.outcome.opinion)
        goods = next((n for n, o in enumerate(reversed(told)) if o is Opinion.BAD), len(told))
        bads = next((n for n, o in enumerate(reversed(told)) if o is Opinion.GOOD), len(told))
        if bads >= timing.fall:
            condition = Condition.DOWN
        elif goods >= (timing.rise if condition is Condition.DOWN else 1):
            condition = Condition.UP
        assert state.condition is condition
        assert state.failures == bads


@given(timings, st.booleans(), results)
def test_results_that_say_nothing_change_nothing(
    timing: Timing, good: bool, heard: list[Result]
) -> None:
    state = fsm.begin(good, 0.0)
    assert fsm.step(state, NONE, timing, 1.0) == (state, None)
    with_none = plain = state
    for now, result in enumerate(heard, 1):
        with_none, _ = fsm.step(with_none, result, timing, float(now))
        if result is not NONE:
            plain, _ = fsm.step(plain, result, timing, float(now))
    assert with_none == plain


@given(timings, st.booleans(), results)
def test_would_fall_foresees_what_one_more_bad_result_does(
    timing: Timing, good: bool, heard: list[Result]
) -> None:
    state, _ = run(fsm.begin(good, 0.0), heard, timing)
    after, transition = fsm.step(state, BAD, timing, 99.0)
    fell = transition is not None and after.condition is Condition.DOWN
    assert fsm.would_fall(state, timing) is fell


def test_a_new_server_comes_up_at_its_first_good_result_whatever_rise_says() -> None:
    timing = Timing(rise=5, fall=3)
    state, (transition,) = run(fsm.begin(False, 0.0), [BAD, BAD, GOOD], timing)
    assert state.condition is Condition.UP
    assert str(transition) == "waiting -> up: passed (1 ms, 1/1)"


def test_a_server_that_failed_needs_rise_results_to_come_back() -> None:
    timing = Timing(rise=2, fall=1)
    state, _ = run(fsm.begin(False, 0.0), [BAD, GOOD], timing)
    assert state.condition is Condition.DOWN
    state, (transition,) = run(state, [GOOD], timing)
    assert str(transition) == "down -> up: passed (1 ms, 2/2)"


def test_a_server_that_serves_already_keeps_its_place_until_fall_results_are_bad() -> None:
    timing = Timing(fall=3)
    begun = fsm.begin(True, 0.0)
    assert begun.condition.good
    assert run(begun, [BAD, BAD], timing)[0].condition.good
    state, (transition,) = run(begun, [BAD, BAD, BAD], timing)
    assert not state.condition.good
    assert not transition.confirms
    assert str(transition) == "unconfirmed -> down: connection refused (2 ms, 3/3)"


def test_to_be_confirmed_is_nothing_to_tell() -> None:
    _, (transition,) = run(fsm.begin(True, 0.0), [GOOD], Timing())
    assert transition.confirms


def test_a_lower_fall_counts_at_the_next_bad_result() -> None:
    state, _ = run(fsm.begin(True, 0.0), [GOOD, BAD, BAD], Timing(fall=9))
    assert fsm.step(state, BAD, Timing(fall=2), 4.0)[0].condition is Condition.DOWN


@pytest.mark.parametrize(
    ("serves", "policy", "condition"),
    [
        (False, Initial.WAIT, Condition.WAITING),
        (False, Initial.UP, Condition.UNCONFIRMED),
        (True, Initial.WAIT, Condition.UNCONFIRMED),
        (True, Initial.UP, Condition.UNCONFIRMED),
    ],
)
def test_a_server_begins_as_it_stands(serves: bool, policy: Initial, condition: Condition) -> None:
    assert fsm.first(serves, policy) is condition


@given(timings, results)
def test_services_that_share_a_check_see_what_a_check_of_their_own_would_say(
    timing: Timing, heard: list[Result]
) -> None:
    for mine in (Condition.WAITING, Condition.UNCONFIRMED):
        own, _ = run(State(mine, 0.0), heard, timing)
        for good in (False, True):
            shared, _ = run(fsm.begin(good, 0.0), heard, timing)
            assert fsm.seen_by(mine, shared.condition) is own.condition


@given(
    st.sampled_from(MACHINE),
    st.integers(-4, 4),
    st.floats(0, 1),
    st.floats(0, 10),
    st.floats(0.1, 60),
    st.floats(0.05, 60),
    st.floats(0, 0.5),
)
def test_a_probe_comes_early_never_late_and_never_twice_at_once(
    condition: Condition,
    streak: int,
    random: float,
    took: float,
    interval: float,
    fast: float,
    jitter: float,
) -> None:
    timing = Timing(interval=interval, fast_interval=fast, jitter=jitter)
    state = State(condition, 0.0, streak)
    end = 100.0 + took
    due = fsm.next_start(state, timing, 100.0, end, random)
    assert end <= due <= max(end, 100.0 + interval)
    if state.in_doubt:
        assert due == max(end, 100.0 + min(fast, interval))
    else:
        assert due >= 100.0 + interval * (1 - jitter)


def test_a_server_in_doubt_is_asked_fast_until_it_is_known() -> None:
    timing = Timing(interval=5, fast_interval=1, jitter=0, rise=2, fall=2)
    state, waits = State(Condition.UP, 0.0), []
    for result in (GOOD, BAD, NONE, BAD, BAD, GOOD, GOOD, GOOD):
        state, _ = fsm.step(state, result, timing, 0.0)
        waits.append(fsm.next_start(state, timing, 0.0, 0.0, 0.0))
    assert waits == [5, 1, 1, 5, 5, 1, 5, 5]


@pytest.mark.parametrize("took", [0.0, 2.0])
def test_a_dead_server_is_down_within_the_time_that_is_promised(took: float) -> None:
    """interval + timeout * fall when nothing answers, interval + fast * (fall - 1) when refused."""
    timing = Timing(interval=5, fast_interval=1, timeout=2, fall=3, jitter=0)
    state, start = State(Condition.UP, 0.0), 0.0
    state, _ = fsm.step(state, GOOD, timing, start)  # and dies right after
    now = start
    while state.condition is Condition.UP:
        start = fsm.next_start(state, timing, start, now, 1.0)
        now = start + took
        state, _ = fsm.step(state, BAD, timing, now)
    assert now == 5 + (2 * 3 if took else 1 * 2)
