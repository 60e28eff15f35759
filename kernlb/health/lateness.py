"""How late probes start: all of them by bucket, the latest one by one. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from math import ceil, inf

BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, inf)
LATEST = 1000  # that are kept


class Lateness:
    """``buckets`` counts starts by the least of ``BOUNDS`` (seconds) that they were within;
    ``total`` is the sum of all, in seconds."""

    __slots__ = ("_latest", "buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * len(BOUNDS)
        self.total = 0.0
        self._latest: deque[float] = deque(maxlen=LATEST)

    def add(self, late: float) -> None:
        self.buckets[bisect_left(BOUNDS, late)] += 1
        self.total += late
        self._latest.append(late)

    def quantiles(self, *shares: float) -> list[float]:
        """Of the latest starts, in seconds; 0 before the first."""
        ordered = sorted(self._latest) or [0.0]
        return [ordered[max(0, ceil(share * len(ordered)) - 1)] for share in shares]
