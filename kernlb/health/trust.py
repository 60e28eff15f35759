"""Is the prober itself in time?

A process that gets no CPU, is stopped, or has too much to do sees answers late and takes the
lateness for the servers'. So the event loop's own lag is measured by a heartbeat, and how late it
hears answers; while either is above the limit, and for a moment after, bad results say nothing, nor
do those of probes that lost much of their time by it. Good ones do: a server cannot answer by
accident. Pure: the clock is an argument.
"""

from __future__ import annotations

from collections import deque

BEAT = 0.05  # seconds between heartbeats
RECOVERY = 1.0  # how long after the last late heartbeat results are doubted
LOST = 0.25  # the share of a probe's time that may be lost, and its bad result counts
HOLDS = 256  # late heartbeats that are remembered


class Trust:
    """``limit`` is the lag in seconds above which the prober is not to be trusted."""

    def __init__(self, limit: float, now: float) -> None:
        self.limit = limit
        self.suspensions = 0
        self.worst = 0.0  # lag in seconds since it was last asked for
        self._due = now + BEAT
        self._late_at = self._doubted_until = -1.0
        self._lost: deque[tuple[float, float]] = deque(maxlen=HOLDS)  # until when, seconds

    def begin(self, now: float) -> None:
        """The first heartbeat is to come."""
        self._due = now + BEAT

    def beat(self, now: float, behind: float = 0.0) -> float:
        """A heartbeat came. How late are we, in seconds? ``behind``: so late answers are heard."""
        lag, since = max(now - self._due, behind), now - self._due + BEAT
        self._due = now + BEAT
        self.worst = max(self.worst, lag)
        if lag > self.limit:
            if now >= self._doubted_until:
                self.suspensions += 1
            self._late_at = now
            self._lost.append((now, min(lag, since)))
            self._doubted_until = now + RECOVERY
        return lag

    def doubted(self, now: float) -> bool:
        """Is what is heard now to be doubted? Asks the missing heartbeat too: a result may be
        handled before the heartbeat that is as late as itself."""
        return now < self._doubted_until or now - self._due > self.limit

    def doubts(self, started: float, now: float) -> bool:
        """Is a bad result of a probe that started then to be doubted, if it comes now?

        A probe that had most of its time counts: else one that always takes longer than from one
        hold to the next, as to a server that is silent, would never."""
        if started > self._late_at or self.doubted(now):
            return self.doubted(now)
        lost = sum(seconds for until, seconds in self._lost if until >= started)
        return lost > LOST * (now - started)

    def take_worst(self) -> float:
        worst, self.worst = self.worst, 0.0
        return worst
