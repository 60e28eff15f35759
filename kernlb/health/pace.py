"""How many probes may start now: as many as the event loop keeps up with.

Probes may cost more than there is processor for: handshakes of TLS, programs, a machine that is
shared. Those that start together are then answered together, the loop is late for all of them, and
without a bound it would be late for ever. So the rate of starts is halved at each heartbeat that
finds it nearly too late, by the loop's lag or by that of the answers, and grows again by little
while it is in time: by a share of itself, for where a probe costs much a few more are many.
Pure: the clock is an argument.
"""

from __future__ import annotations

MOST = 4000.0  # starts a second, when many are new or overdue at once
LEAST = 10.0
GROWTH = 1.05  # at each heartbeat in time: back from the least to the most in six seconds
BURST = 0.064  # seconds whose starts may be saved up


class Pace:
    def __init__(self, now: float) -> None:
        self.rate = MOST  # starts a second
        self._saved = MOST * BURST
        self._then = now

    def beat(self, *, nearly_late: bool) -> None:
        """A heartbeat came."""
        if nearly_late:
            self.rate = max(LEAST, self.rate / 2)
        else:
            self.rate = min(MOST, self.rate * GROWTH)

    def granted(self, now: float) -> int:
        """How many may start."""
        most = max(1.0, self.rate * BURST)
        self._saved = min(most, self._saved + self.rate * (now - self._then))
        self._then = now
        return int(self._saved)

    def took(self, count: int) -> None:
        """So many have started."""
        self._saved -= count

    def next(self) -> float:
        """When one may start, by what is known now."""
        return self._then + max(0.0, 1.0 - self._saved) / self.rate
