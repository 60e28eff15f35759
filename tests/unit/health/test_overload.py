"""More probes than there is processor for: starts and answers cost, and the monitor still judges.

The monitor and the poller are real, down to the epoll set; only the clock is not. Answers are there
at once, so all that is late here is the prober.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from random import Random
from typing import NamedTuple

import pytest

from kernlb.health.check import Check, Target, TcpCheck, Timing
from kernlb.health.fsm import Condition, Transition
from kernlb.health.monitor import Key, Monitor
from kernlb.health.outcome import Outcome, Result
from kernlb.health.pace import MOST
from kernlb.health.partition import Partition
from kernlb.health.probes import sockets
from kernlb.health.probes.sockets import Poller
from kernlb.health.trust import BEAT
from tests.unit.health.clock import PollingLoop

TIMING = Timing(interval=5, fast_interval=1, timeout=2, rise=2, fall=3)
REFUSED = [ip_address("10.0.0.1"), ip_address("10.0.0.3")]
SILENT = [ip_address("10.0.0.2"), ip_address("10.0.0.4")]


class Cost(NamedTuple):
    """Seconds for which nothing else happens."""

    start: float
    answer: float  # of each of two, as in a handshake


class Attempt:
    """What begins with a connection and passes with the second answer."""

    def __init__(self, busy: Busy, target: Target, timeout: float, done: Callable[..., None]):
        self.busy, self.done, self.over, self.answers = busy, done, False, 0
        self.refused = target.address in REFUSED
        self.sock, self.far = socket.socketpair()
        if target.address not in SILENT:
            self.far.send(b"x")
        busy.poller.watch(self.sock.fileno(), self)
        busy.poller.deadlines(timeout).add(busy.loop.time(), self)

    def ready(self, events: int) -> None:
        if self.sock.fileno() >= 0 and not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            return
        if self.refused:
            self.end(Outcome.REFUSED)
            return
        self.busy.loop.late(self.busy.cost.answer)
        self.answers += 1
        if self.answers == 2:
            self.end(Outcome.PASSED)
        else:
            self.busy.poller.again(self.sock.fileno())

    def expire(self) -> None:
        self.end(Outcome.STALLED if self.answers else Outcome.CONNECT_TIMEOUT)

    def end(self, outcome: Outcome) -> None:
        self.cancel()
        self.done(Result(outcome, 0.0))

    def cancel(self) -> None:
        if not self.over:
            self.over = True
            self.busy.poller.forget(self.sock.fileno())
            self.sock.close()
            self.far.close()


class Probe:
    def __init__(self, busy: Busy, timeout: float, target: Target) -> None:
        self._busy, self._timeout, self._target = busy, timeout, target

    def start(self, done: Callable[[Result], None]) -> Attempt:
        self._busy.loop.late(self._busy.cost.start)
        return Attempt(self._busy, self._target, self._timeout, done)


class Busy:
    """A prober, what it found, and how often it doubted itself."""

    def __init__(self, loop: PollingLoop, cost: Cost) -> None:
        self.loop, self.cost, self.poller = loop, cost, Poller(loop)  # type: ignore[arg-type]
        self.outcomes: Counter[Outcome] = Counter()
        self.conditions: dict[object, Condition] = {}
        self.beats = self.doubted = 0
        self.monitor = Monitor(
            loop,  # type: ignore[arg-type]
            lambda check, timeout, target: Probe(self, timeout, target),
            self._changed,
            lambda key, result: self.outcomes.update([result.outcome]),
            Partition(0.9, 30.0),
            behind=self.poller.lag,
            lateness_limit=0.25,
            random=Random(3),
        )

    def _changed(self, told: Mapping[Key, Transition | None]) -> None:
        for key, transition in told.items():
            if transition is not None:
                self.conditions[key.target.address] = transition.new

    def watch(self, count: int, check: Check | None = None) -> None:
        addresses = (ip_address("10.0.0.0") + number for number in range(1, count + 1))
        keys = (Key(check or TcpCheck(), TIMING, Target(each, 80)) for each in addresses)
        self.monitor.watch(dict.fromkeys(keys, False))

    def run(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self.loop.time() < until:
            self.loop.run(BEAT)
            self.beats += 1
            self.doubted += self.monitor.trust.doubted(self.loop.time())

    def close(self) -> None:
        self.monitor.stop()
        self.poller.close()


@pytest.fixture
def prober(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Cost], Busy]]:
    loop, made = PollingLoop(), list[Busy]()
    monkeypatch.setattr(sockets, "monotonic", loop.time)

    def make(cost: Cost) -> Busy:
        made.append(Busy(loop, cost))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("count", "cost"),
    [
        (60, Cost(0.001, 0.030)),  # there is time enough for these, by a little
        (200, Cost(0.001, 0.030)),
        (400, Cost(0.001, 0.015)),
        (400, Cost(0.015, 0.015)),
        (3000, Cost(0.001, 0.002)),
    ],
)
def test_who_is_dead_is_found_though_answers_cost_more_than_there_is_time_for(
    prober: Callable[[Cost], Busy], count: int, cost: Cost
) -> None:
    busy = prober(cost)
    busy.watch(count)
    busy.run(120)
    assert Counter(busy.conditions.values()) == {Condition.UP: count - 4, Condition.DOWN: 4}
    assert all(busy.conditions[each] is Condition.DOWN for each in (*REFUSED, *SILENT))
    assert busy.doubted < busy.beats / 5
    busy.cost = Cost(0, 0)
    busy.run(10)
    assert busy.monitor.pace.rate == MOST


def test_who_is_in_doubt_waits_for_no_one_elses_turn(prober: Callable[[Cost], Busy]) -> None:
    """To ask everybody once takes more than a minute."""
    busy = prober(Cost(0.001, 0.010))
    busy.watch(3000)
    busy.run(30)
    assert {who for who, new in busy.conditions.items() if new is Condition.DOWN} == {
        *REFUSED,
        *SILENT,
    }
    assert len(busy.conditions) < 2000
