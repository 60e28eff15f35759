"""Counters of one service as they were read, and what two readings make: rates and shares. Pure.

Kept in arrays, for there may be 100 000 servers: some 120 bytes each (``bench/scrape.py`` tells).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from kernlb.datapath import ServerStats, ServiceStats
from kernlb.model import ServerKey

COUNTERS = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
GAUGES = ("active", "inactive", "persistent")
FIELDS = (*COUNTERS, *GAUGES)
_WIDTH, _RATES = len(FIELDS), len(COUNTERS)

SLOTS = 6  # of the window in which begun connections are counted
HISTORY = 120  # moments kept of a service
_MOST = 2**32 - 1

NO_RATES = (0.0,) * _RATES


class Reading:
    """A service at ``time`` (seconds since the epoch): ``totals`` as COUNTERS, and of each of
    ``keys`` FIELDS."""

    __slots__ = ("keys", "rows", "time", "totals")

    def __init__(self, time: float, stats: ServiceStats) -> None:
        counters = stats.counters
        self.time = time
        self.totals = tuple(getattr(counters, name) for name in COUNTERS)
        self.keys = tuple(stats.servers)
        self.rows = array("Q", chain.from_iterable(map(_row, stats.servers.values())))

    def share(self, known: Iterable[ServerKey]) -> None:
        """Hold the equal keys that others hold already: one copy is enough."""
        copies = {key: key for key in known}
        self.keys = tuple(copies.get(key, key) for key in self.keys)

    def column(self, field: str) -> array[int]:
        """One of FIELDS of every server, in the order of ``keys``."""
        return self.rows[FIELDS.index(field) :: _WIDTH]

    def row(self, index: int) -> Sequence[int]:
        return self.rows[index * _WIDTH : (index + 1) * _WIDTH]

    def total(self, field: str) -> int:
        """One of FIELDS of all servers."""
        return sum(self.column(field))


def _row(server: ServerStats) -> tuple[int, ...]:
    counters = server.counters
    return (
        *(counters.connections, counters.packets_in, counters.packets_out),
        *(counters.bytes_in, counters.bytes_out),
        *(server.active, server.inactive, server.persistent),
    )


class Track:
    """What is remembered of a service from one reading to the next.

    Counters that went backwards began anew: all that they count is new. A server that was not in
    the reading before has no rates yet, and nothing of what it counts is new: nobody knows since
    when it counts.
    """

    __slots__ = ("_begun", "_history", "_next", "_slot", "latest", "rates", "server_rates")

    def __init__(self, reading: Reading, slot: int) -> None:
        self.latest = reading
        self.rates: tuple[float, ...] = NO_RATES  # of the service
        self.server_rates = array("f", bytes(4 * _RATES * len(reading.keys)))
        self._slot = slot
        self._begun = [_zeros(len(reading.keys)) for _ in range(SLOTS)]
        self._history = array("d")
        self._next = 0  # where the next moment goes once all places are taken

    def hear(self, reading: Reading, slot: int) -> None:
        """Another reading. ``slot`` numbers the part of the window that it is in."""
        before = self.latest
        seconds = reading.time - before.time
        if seconds <= 0:
            return
        old = before.rows
        if reading.keys != before.keys:
            old = self._rearranged(before, reading)
        else:
            reading.keys = before.keys  # one copy of them
        # parts of the window that went by without a reading
        for passed in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            self._begun[passed % SLOTS] = _zeros(len(reading.keys))
        self._slot = max(slot, self._slot)
        self.latest = reading
        self.rates = tuple(
            _grown(now, then) / seconds
            for now, then in zip(reading.totals, before.totals, strict=True)
        )
        now = reading.rows
        if now[::_WIDTH] == old[::_WIDTH] and now == old:
            self.server_rates = array("f", bytes(4 * _RATES * len(reading.keys)))
        else:
            rates: list[list[float]] = []
            for field in range(_RATES):
                grown = list(map(_grown, now[field::_WIDTH], old[field::_WIDTH]))
                if field == 0:
                    place = self._begun[slot % SLOTS]
                    added = (min(a + b, _MOST) for a, b in zip(place, grown, strict=True))
                    self._begun[slot % SLOTS] = array("I", added)
                rates.append([each / seconds for each in grown])
            self.server_rates = array("f", chain.from_iterable(zip(*rates, strict=True)))
        self._remember(reading)

    def _rearranged(self, before: Reading, reading: Reading) -> array[int]:
        """What was counted of the servers as they are now; new ones have not moved."""
        places = {key: index for index, key in enumerate(before.keys)}
        rows = array("Q")
        where: list[int | None] = []
        for index, key in enumerate(reading.keys):
            place = places.get(key)
            where.append(place)
            rows.extend(before.row(place) if place is not None else reading.row(index))
        for slot, begun in enumerate(self._begun):
            moved = (0 if place is None else begun[place] for place in where)
            self._begun[slot] = array("I", moved)
        return rows

    def _remember(self, reading: Reading) -> None:
        connections, _, _, bytes_in, bytes_out = self.rates
        moment = (reading.time, connections, bytes_in, bytes_out, float(reading.total("active")))
        history = self._history
        if len(history) < HISTORY * 5:
            history.extend(moment)
            return
        history[self._next * 5 : self._next * 5 + 5] = array("d", moment)
        self._next = (self._next + 1) % HISTORY

    # -- what readers ask

    def history(self, most: int = HISTORY) -> Iterator[tuple[float, ...]]:
        """The latest moments, oldest first: time, connections, bytes_in and bytes_out a second,
        and active connections."""
        count = len(self._history) // 5
        for at in range(max(0, count - most), count):
            place = (self._next + at) % count * 5
            yield tuple(self._history[place : place + 5])

    def rates_of(self, index: int) -> Sequence[float]:
        return self.server_rates[index * _RATES : (index + 1) * _RATES]

    def begun(self, slot: int) -> list[int]:
        """Connections that began in the window whose newest part is ``slot``, by server."""
        fresh = range(max(slot - SLOTS + 1, self._slot - SLOTS + 1), self._slot + 1)
        parts = [self._begun[each % SLOTS] for each in fresh]
        return [sum(each) for each in zip(*parts, strict=True)] if parts else []


def _zeros(count: int) -> array[int]:
    return array("I", bytes(4 * count))


def _grown(now: int, then: int) -> int:
    return now - then if now >= then else now
