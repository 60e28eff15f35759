"""Reads the counters of all services again and again, so that watchers need not.

Service by service, with turns for others in between, and never more than a fiftieth of the time:
where there is much to read, readings are further apart (``interval``). What is remembered is
bounded (``readings``). A service that cannot be read keeps its last reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import thread_time

from kernlb.daemon.desired import Desired
from kernlb.daemon.readings import SLOTS, Reading, Track
from kernlb.datapath import Datapath
from kernlb.model import DatapathKind, ServiceRef

SHARE = 50  # a sweep is followed by a pause of this many times what it cost
WINDOW = 60.0  # seconds over which begun connections are counted, at least
_READINGS = 2  # in each part of the window, at least


class Sampler:
    """``wanted`` is the pause between sweeps in seconds; ``clock`` gives seconds since the
    epoch."""

    def __init__(
        self,
        datapaths: Mapping[DatapathKind, Datapath],
        desired: Desired,
        clock: Callable[[], float],
        wanted: float,
    ) -> None:
        self.wanted = wanted
        self.interval = wanted  # as it is now
        self.tracks: dict[ServiceRef, Track] = {}
        self.sweeps = 0  # that ended
        self._datapaths, self._desired, self._clock = datapaths, desired, clock
        self._part = 0
        self._part_ends = 0.0

    @property
    def window(self) -> float:
        """Seconds over which begun connections are counted."""
        return self._length * SLOTS

    @property
    def part(self) -> int:
        """The newest part of the window."""
        return self._part

    @property
    def _length(self) -> float:
        return max(WINDOW / SLOTS, self.interval * _READINGS)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            cost = await self.sweep()
            self.interval = max(self.wanted, cost * SHARE)
            await asyncio.sleep(self.interval)

    async def sweep(self) -> float:
        """Read every declared service once; seconds of processor time that this took."""
        now = self._clock()
        if now >= self._part_ends or now < self._part_ends - 2 * self._length:
            self._part += 1
            self._part_ends = now + self._length
        cost = 0.0
        for declaration in list(self._desired.declarations.values()):
            began = thread_time()
            if declaration.ref in self._desired:
                self._look(declaration.ref)
            cost += thread_time() - began
            await asyncio.sleep(0)
        for ref in [ref for ref in self.tracks if ref not in self._desired]:
            del self.tracks[ref]
        self.sweeps += 1
        return cost

    def _look(self, ref: ServiceRef) -> None:
        reading = self.read(ref)
        if reading is None:
            return
        track = self.tracks.get(ref)
        if track is None or track.latest.keys != reading.keys:
            reading.share(self._desired.intended(self._desired[ref]).roles)
        if track is None:
            self.tracks[ref] = Track(reading, self._part)
        else:
            track.hear(reading, self._part)

    def read(self, ref: ServiceRef) -> Reading | None:
        """As the kernel says now; None: it cannot be read, or has no such service."""
        datapath = self._datapaths.get(ref.datapath)
        if datapath is None:
            return None
        try:
            stats = datapath.stats([ref.key]).get(ref.key)
        except OSError:
            return None  # the status of the datapath says what is wrong
        return None if stats is None else Reading(self._clock(), stats)

    def fresh(self, ref: ServiceRef) -> Reading | None:
        """The last reading, if it is not older than two pauses; else as the kernel says now."""
        track = self.tracks.get(ref)
        if track is not None and 0 <= self._clock() - track.latest.time <= 2 * self.interval:
            return track.latest
        return self.read(ref)
