"""Does everything fail at once? Then it is rather the balancer that is cut off.

When nearly all that was asked since a server's first bad answer was bad as well, verdicts are held
for a grace; they fall when it has passed, or as soon as enough others answer. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice

from kernlb.model import IPAddress

FEWEST_PROBES = 3
FEWEST_ADDRESSES = 2
WINDOW = 10.0  # seconds: what began to fail longer before is another matter
SAMPLE = 1000  # that many of the latest are looked at
REMEMBERED = 0.1  # seconds for which "everything fails" is not worked out anew


class Partition:
    """``share`` (0..1) of what was asked must fail; ``grace`` in seconds, 0 switches it off."""

    def __init__(self, share: float, grace: float) -> None:
        self.share, self.grace = share, grace
        self._failing: dict[Hashable, tuple[float, IPAddress]] = {}  # since when, oldest first
        self._good: dict[Hashable, float] = {}  # when last heard, oldest first
        self._until: float | None = None  # the end of the grace, None: no partition
        self._found = self._looked = self._ended = -1.0

    def good(self, key: Hashable, now: float) -> None:
        self._failing.pop(key, None)
        self._good.pop(key, None)
        self._good[key] = now  # at the end
        if self._until is not None:
            self._look_for_the_end(now)

    def bad(self, key: Hashable, address: IPAddress, now: float) -> None:
        self._failing.setdefault(key, (now, address))
        self._good.pop(key, None)

    def forget(self, key: Hashable) -> None:
        self._failing.pop(key, None)
        self._good.pop(key, None)

    def held(self, now: float) -> bool:
        """Are verdicts held?"""
        return self._until is not None and now < self._until and self._lasts()

    def holds(self, key: Hashable, started: float, now: float) -> bool:
        """Is a verdict against this one, which was asked then and has just failed, to wait? So is
        one of a probe that started while verdicts were held, though others answer by now."""
        if not self.grace:
            return False
        since = self._failing[key][0]
        if now - self._found > REMEMBERED:
            if not self._everything_fails(since):
                self._end(now)
                return started <= self._ended
            self._found = now
        if self._until is None or since > self._until:  # since the last time, that is
            self._until = now + self.grace
        return now < self._until

    def _look_for_the_end(self, now: float) -> None:
        """A partition is over when others answer again: the next one has a grace of its own."""
        if self._failing and now - self._looked <= REMEMBERED:
            return
        self._looked = now
        if not self._lasts():
            self._end(now)

    def _end(self, now: float) -> None:
        if self._until is not None and now < self._until:
            self._ended = now
        self._until, self._found = None, -1.0

    def _lasts(self) -> bool:
        """Does everything fail that began to of late?"""
        if not self._failing:
            return False
        since, _ = next(reversed(self._failing.values()))
        return self._everything_fails(since)

    def _everything_fails(self, since: float) -> bool:
        addresses: set[IPAddress] = set()
        failing = 0
        for began, address in islice(reversed(self._failing.values()), SAMPLE):
            if began < since - WINDOW:
                break
            failing += 1
            addresses.add(address)
        if failing < FEWEST_PROBES or len(addresses) < FEWEST_ADDRESSES:
            return False
        most = int(failing * (1 - self.share) / self.share)  # that may be good all the same
        latest = list(islice(reversed(self._good.values()), most + 1))
        return len(latest) <= most or latest[most] < since
