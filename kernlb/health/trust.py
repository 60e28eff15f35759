"""Is the prober itself in time?

A process that gets no CPU, is stopped, or has too much to do sees answers late and takes the
lateness for the servers'. So the event loop's own lag is measured by a heartbeat; while it is
above the limit, and for a moment after, bad results say nothing. Pure: the clock is an argument.
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
        self._doubted_until = -1.0

    def begin(self, now: float) -> None:
        """The first heartbeat is to come."""
        self._due = now + BEAT

    def beat(self, now: float) -> bool:
        """A heartbeat came; True if it came so late that what is under way must be dropped."""
        lag = now - self._due
        self._due = now + BEAT
        self.worst = max(self.worst, lag)
        if lag <= self.limit:
            return False
        if now >= self._doubted_until:
            self.suspensions += 1
        self._doubted_until = now + RECOVERY
        return True

    def doubted(self, now: float) -> bool:
        """Is what is heard now to be doubted? Asks the missing heartbeat too: a result may be
        handled before the heartbeat that is as late as itself."""
        return now < self._doubted_until or now - self._due > self.limit

    def take_worst(self) -> float:
        worst, self.worst = self.worst, 0.0
        return worst
