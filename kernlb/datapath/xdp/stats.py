"""Counters of services and servers: all CPUs together, and rates between two readings.

The program only counts; what a second's worth is, is found by whoever reads again after a second
or more. A service counts by itself, so its totals stay when its servers go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import NamedTuple

from kernlb.datapath import Counters, ServerStats, ServiceStats
from kernlb.datapath.xdp import reading, records
from kernlb.datapath.xdp.layout import COUNTERS, LOAD, SERVER
from kernlb.datapath.xdp.maps import Maps, Table
from kernlb.model import ServiceKey

SHORTEST = 1.0  # seconds between two readings that a rate is made from
_GENERATION = SERVER.offset["generation"]
_AT_ONCE = 64  # elements apart that are cheaper read together than one by one


Totals = tuple[int, int, int, int, int]  # as Counters begin: connections, packets, bytes
_ZEROS: Totals = (0, 0, 0, 0, 0)
_ORDER = (4, 0, 2, 1, 3)  # of Totals in struct counters


class _Sample(NamedTuple):
    """Totals at a time; ``identity`` tells successors in an entry apart."""

    at: float
    identity: object
    totals: Totals
    rates: Totals


class Stats:
    def __init__(self, maps: Maps, clock: Callable[[], float]) -> None:
        self._maps = maps
        self._clock = clock
        self._services: dict[int, _Sample] = {}
        self._servers: dict[int, _Sample] = {}

    def read(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceStats]:
        maps, now = self._maps, self._clock()
        found = {key: n for key in keys if (n := reading.number_of(maps, key)) is not None}
        members = {key: reading.members(maps, maps.service(n)) for key, n in found.items()}
        services = counted(maps.service_counters, found.values())
        servers = counted(maps.server_counters, (n for each in members.values() for n in each))
        stats = {}
        for key, number in found.items():
            by_server = {}
            for server in members[key]:
                name = records.server_key(maps.servers, server)
                identity = number, maps.servers[server * SERVER.size + _GENERATION]
                counters = _rated(self._servers, server, identity, servers[server], now)
                load = LOAD.unpack(maps.loads, server)
                by_server[name] = ServerStats(counters, load.active, load.inactive, load.persistent)
            total = _rated(self._services, number, key, services[number], now)
            stats[key] = ServiceStats(total, by_server)
        return stats

    def forget(self) -> None:
        """Samples of services and servers that are gone."""
        maps = self._maps
        services = reading.numbers(maps).values()
        self._services = {n: each for n, each in self._services.items() if n in set(services)}
        used = {n for each in services for n in reading.members(maps, maps.service(each))}
        self._servers = {n: each for n, each in self._servers.items() if n in used}


def counted(table: Table, numbers: Iterable[int]) -> dict[int, Totals]:
    """By entry; neighbours are read by one call."""
    found: dict[int, Totals] = {}
    wanted = set(numbers)
    width = COUNTERS.size // 8
    row_of = Struct(f"={table.stride // 8}Q")
    for first, last in _stretches(sorted(wanted)):
        content = table.read_array(first, last - first + 1)
        for number, row in enumerate(row_of.iter_unpack(content), first):
            if number in wanted:
                found[number] = _added(row, width) if any(row) else _ZEROS
    return found


def _added(row: tuple[int, ...], width: int) -> Totals:
    connections, packets_in, packets_out, bytes_in, bytes_out = (
        sum(row[at::width]) for at in _ORDER
    )
    return connections, packets_in, packets_out, bytes_in, bytes_out


def _stretches(numbers: list[int]) -> Iterable[tuple[int, int]]:
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] - numbers[at - 1] > _AT_ONCE:
            yield numbers[start], numbers[at - 1]
            start = at


def _rated(
    samples: dict[int, _Sample], number: int, identity: object, totals: Totals, now: float
) -> Counters:
    """Rates are those since the last reading that is long enough ago."""
    before = samples.get(number)
    if before is None or before.identity != identity:
        samples[number] = _Sample(now, identity, totals, _ZEROS)
        return Counters(*totals)
    seconds = now - before.at
    if seconds < SHORTEST:
        return Counters(*totals, *before.rates)
    if totals == before.totals:
        rates = _ZEROS
    else:
        connections, packets_in, packets_out, bytes_in, bytes_out = (
            round(max(0, each - was) / seconds)
            for each, was in zip(totals, before.totals, strict=True)
        )
        rates = connections, packets_in, packets_out, bytes_in, bytes_out
    samples[number] = _Sample(now, identity, totals, rates)
    return Counters(*totals, *rates)
