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
        self._until: float | None = None
        self._found = -1.0

    def good(self, key: Hashable, now: float) -> None:
        self._failing.pop(key, None)
        self._good.pop(key, None)
        self._good[key] = now  # at the end

    def bad(self, key: Hashable, address: IPAddress, now: float) -> None:
        self._failing.setdefault(key, (now, address))
        self._good.pop(key, None)

    def forget(self, key: Hashable) -> None:
        self._failing.pop(key, None)
        self._good.pop(key, None)

    def held(self, now: float) -> bool:
        """Are verdicts held?"""
        if self._until is None or now >= self._until or not self._failing:
            return False
        since, _ = next(reversed(self._failing.values()))
        return self._everything_fails(since)

    def holds(self, key: Hashable, now: float) -> bool:
        """Is a verdict against this one, which has just failed, to wait?"""
        if not self.grace:
            return False
        since = self._failing[key][0]
        if now - self._found > REMEMBERED:
            if not self._everything_fails(since):
                self._until = None
                return False
            self._found = now
        if self._until is None or since > self._until:  # since the last time, that is
            self._until = now + self.grace
        return now < self._until

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
