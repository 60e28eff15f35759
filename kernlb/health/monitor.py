"""Which probe when, and what is known of every target: the only part of health with a clock.

A subject is a check of a target with its timing; services that ask the same of the same server
share it, and it is probed once. Results step its state machine unless they are doubted (``trust``)
or held (``partition``). Whoever listens hears which subjects changed, together and soon, and
decides what that means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from math import inf
from random import Random
from typing import NamedTuple

from kernlb.health import fsm
from kernlb.health.agenda import Agenda
from kernlb.health.check import Check, Target, Timing
from kernlb.health.lateness import Lateness
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.pace import MOST, Pace
from kernlb.health.partition import Partition
from kernlb.health.probes import Done, Probe, Running
from kernlb.health.trust import BEAT, Trust

HISTORY = 8  # results kept of each subject
CANARIES = 4  # others that are asked at once when one begins to fail
CANARY_INTERVAL = 0.1  # seconds between two such rounds
STARTING = 0.02  # seconds of starting probes, before the loop may do something else
TICK = 0.01  # seconds: of many targets, those due within one are started together
CROWD = 256  # when more are new at once, they are spread over their interval the next time


class Key(NamedTuple):
    """What makes two probes the same."""

    check: Check
    timing: Timing
    target: Target


class Heard(NamedTuple):
    """A result, and when it came (seconds of the loop's clock)."""

    result: Result
    at: float


class Wish(NamedTuple):
    """What a server asks for that is good: a share of its weight in percent, or to be drained."""

    percent: int | None = None
    leaving: bool = False


NO_WISH = Wish()


class Subject:
    """What is known of one target by one check. ``done`` hears each result."""

    __slots__ = (
        *("done", "due", "key", "order", "past", "probe"),
        *("running", "spread", "started", "state", "wish"),
    )

    def __init__(self, key: Key, probe: Probe, state: fsm.State, hear: Hear) -> None:
        self.key, self.probe, self.state = key, probe, state
        self.done: Done = partial(hear, self)
        self.due = self.started = 0.0  # of the next start, and of the last
        self.order = 0  # of its entry in the agenda
        self.spread = False  # is the next start to be anywhere within the interval?
        self.running: Running | None = None
        self.past: deque[Heard] = deque(maxlen=HISTORY)
        self.wish = NO_WISH


Hear = Callable[[Subject, Result], None]
Make = Callable[[Check, float, Target], Probe]
Changed = Callable[[Mapping[Key, "fsm.Transition | None"]], None]
Finished = Callable[[Key, Result], None]


class Monitor:
    """Probes all that it was told to watch, until :meth:`stop`.

    ``make`` gives a probe for a check, a timeout and a target. ``changed`` hears the transitions
    of one turn of the loop together, None where only a wish is another; ``finished`` hears every
    result, as counted. ``behind`` says how late answers are heard, in seconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Make,
        changed: Changed,
        finished: Finished,
        partition: Partition,
        *,
        behind: Callable[[], float],
        lateness_limit: float,
        random: Random,
    ) -> None:
        self._loop, self._make, self._random = loop, make, random
        self._changed, self._finished, self._behind = changed, finished, behind
        self.partition = partition
        self.trust = Trust(lateness_limit, loop.time())
        self.pace = Pace(loop.time())
        self.lateness = Lateness()  # of starts
        self.subjects: dict[Key, Subject] = {}
        self._agenda: Agenda[Subject] = Agenda()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = self._last_tick = 0.0
        self._transitions: dict[Key, fsm.Transition | None] = {}
        self._last_canaries = 0.0
        self._canaries: asyncio.TimerHandle | None = None  # while a round is to come
        self._beat: asyncio.TimerHandle | None = None  # while there is anything to watch

    # -- what to watch

    def watch(self, wanted: Mapping[Key, bool]) -> None:
        """Watch exactly these from now on; what is watched already goes on as it was.

        The value says whether a new one is held to be good until it is known better."""
        for key in self.subjects.keys() - wanted.keys():
            self._drop(self.subjects.pop(key))
        fresh = [key for key in wanted if key not in self.subjects]
        now, crowd = self._loop.time(), len(fresh) > CROWD
        for number, key in enumerate(fresh):
            probe = self._make(key.check, key.timing.timeout, key.target)
            subject = Subject(key, probe, fsm.begin(wanted[key], now), self._done)
            subject.spread = crowd
            self.subjects[key] = subject
            due = now + min(number / MOST, key.timing.interval)
            self._agenda.plan(subject, due, urgent=False)
        self._agenda.trim(len(self.subjects))
        if self.subjects and self._beat is None:
            self.trust.begin(now)
            self._beat = self._loop.call_at(now + BEAT, self._heartbeat)
        self._arm()

    @property
    def now(self) -> float:
        """Seconds of the loop's clock."""
        return self._loop.time()

    def ask_now(self, key: Key) -> None:
        """Ask out of turn, unless it is being asked or overdue."""
        subject, now = self.subjects[key], self._loop.time()
        if subject.running is None and subject.due > now:
            self._agenda.plan(subject, now, urgent=True)
            self._arm()

    def stop(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        for timer in (self._timer, self._canaries):
            if timer is not None:
                timer.cancel()
        for subject in self.subjects.values():
            self._drop(subject)
        self.subjects.clear()

    def _drop(self, subject: Subject) -> None:
        self._agenda.strike(subject)
        self.partition.forget(subject)
        self._transitions.pop(subject.key, None)
        if subject.running is not None:
            subject.running.cancel()
            subject.running = None

    # -- when

    def _arm(self) -> None:
        """One timer, for the earliest."""
        if (first := self._agenda.first()) == inf:
            return
        due = max(first, self._last_tick + TICK, self.pace.next())
        if self._timer is not None and self._timer_due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = self._loop.call_at(due, self._start_due), due

    def _start_due(self) -> None:
        self._timer = None
        now = began = self._last_tick = self._loop.time()
        agenda, granted, started = self._agenda, self.pace.granted(now), 0
        while started < granted and now - began < STARTING and (subject := agenda.take(now)):
            started += 1
            self.lateness.add(now - subject.due)
            subject.started = now
            try:
                subject.running = subject.probe.start(subject.done)
            except Exception as error:  # the others are to start all the same
                self._cannot_start(subject, error)
            now = self._loop.time()
        self.pace.took(started)
        self._arm()

    def _cannot_start(self, subject: Subject, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "error in a probe", "exception": error})
        self._done(subject, Result(Outcome.NOT_ASKED, 0.0, f"{type(error).__name__}: {error}"))

    # -- what came of it

    def _done(self, subject: Subject, result: Result) -> None:
        now = self._loop.time()
        subject.running = None
        result = self._weighed(subject, result, now)
        subject.past.append(Heard(result, now))
        self._finished(subject.key, result)
        timing = subject.key.timing
        subject.state, transition = fsm.step(subject.state, result, timing, now)
        wishes = self._wishes(subject, result)
        if transition is not None or wishes:
            self._tell(subject.key, transition)
        due = fsm.next_start(subject.state, timing, subject.started, now, self._random.random())
        if subject.spread:
            subject.spread = False
            if not subject.state.in_doubt:
                due = max(now, due - timing.interval * self._random.random())
        urgent = subject.state.in_doubt or result.outcome is Outcome.SUSPENDED
        self._agenda.plan(subject, due, urgent=urgent)
        if self._timer is None or due < self._timer_due:
            self._arm()

    def _wishes(self, subject: Subject, result: Result) -> bool:
        """Does the server ask for something else than before?"""
        if result.outcome.opinion is not Opinion.GOOD:
            return False
        leaving = result.outcome is Outcome.AGENT_DRAIN
        asked = leaving or result.percent is not None  # few servers ask for anything
        before, subject.wish = subject.wish, Wish(result.percent, leaving) if asked else NO_WISH
        return subject.wish != before

    def _weighed(self, subject: Subject, result: Result, now: float) -> Result:
        """The result as it is to be counted: a bad one may say more of us than of the server."""
        if result.outcome.opinion is Opinion.GOOD:
            self.partition.good(subject, now)
        if result.outcome.opinion is not Opinion.BAD:
            return result
        if self.trust.doubts(subject.started, now):
            return result._replace(outcome=Outcome.SUSPENDED, detail=str(result))
        self.partition.bad(subject, subject.key.target.address, now)
        if subject.state.condition.good and not subject.state.in_doubt:
            self._ask_canaries(now)
        falls = fsm.would_fall(subject.state, subject.key.timing)
        if falls and self.partition.holds(subject, subject.started, now):
            return result._replace(outcome=Outcome.HELD, detail=str(result))
        return result

    def _ask_canaries(self, now: float) -> None:
        """Do others answer? By the time of a verdict that is known, so none goes without."""
        if self._canaries is None and len(self.subjects) > 1:
            due = max(now, self._last_canaries + CANARY_INTERVAL)
            self._canaries = self._loop.call_at(due, self._start_canaries)

    def _start_canaries(self) -> None:
        self._canaries, self._last_canaries = None, self._loop.time()
        some = min(4 * CANARIES, len(self.subjects))
        drawn = (self.subjects[key] for key in self._random.sample([*self.subjects], some))
        well = (one.key for one in drawn if one.state.condition.good and not one.state.in_doubt)
        for key in islice(well, CANARIES):
            self.ask_now(key)

    def _tell(self, key: Key, transition: fsm.Transition | None) -> None:
        if not self._transitions:
            self._loop.call_soon(self._tell_all)
        self._transitions[key] = transition or self._transitions.get(key)

    def _tell_all(self) -> None:
        told, self._transitions = self._transitions, {}
        if told:
            self._changed(told)

    # -- trust

    def _heartbeat(self) -> None:
        now, self._beat = self._loop.time(), None
        if not self.subjects:
            return
        lag = self.trust.beat(now, self._behind())
        self.pace.beat(nearly_late=lag > self.trust.limit / 2)
        self._beat = self._loop.call_at(now + BEAT, self._heartbeat)
