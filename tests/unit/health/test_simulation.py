"""An hour of a thousand servers that come and go, on a clock that costs nothing.

Every probe of the hour is made up by seeded dice, and goes the way it goes in the daemon: state
machine, damping, policy. Then its results alone are played again, without those that say nothing:
the same standings must come out, at the same times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heapreplace
from ipaddress import ip_address
from random import Random
from typing import NamedTuple

import pytest

from kernlb.health import damping, fsm
from kernlb.health.check import Damping, HealthPolicy, Initial, OnDown, Timing, WhenAllDown
from kernlb.health.fsm import TABLE, Condition, State
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.policy import Seen, floor, judge
from kernlb.health.stance import Phase, Stance
from kernlb.intent import IN_KERNEL, Role, Standing, Verdict
from kernlb.model import ServerKey

HOUR, SERVICES, EACH = 3600.0, 40, 25
TIMING = Timing(interval=10.0, fast_interval=2.0)
GOOD, BAD = Result(Outcome.PASSED, 0.001), Result(Outcome.REFUSED, 0.001)
SILENT, LATE = Result(Outcome.CONNECT_TIMEOUT, 2.0), Result(Outcome.SUSPENDED, 0.0)
IN = (Verdict.UP, Verdict.KEPT)
THERE = [verdict for verdict in Verdict if IN_KERNEL[Role(verdict.value)] is not None]

POLICIES = (
    HealthPolicy(),
    HealthPolicy(keep=0.6, damping=Damping(changes=4, period=200.0, hold=90.0)),
    HealthPolicy(quorum=130, hysteresis=30, when_all_down=WhenAllDown.REJECT, withdraw_vip=True),
    HealthPolicy(quorum=150, when_all_down=WhenAllDown.FAIL_OPEN, on_down=OnDown.INHIBIT),
    HealthPolicy(keep=0.9, quorum=200, initial=Initial.UP, damping=Damping(changes=0)),
)


class Moment(NamedTuple):
    """What one service came to, and when."""

    at: float
    standings: tuple[Standing, ...]
    stance: Stance


class Service:
    """One service as the daemon keeps it, told results and nothing else."""

    def __init__(self, number: int, *, checks: bool = True) -> None:
        self.checks = checks
        self.policy = POLICIES[number % len(POLICIES)]
        self.sorry = number % 2 == 0
        self.keys = [ServerKey(ip_address(f"10.0.{number}.{n}"), 80) for n in range(EACH)]
        begins = [fsm.first(n % 5 == 0, self.policy.initial) for n in range(EACH)]
        self.states = [State(condition, 0.0) for condition in begins]
        self.flapping = [damping.CALM] * EACH
        self.in_kernel = [begin.good for begin in begins]
        self.raw: list[list[float]] = [[] for _ in range(EACH)]  # changes that count
        self.rises: list[list[float]] = [[] for _ in range(EACH)]  # as the policy sees them
        self.rows: Counter[tuple[Condition, Condition]] = Counter()
        self.moments: list[Moment] = []
        self.stance = Stance()
        self.next_release = float("inf")
        self.judge(0.0)

    def condition(self, n: int) -> Condition:
        return damping.damped(self.flapping[n], self.states[n].condition)

    def hear(self, n: int, result: Result, now: float) -> None:
        if self.next_release <= now:
            self.release(now)
        was = self.condition(n)
        self.states[n], transition = fsm.step(self.states[n], result, TIMING, now)
        if transition is None:
            return
        self.rows[transition.old, transition.new] += 1
        if damping.counts(transition.old, transition.new):
            self.raw[n].append(now)
            self.flapping[n] = damping.changed(self.flapping[n], self.policy.damping, now)
            self.plan()
        self.saw(n, was, now)
        self.judge(now)

    def release(self, now: float) -> None:
        """What was to be let go until now is let go at its time."""
        for due, n in sorted(self.dues()):
            if due <= now:
                was = self.condition(n)
                self.flapping[n] = damping.settled(self.flapping[n], self.policy.damping, due)
                self.saw(n, was, due)
                self.judge(due)
        self.plan()

    def plan(self) -> None:
        self.next_release = min((due for due, _ in self.dues()), default=float("inf"))

    def dues(self) -> Iterator[tuple[float, int]]:
        for n, flapping in enumerate(self.flapping):
            due = damping.release(flapping, self.policy.damping)
            if due is not None:
                yield due, n

    def saw(self, n: int, was: Condition, now: float) -> None:
        if self.condition(n).good and not was.good and was is not Condition.WAITING:
            self.rises[n].append(now)

    def judge(self, now: float) -> None:
        servers = [
            Seen(
                key,
                10,
                self.condition(n),
                in_kernel=self.in_kernel[n],
                last_good=self.states[n].last_good,
                failures=self.states[n].failures,
            )
            for n, key in enumerate(self.keys)
        ]
        judged = judge(self.policy, servers, self.stance, sorry=self.sorry)
        standings = tuple(judged.standings.values())
        self.stance = judged.stance
        self.moments.append(Moment(now, standings, judged.stance))
        if self.checks:
            self.check(servers, standings)
        self.in_kernel = [each.verdict in THERE for each in standings]

    def check(self, servers: list[Seen], standings: tuple[Standing, ...]) -> None:
        """What holds at every moment."""
        got = sum(each.verdict in IN for each in standings)
        heard = [s for s in servers if s.condition is not Condition.WAITING]
        never = sum(s.last_good is None and not s.in_kernel for s in heard)
        if self.policy.keep:
            assert got >= min(floor(self.policy, len(heard)), len(heard) - never)
        good = [Verdict.UP]
        if self.stance.phase is not Phase.SERVING:
            good = [Verdict.UP, Verdict.SPARED]
        wrong = [
            (server, standing)
            for server, standing in zip(servers, standings, strict=True)
            if (standing.verdict in good) is not server.condition.good
        ]
        assert not wrong


class Server:
    """The far end: good and bad by turns, for as long as dice say."""

    def __init__(self, dice: Random, steady: bool, outage: tuple[float, float] | None) -> None:
        self.dice, self.steady, self.outage = dice, steady, outage
        self.good = dice.random() < 0.8
        self.means = dice.choice(
            [(1800.0, 60.0), (1800.0, 60.0), (300.0, 40.0), (30.0, 20.0), (60.0, 900.0)]
        )
        self.until = 0.0

    def ask(self, now: float) -> Result:
        if self.dice.random() < 0.02:
            return LATE
        if self.steady:
            return GOOD
        while self.until <= now:
            self.good = not self.good
            self.until += self.dice.expovariate(1 / self.means[0 if self.good else 1])
        if self.outage is not None and self.outage[0] <= now < self.outage[1]:
            return SILENT
        return GOOD if self.good else self.dice.choice([BAD, SILENT])


class Hour(NamedTuple):
    services: list[Service]
    heard: list[tuple[float, int, Result]]


def is_steady(number: int) -> bool:
    return number % EACH % 10 == 3


@pytest.fixture(scope="module")
def hour() -> Hour:
    dice = Random(20)
    services = [Service(number) for number in range(SERVICES)]
    servers = [
        Server(
            Random(number),
            is_steady(number),
            (1800.0, 2100.0) if number // EACH % 4 < 2 else None,
        )
        for number in range(SERVICES * EACH)
    ]
    heard: list[tuple[float, int, Result]] = []
    due = [(dice.random(), number) for number in range(len(servers))]
    heapify(due)
    while due[0][0] < HOUR:
        start, number = due[0]
        result = servers[number].ask(start)
        # what ends later than the next begins would be heard out of turn: time stands still
        heard.append((start, number, result))
        service, n = services[number // EACH], number % EACH
        service.hear(n, result, start)
        end = start + result.duration
        heapreplace(
            due, (fsm.next_start(service.states[n], TIMING, start, end, dice.random()), number)
        )
    return Hour(services, heard)


def test_the_hour_is_as_wild_as_it_should_be(hour: Hour) -> None:
    rows: Counter[tuple[Condition, Condition]] = Counter()
    for service in hour.services:
        rows += service.rows
    assert set(rows) == {(row.old, row.new) for row in TABLE}
    assert rows[Condition.UP, Condition.DOWN] > 4000
    assert len(hour.heard) > 350_000
    phases = {moment.stance.phase for service in hour.services for moment in service.moments}
    verdicts = {s.verdict for each in hour.services for m in each.moments for s in m.standings}
    assert {Phase.SERVING, Phase.BELOW} <= phases
    assert verdicts == set(Verdict) - {Verdict.LEAVING}
    assert sum(any(f.held for f in each.flapping) for each in hour.services) > 5


def test_no_server_comes_back_more_often_than_damping_allows(hour: Hour) -> None:
    for service in hour.services:
        limits = service.policy.damping
        if not limits.changes:
            continue
        most = limits.changes + limits.period / limits.hold + 1
        for raw, rises in zip(service.raw, service.rises, strict=True):
            for at in rises:
                few = sum(at - limits.period < when <= at for when in raw) <= limits.changes
                quiet = not any(when <= at < when + limits.hold for when in raw)
                assert few or quiet
                assert sum(at - limits.period < when <= at for when in rises) <= most


def test_without_damping_they_would(hour: Hour) -> None:
    limits = Damping()
    undamped = [each for each in hour.services if not each.policy.damping.changes]
    assert any(
        sum(at - limits.period < when <= at for when in raw) > limits.changes
        and any(when < at < when + limits.hold for when in raw)
        for service in undamped
        for raw, rises in zip(service.raw, service.rises, strict=True)
        for at in rises
    )


def test_a_server_whose_results_are_all_good_is_never_out(hour: Hour) -> None:
    """But spared below a quorum, where the policy says so."""
    for service in hour.services:
        spares = service.policy.when_all_down is WhenAllDown.REJECT
        for n in filter(is_steady, range(EACH)):
            told = [moment.standings[n].verdict for moment in service.moments]
            came = next(at for at, verdict in enumerate(told) if verdict in (*IN, Verdict.SPARED))
            assert set(told[:came]) <= {Verdict.WAITING}
            assert set(told[came:]) <= ({Verdict.UP, Verdict.SPARED} if spares else {Verdict.UP})


def test_standings_are_a_function_of_results_and_those_that_say_nothing_are_none(
    hour: Hour,
) -> None:
    again = [Service(number, checks=False) for number in range(SERVICES)]
    for at, number, result in hour.heard:
        if result.outcome.opinion is not Opinion.NONE:
            again[number // EACH].hear(number % EACH, result, at)
    for service, replayed in zip(hour.services, again, strict=True):
        replayed.release(HOUR)
        service.release(HOUR)
        assert service.moments == replayed.moments
