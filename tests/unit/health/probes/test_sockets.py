"""Who is told of what when there is more than can be told at once, and what becomes of deadlines.

The sockets and the epoll set are real, the clock is not: being told costs what the test says.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from itertools import pairwise

import pytest

from kernlb.health.probes import sockets
from kernlb.health.probes.sockets import Deadlines, Poller
from tests.unit.health.clock import PollingLoop

COST = 0.01  # seconds for which one that is told holds the loop


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> PollingLoop:
    loop = PollingLoop()
    monkeypatch.setattr(sockets, "monotonic", loop.time)
    return loop


@pytest.fixture
def poller(loop: PollingLoop) -> Iterator[Poller]:
    poller = Poller(loop)  # type: ignore[arg-type]
    yield poller
    poller.close()


class Asked:
    """Somebody with a deadline, and a socket that has something to read if it ``answers``."""

    def __init__(
        self, loop: PollingLoop, poller: Poller, *, answers: bool = True, cost: float = COST
    ) -> None:
        self.loop, self.poller, self.cost = loop, poller, cost
        self.sock, far = socket.socketpair()
        if answers:
            far.send(b"x")
        self.far = far
        self.times: list[float] = []  # it was told
        self.expired: float | None = None
        poller.watch(self.sock.fileno(), self, select.EPOLLIN | select.EPOLLET)

    def ready(self, events: int) -> None:
        self.times.append(self.loop.time() - 1000)
        self.loop.late(self.cost)

    def expire(self) -> None:
        self.expired = round(self.loop.time() - 1000, 3)
        self.end()

    @property
    def over(self) -> bool:
        return self.sock.fileno() < 0

    def end(self) -> None:
        if not self.over:
            self.poller.forget(self.sock.fileno())
            self.sock.close()
            self.far.close()


class Passes(Asked):
    def ready(self, events: int) -> None:
        super().ready(events)
        self.end()


class Flooded(Asked):
    """There is always more to read."""

    def ready(self, events: int) -> None:
        super().ready(events)
        self.poller.again(self.sock.fileno())


def test_a_deadline_that_is_set_while_others_are_due_keeps_none_waiting(
    loop: PollingLoop, poller: Poller
) -> None:
    first, second, third = (Asked(loop, poller, answers=False) for _ in range(3))

    def before() -> float:
        if not third.expired and len(deadlines.queue) == 2:
            deadlines.add(loop.time(), third)
        return loop.time()

    deadlines = Deadlines(loop, 0.3, before)  # type: ignore[arg-type]
    deadlines.add(loop.time(), first)
    loop.run(0.02)
    deadlines.add(loop.time(), second)
    loop.run(1)
    assert (first.expired, second.expired, third.expired) == (0.3, 0.32, 0.6)


def test_answers_in_time_are_heard_before_a_deadline_is_held_against_anybody(
    loop: PollingLoop, poller: Poller
) -> None:
    """Two seconds' worth of them, and the deadline is in half a second."""
    deadlines = poller.deadlines(0.5)
    well = [Passes(loop, poller) for _ in range(200)]
    silent = Asked(loop, poller, answers=False)
    for each in (silent, *well):
        deadlines.add(loop.time(), each)
    loop.run(3)
    assert [each.expired for each in well] == [None] * 200
    assert silent.expired is not None and 2 <= silent.expired < 2.5


def test_a_process_that_was_stopped_hears_first_what_came_meanwhile(
    loop: PollingLoop, poller: Poller
) -> None:
    deadlines = poller.deadlines(0.5)
    well = [Passes(loop, poller, answers=False) for _ in range(20)]
    for each in well:
        deadlines.add(loop.time(), each)
    loop.run(0.1)
    loop.late(30)
    for each in well:
        each.far.send(b"x")
    loop.run(1)
    assert [each.expired for each in well] == [None] * 20


def test_who_is_sent_things_without_end_keeps_neither_loop_nor_deadlines_waiting(
    loop: PollingLoop, poller: Poller
) -> None:
    deadlines = poller.deadlines(0.5)
    flooded = [Flooded(loop, poller, cost=0.001) for _ in range(16)]
    silent = Asked(loop, poller, answers=False)
    for each in (*flooded, silent):
        deadlines.add(loop.time(), each)
    beats: list[float] = []

    def beat() -> None:
        beats.append(loop.time())
        loop.call_later(0.01, beat)

    beat()
    loop.run(1)
    held = max(after - before for before, after in pairwise(beats))
    assert held < 0.06
    assert all(each.expired and 0.5 <= each.expired < 0.6 for each in (*flooded, silent))


def test_how_late_answers_are_heard_is_known(loop: PollingLoop, poller: Poller) -> None:
    loop.run(0.1)
    poller.lag()
    loop.run(0.1)
    assert poller.lag() < 0.01
    asked = [Passes(loop, poller) for _ in range(100)]
    loop.run(0.05)
    poller.lag()  # the mark is behind them
    loop.run(0.4)
    assert 0.3 < poller.lag() < 0.5
    loop.run(1)
    assert all(each.over for each in asked)
    assert 0.7 < poller.lag() < 1.1
    loop.run(0.1)
    assert poller.lag() < 0.01
