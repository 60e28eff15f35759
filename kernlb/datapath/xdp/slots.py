"""What is free in the maps: runs of entries, and ids. Pure.

What is freed rests before it is used again, for a packet that is on its way may still go by it. A
run rests for a second (a packet takes microseconds); under pressure a twentieth of one is enough.
An id of a server rests until every connection that names it has been swept away, for their end
would be counted as its successor's.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Collection, Iterable

from kernlb.datapath.xdp.layout import Run

REST = 1.0  # seconds
SHORTEST_REST = 0.05

EMPTY = Run(0, 0)


class Runs:
    """Which entries of the map `slots` are in use. Times are seconds, monotonic."""

    def __init__(self, size: int, used: Iterable[Run] = ()) -> None:
        self._starts = [0]  # of free stretches, in order
        self._lengths = {0: size}
        self._resting: deque[tuple[float, Run]] = deque()
        at = 0
        self._starts, self._lengths = [], {}
        for run in sorted(each for each in used if each.count):
            self._free(Run(at, run.first - at))
            at = max(at, run.first + run.count)
        self._free(Run(at, size - at))

    @property
    def free(self) -> int:
        """Entries; those at rest are not among them."""
        return sum(self._lengths.values())

    def take(self, count: int, now: float) -> Run | None:
        """A run of that many entries, or None where there is no room."""
        if not count:
            return EMPTY
        self._wake(now - REST)
        return self._first_fit(count) or self._pressed(count, now)

    def rest(self, run: Run, now: float) -> None:
        if run.count:
            self._resting.append((now, run))

    def _pressed(self, count: int, now: float) -> Run | None:
        self._wake(now - SHORTEST_REST)
        return self._first_fit(count)

    def _wake(self, since: float) -> None:
        while self._resting and self._resting[0][0] <= since:
            self._free(self._resting.popleft()[1])

    def _first_fit(self, count: int) -> Run | None:
        for index, start in enumerate(self._starts):
            length = self._lengths[start]
            if length < count:
                continue
            del self._lengths[start]
            if length == count:
                del self._starts[index]
            else:
                self._starts[index] = start + count
                self._lengths[start + count] = length - count
            return Run(start, count)
        return None

    def _free(self, run: Run) -> None:
        """Joined with what is free on either side."""
        first, count = run
        if count <= 0:
            return
        index = bisect_left(self._starts, first)
        if index and (before := self._starts[index - 1]) + self._lengths[before] == first:
            first, count = before, count + self._lengths.pop(before)
            index -= 1
            del self._starts[index]
        if index < len(self._starts) and self._starts[index] == run.first + run.count:
            count += self._lengths.pop(self._starts.pop(index))
        self._lengths[first] = count
        insort(self._starts, first)


class ServiceIds:
    """Which entries of `services` are in use; a freed one rests like a run."""

    def __init__(self, size: int, used: Collection[int] = ()) -> None:
        self._runs = Runs(size, (Run(each, 1) for each in used))

    def take(self, now: float) -> int | None:
        run = self._runs.take(1, now)
        return None if run is None else run.first

    def rest(self, number: int, now: float) -> None:
        self._runs.rest(Run(number, 1), now)


class ServerIds:
    """Which entries of `servers` are in use."""

    def __init__(self, size: int, used: Collection[int] = (), left: Collection[int] = ()) -> None:
        """``left``: have been servers, and connections may still name them."""
        self.end = max((*used, *left), default=-1) + 1  # nothing from here on was ever used
        self._size = size
        gaps = set(range(self.end)) - set(used) - set(left)
        self._free = deque(sorted(gaps))
        self._resting = list(left)
        self._half_rested: list[int] = []

    def take(self) -> int | None:
        """None where all are in use or at rest. Those that never were servers come first."""
        if self.end < self._size:
            self.end += 1
            return self.end - 1
        return self._free.popleft() if self._free else None

    def rest(self, numbers: Iterable[int]) -> None:
        self._resting += numbers

    def sweep_begins(self) -> None:
        """What rests now will not be named by any connection once this sweep has ended."""
        self._half_rested += self._resting
        self._resting = []

    def sweep_ended(self) -> None:
        """A whole sweep, begun at ``sweep_begins``."""
        self._free += self._half_rested
        self._half_rested = []

    @property
    def resting(self) -> int:
        return len(self._resting) + len(self._half_rested)
