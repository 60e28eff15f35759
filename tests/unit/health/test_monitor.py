"""The monitor on a clock of its own: who is asked when, and what it makes of its own lateness."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from random import Random
from typing import Any

import pytest

from kernlb.health.check import AgentCheck, Check, Target, TcpCheck, Timing
from kernlb.health.fsm import Condition, Transition
from kernlb.health.monitor import CANARIES, HISTORY, TICK, Key, Monitor
from kernlb.health.outcome import Outcome, Result
from kernlb.health.pace import MOST
from kernlb.health.partition import Partition
from tests.unit.health.clock import FakeLoop

TIMING = Timing(interval=5, fast_interval=1, timeout=2, rise=2, fall=3, jitter=0)


class Network:
    """Servers that answer, after ``delay`` seconds, as each was told to."""

    def __init__(self, loop: FakeLoop) -> None:
        self.loop, self.delay = loop, 0.01
        self.cost = 0.0  # seconds that nothing else happens, at each start
        self.outcomes: dict[str, Outcome] = {}
        self.percent: int | None = None
        self.silent = False
        self.broken: set[str] = set()
        self.asked: list[tuple[float, str]] = []
        self.under_way = 0

    def make(self, check: Check, timeout: float, target: Target) -> Any:
        return _Probe(self, str(target.address), timeout)

    def times(self, server: str) -> list[float]:
        return [round(when - 1000, 3) for when, name in self.asked if name == server]


class _Probe:
    def __init__(self, network: Network, server: str, timeout: float) -> None:
        self._network, self._server, self._timeout = network, server, timeout

    def start(self, done: Callable[[Result], None]) -> Any:
        network = self._network
        network.asked.append((network.loop.time(), self._server))
        if self._server in network.broken:
            raise ValueError("it cannot be told why")
        network.under_way += 1
        network.loop.late(network.cost)
        outcome = network.outcomes.get(self._server, Outcome.PASSED)
        blackhole = outcome is Outcome.CONNECT_TIMEOUT or network.silent
        delay = self._timeout if blackhole else network.delay
        if network.silent:
            outcome = Outcome.CONNECT_TIMEOUT

        def end() -> None:
            network.under_way -= 1
            done(Result(outcome, delay, percent=network.percent))

        timer = network.loop.call_later(delay, end)

        class Running:
            def cancel(self) -> None:
                if not timer.cancelled():
                    network.under_way -= 1
                timer.cancel()

        return Running()


class World:
    def __init__(self, *, share: float = 0.9, grace: float = 30.0) -> None:
        self.loop = FakeLoop()
        self.network = Network(self.loop)
        self.transitions: list[tuple[float, str, Condition]] = []
        self.wishes = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.monitor = Monitor(
            self.loop,  # type: ignore[arg-type]
            self.network.make,
            self._changed,
            lambda key, result: self.outcomes.update([result.outcome]),
            Partition(share, grace),
            behind=lambda: 0.0,  # test_overload has answers that wait for their turn
            lateness_limit=0.25,
            random=Random(7),
        )

    def _changed(self, told: Mapping[Key, Transition | None]) -> None:
        for key, transition in told.items():
            if transition is None:
                self.wishes += 1
            else:
                when = round(self.loop.time() - 1000, 3)
                self.transitions.append((when, str(key.target.address), transition.new))

    def falls(self) -> list[tuple[float, str]]:
        return [(when, who) for when, who, new in self.transitions if new is Condition.DOWN]

    def condition(self, number: int) -> Condition:
        return self.monitor.subjects[key(number)].state.condition


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.monitor.stop()
    assert world.network.under_way == 0


def server(number: int) -> str:
    return str(ip_address("10.0.0.0") + number)


def key(number: int, timing: Timing = TIMING, check: Check | None = None) -> Key:
    return Key(check or TcpCheck(), timing, Target(ip_address(server(number)), 80))


def watch(world: World, count: int, good: bool = True) -> None:
    world.monitor.watch({key(number): good for number in range(1, count + 1)})


def test_a_server_is_asked_at_once_and_then_at_its_interval(world: World) -> None:
    watch(world, 1)
    world.loop.run(12)
    assert world.network.times(server(1)) == [0, 5, 10]


def test_many_first_probes_are_spread(world: World) -> None:
    watch(world, 2000)
    world.loop.run(1)
    firsts = {who: when for when, who in reversed(world.network.asked)}
    assert len(firsts) == 2000
    took = max(firsts.values()) - min(firsts.values())
    assert took == pytest.approx(1999 / MOST, abs=4 * TICK)


def test_a_crowd_is_spread_over_its_interval_from_the_second_time_on(world: World) -> None:
    watch(world, 2000)
    world.loop.run(10)
    before = len(world.network.asked)
    world.loop.run(5)
    halves = Counter(int((when - 1010) // 2.5) for when, _ in world.network.asked[before:])
    assert sum(halves.values()) == 2000
    assert all(900 < halves[half] < 1100 for half in (0, 1))


def test_one_of_a_crowd_that_fails_is_asked_again_as_any_other(world: World) -> None:
    """A refusal for a moment, as the daemon begins, is asked after when the moment has passed."""
    watch(world, 400)
    doubted = [server(number) for number in range(10, 400, 20)]
    world.network.outcomes = dict.fromkeys(doubted, Outcome.REFUSED)
    world.loop.run(0.5)
    world.network.outcomes = {}
    world.loop.run(3)
    for who in doubted:
        first, second = world.network.times(who)[:2]
        assert second - first == pytest.approx(TIMING.fast_interval, abs=2 * TICK)
    world.loop.run(60)
    assert world.falls() == []


def test_a_probe_that_cannot_be_started_stops_no_other(world: World) -> None:
    watch(world, 300)
    world.loop.run(1)
    world.network.broken = {server(1), server(7)}
    world.loop.run(11)
    assert len(world.loop.reported) == 2 * 2
    assert world.outcomes[Outcome.NOT_ASKED] == 2 * 2
    last = {who: when - 1000 for when, who in world.network.asked}
    assert all(last[server(number)] >= 5 for number in range(1, 301))
    world.network.broken = set()
    world.network.outcomes[server(7)] = Outcome.REFUSED
    world.loop.run(12)
    assert [who for _, who in world.falls()] == [server(7)]


def test_to_ask_out_of_turn_who_is_overdue_changes_nothing(world: World) -> None:
    watch(world, 300)
    world.loop.run(20)
    world.loop.late(3)
    overdue = min(world.monitor.subjects.values(), key=lambda each: each.due)
    due = overdue.due
    world.monitor.ask_now(overdue.key)
    assert overdue.due == due
    world.loop.run(0.02)
    assert world.network.times(str(overdue.key.target.address))[-1] == pytest.approx(23, abs=TICK)


def test_jitter_brings_a_probe_early_and_never_late(world: World) -> None:
    timing = TIMING.__class__(interval=5, jitter=0.2, fast_interval=1, timeout=2)
    world.monitor.watch({key(1, timing): True})
    world.loop.run(200)
    times = world.network.times(server(1))
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert 4 <= min(gaps) < 4.3 and 4.7 < max(gaps) <= 5


def test_a_refused_server_falls_after_fall_quick_probes(world: World) -> None:
    watch(world, 3)
    world.loop.run(1)
    world.network.outcomes[server(1)] = Outcome.REFUSED
    world.loop.run(20)
    assert world.network.times(server(1))[:4] == [0, 5, 6, 7]
    assert world.falls() == [(7.01, server(1))]


def test_a_blackholed_server_falls_after_fall_timeouts_without_a_pause(world: World) -> None:
    watch(world, 3)
    world.loop.run(1)
    world.network.outcomes[server(1)] = Outcome.CONNECT_TIMEOUT
    world.loop.run(20)
    assert world.network.times(server(1))[:4] == [0, 5, 7, 9]
    assert world.falls() == [(11.0, server(1))]


def test_a_server_that_comes_back_is_asked_quickly_until_it_is_believed(world: World) -> None:
    world.network.outcomes[server(1)] = Outcome.REFUSED
    watch(world, 3)
    world.loop.run(4)
    assert world.condition(1) is Condition.DOWN
    del world.network.outcomes[server(1)]
    world.loop.run(10)
    # after it fell at 2.01 it is asked at its interval: good at 7, again at 8
    assert world.network.times(server(1))[3:5] == [7, 8]
    assert world.transitions[-1] == (8.01, server(1), Condition.UP)


def test_a_new_server_is_up_with_its_first_good_answer(world: World) -> None:
    world.monitor.watch({key(1): False})
    assert world.condition(1) is Condition.WAITING
    world.loop.run(0.02)
    assert world.condition(1) is Condition.UP


def test_one_bad_answer_moves_nothing(world: World) -> None:
    watch(world, 1)
    world.loop.run(1)
    world.network.outcomes[server(1)] = Outcome.RESET
    world.loop.run(4.5)
    del world.network.outcomes[server(1)]
    world.loop.run(60)
    assert world.falls() == []


def test_what_goes_on_being_watched_goes_on_as_it_was(world: World) -> None:
    watch(world, 2)
    world.loop.run(7)
    world.monitor.watch({key(2): False, key(3): False})
    world.loop.run(5)
    assert world.network.times(server(1)) == [0, 5]
    assert world.network.times(server(2)) == pytest.approx([0, 5, 10], abs=2 * TICK)
    assert world.network.times(server(3)) == [7, 12]
    assert world.condition(2) is Condition.UP


def test_who_is_watched_no_more_is_not_told_of(world: World) -> None:
    world.network.delay = 1.5
    watch(world, 1)
    world.loop.run(0.5)
    assert world.network.under_way == 1
    world.monitor.watch({})
    assert world.network.under_way == 0
    world.loop.run(60)
    assert (world.transitions, len(world.network.asked)) == ([], 1)


def test_the_past_is_bounded(world: World) -> None:
    watch(world, 1)
    world.loop.run(200)
    assert len(world.monitor.subjects[key(1)].past) == HISTORY


def test_what_cannot_be_asked_counts_for_nothing(world: World) -> None:
    watch(world, 3)
    world.loop.run(1)
    world.network.outcomes = {server(n): Outcome.NOT_ASKED for n in range(1, 4)}
    world.loop.run(100)
    assert world.falls() == []
    assert world.condition(1) is Condition.UP


def test_a_wish_for_another_weight_is_told_and_only_when_it_changes(world: World) -> None:
    world.monitor.watch({key(1, check=AgentCheck(9999)): True})
    world.loop.run(1)
    world.network.percent = 75
    world.loop.run(30)
    assert world.wishes == 1
    assert world.monitor.subjects[key(1, check=AgentCheck(9999))].wish.percent == 75


# -- trust in itself


def test_a_monitor_that_was_stopped_takes_nobody_out(world: World) -> None:
    watch(world, 50)
    world.loop.run(10)
    world.network.silent = True  # as nobody hears answers that came while we were stopped
    world.loop.run(0.5)
    asked_before = world.network.under_way
    world.loop.late(30)
    world.network.silent = False
    world.loop.run(60)
    assert asked_before or world.network.asked
    assert world.falls() == []
    assert world.monitor.trust.suspensions == 1


def test_bad_answers_while_we_are_starved_are_suspended_and_good_ones_count(world: World) -> None:
    watch(world, 3, good=False)
    world.network.outcomes[server(1)] = Outcome.REFUSED
    for _ in range(100):
        world.loop.late(0.4)
        world.loop.run(0.01)
    assert world.outcomes[Outcome.SUSPENDED] > 3
    assert world.falls() == []
    assert world.condition(2) is Condition.UP
    world.loop.run(30)  # the CPU is back
    assert [who for _, who in world.falls()] == [server(1)]


def test_what_was_under_way_while_we_were_late_counts_only_where_it_is_good(world: World) -> None:
    slow = Timing(interval=20, fast_interval=20, timeout=10, rise=1, fall=1, jitter=0)
    world.monitor.watch({key(number, slow): False for number in (1, 2)})
    world.network.delay = 5
    world.network.outcomes[server(1)] = Outcome.REFUSED
    world.loop.run(1)
    world.loop.late(2)
    world.loop.run(10)  # the answers come two seconds later, when we are in time again
    assert world.outcomes == {Outcome.SUSPENDED: 1, Outcome.PASSED: 1}
    world.loop.run(20)
    assert [who for _, who in world.falls()] == [server(1)]


def test_silence_counts_though_it_always_lasts_longer_than_from_one_hold_to_the_next(
    world: World,
) -> None:
    patient = Timing(interval=10, fast_interval=5, timeout=5, rise=2, fall=3, jitter=0)
    world.monitor.watch({key(number, patient): True for number in range(1, 6)})
    world.network.outcomes[server(1)] = Outcome.CONNECT_TIMEOUT
    for _ in range(20):
        world.loop.run(2.7)
        world.loop.late(0.4)
    assert [who for _, who in world.falls()] == [server(1)]


def test_silence_of_which_we_have_missed_a_good_part_does_not_count(world: World) -> None:
    patient = Timing(interval=10, fast_interval=5, timeout=5, rise=2, fall=3, jitter=0)
    world.monitor.watch({key(number, patient): True for number in range(1, 6)})
    world.network.outcomes[server(1)] = Outcome.CONNECT_TIMEOUT
    for _ in range(20):
        world.loop.run(2)
        world.loop.late(0.9)
    assert world.falls() == []


@pytest.mark.parametrize("count", [24, 60])
def test_probes_that_cost_more_than_there_is_time_for_are_slowed_and_still_judged(
    world: World, count: int
) -> None:
    """All at once they would make the prober late, each time anew, and none would be believed."""
    world.network.cost = 0.03
    world.network.outcomes[server(1)] = Outcome.REFUSED
    watch(world, count, good=False)
    world.loop.run(30)
    assert {who for _, who, new in world.transitions if new is Condition.UP} == {
        server(number) for number in range(2, count + 1)
    }
    assert [who for _, who in world.falls()] == [server(1)]
    world.network.cost = 0
    world.loop.run(10)
    assert world.monitor.pace.rate == MOST


def test_overdue_probes_are_spread_again(world: World) -> None:
    watch(world, 2000)
    world.loop.run(10)
    before = len(world.network.asked)
    world.loop.late(30)
    world.loop.run(0.1)
    assert 100 < len(world.network.asked) - before < 1000
    world.loop.run(5)
    assert len({who for _, who in world.network.asked[before:]}) == 2000


def test_starts_are_counted_by_how_late_they_were(world: World) -> None:
    watch(world, 2)
    world.loop.run(7)
    world.loop.late(0.1)
    world.loop.run(20)
    assert sum(world.monitor.lateness.buckets) == len(world.network.asked)
    assert world.monitor.lateness.buckets[0] >= 2


# -- partitions


def all_fail(world: World, count: int) -> None:
    world.network.outcomes = {server(n): Outcome.UNREACHABLE for n in range(1, count + 1)}


def test_when_everything_fails_at_once_verdicts_wait_for_the_grace(world: World) -> None:
    watch(world, 20)
    world.loop.run(21)
    all_fail(world, 20)
    world.loop.run(25)
    assert world.falls() == []
    assert world.outcomes[Outcome.HELD] > 20
    assert world.monitor.partition.held(world.loop.time())
    world.loop.run(20)
    assert len(world.falls()) == 20


def test_a_partition_that_ends_within_the_grace_moves_nothing(world: World) -> None:
    watch(world, 20)
    world.loop.run(21)
    all_fail(world, 20)
    world.loop.run(15)
    world.network.outcomes = {}
    world.loop.run(100)
    assert world.falls() == []
    all_fail(world, 20)  # and the next one has a grace of its own
    world.loop.run(25)
    assert world.falls() == []


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_an_uplink_that_flaps_takes_nobody_out(world: World, dead: int) -> None:
    """Servers that are down all the time are no reason to take the second cut for the first."""
    all_fail(world, dead)
    watch(world, 20)
    world.loop.run(21)
    for _ in range(4):
        all_fail(world, 20)
        world.loop.run(8)
        all_fail(world, dead)
        world.loop.run(23.5)
    all_fail(world, 20)
    world.loop.run(25)
    assert len(world.falls()) == dead
    world.loop.run(10)
    assert len(world.falls()) == 20


def test_who_goes_on_failing_when_the_others_are_back_falls(world: World) -> None:
    watch(world, 20)
    world.loop.run(21)
    all_fail(world, 20)
    world.loop.run(8)
    all_fail(world, 1)
    world.loop.run(6)
    assert [who for _, who in world.falls()] == [server(1)]


def test_silence_that_began_in_a_partition_is_held_though_others_answer_already(
    world: World,
) -> None:
    watch(world, 20)
    world.loop.run(21)
    world.network.silent = True
    world.loop.run(12)
    world.network.silent = False  # what is under way still runs into its timeout
    world.loop.run(60)
    assert world.falls() == []


def test_a_second_partition_has_a_grace_of_its_own_after_a_first_that_outlasted_it() -> None:
    world = World(grace=10)
    watch(world, 20)
    world.loop.run(21)
    all_fail(world, 20)
    world.loop.run(60)
    assert len(world.falls()) == 20
    world.network.outcomes = {}
    world.loop.run(60)
    all_fail(world, 20)
    world.loop.run(9)
    assert len(world.falls()) == 20


def test_some_that_fail_among_many_that_answer_are_no_partition(world: World) -> None:
    watch(world, 20)
    world.loop.run(21)
    all_fail(world, 10)
    world.loop.run(10)
    assert len(world.falls()) == 10


@pytest.mark.parametrize("count", (1, 2))
def test_few_servers_are_no_partition(world: World, count: int) -> None:
    watch(world, count)
    world.loop.run(1)
    all_fail(world, count)
    world.loop.run(10)
    assert len(world.falls()) == count


def test_one_of_three_that_dies_is_out_in_time_for_others_are_asked_at_once(world: World) -> None:
    watch(world, 3)
    world.loop.run(1)
    world.network.outcomes[server(1)] = Outcome.REFUSED
    world.loop.run(6.5)
    assert world.falls() == [(7.01, server(1))]
    others = sum(len(world.network.times(server(n))) for n in (2, 3))
    assert others <= 2 * 2 + CANARIES


@pytest.mark.parametrize("seed", range(20))
def test_five_of_twenty_that_die_within_a_second_are_each_out_in_time(seed: int) -> None:
    timing = Timing(interval=1, fast_interval=0.5, timeout=0.5, rise=2, fall=2, jitter=0.1)
    world, random = World(), Random(seed)
    world.monitor.watch({key(n, timing): True for n in range(1, 21)})
    for _ in range(20):
        world.loop.run(5 + random.random())
        died: dict[str, float] = {}
        for number in random.sample(range(1, 21), 5):
            world.network.outcomes[server(number)] = Outcome.REFUSED
            died[server(number)] = world.loop.time() - 1000
            world.loop.run(random.random() / 5)
        world.loop.run(3)
        fell = {who: when for when, who in world.falls()}
        late = {who: round(fell[who] - when, 3) for who, when in died.items()}
        assert max(late.values()) <= 1 + 0.5 + 2 * world.network.delay + 2 * TICK, late
        world.network.outcomes.clear()
    world.monitor.stop()


def test_without_a_grace_there_is_none() -> None:
    world = World(grace=0)
    watch(world, 20)
    world.loop.run(1)
    all_fail(world, 20)
    world.loop.run(10)
    assert len(world.falls()) == 20


def test_the_long_dead_are_no_evidence(world: World) -> None:
    all_fail(world, 9)
    watch(world, 10)
    world.loop.run(120)
    assert len(world.falls()) == 9
    world.network.outcomes[server(10)] = Outcome.REFUSED
    world.loop.run(10)
    assert [who for _, who in world.falls()][-1] == server(10)
