"""Is the prober itself in time?

A process that gets no CPU, is stopped, or has too much to do sees answers late and takes the
lateness for the servers'. So the event loop's own lag is measured by a heartbeat; while it is
above the limit, and for a moment after, bad results say nothing, nor do those of probes that were
under way then. Good ones do: a server cannot answer by accident. Pure: the clock is an argument.
"""

from __future__ import annotations

BEAT = 0.05  # seconds between heartbeats
RECOVERY = 1.0  # how long after the last late heartbeat results are doubted


class Trust:
    """``limit`` is the lag in seconds above which the prober is not to be trusted."""

    def __init__(self, limit: float, now: float) -> None:
        self.limit = limit
        self.suspensions = 0
        self.worst = 0.0  # lag in seconds since it was last asked for
        self._due = now + BEAT
        self._late_at = self._doubted_until = -1.0

    def begin(self, now: float) -> None:
        """The first heartbeat is to come."""
        self._due = now + BEAT

    def beat(self, now: float) -> float:
        """A heartbeat came; how late, in seconds."""
        lag = now - self._due
        self._due = now + BEAT
        self.worst = max(self.worst, lag)
        if lag > self.limit:
            if now >= self._doubted_until:
                self.suspensions += 1
            self._late_at = now
            self._doubted_until = now + RECOVERY
        return lag

    def doubted(self, now: float) -> bool:
        """Is what is heard now to be doubted? Asks the missing heartbeat too: a result may be
        handled before the heartbeat that is as late as itself."""
        return now < self._doubted_until or now - self._due > self.limit

    def doubts(self, started: float, now: float) -> bool:
        """Is a bad result of a probe that started then to be doubted, if it comes now?"""
        return started <= self._late_at or self.doubted(now)

    def take_worst(self) -> float:
        worst, self.worst = self.worst, 0.0
        return worst
