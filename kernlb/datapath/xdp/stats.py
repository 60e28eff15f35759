"""Counters of services and servers: all CPUs together, and rates between two readings.

The program only counts; what a second's worth is, is found by whoever reads again after a second
or more. A service counts by itself, so its totals stay when its servers go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from struct import Struct

from kernlb.datapath import Counters, ServerStats, ServiceStats
from kernlb.datapath.xdp import reading, records
from kernlb.datapath.xdp.layout import COUNTERS, LOAD
from kernlb.datapath.xdp.maps import Maps, Table
from kernlb.model import ServiceKey

SHORTEST = 1.0  # seconds between two readings that a rate is made from
_AT_ONCE = 64  # elements apart that are cheaper read together than one by one


@dataclass(frozen=True, slots=True)
class _Sample:
    """Counters without rates, at a time; ``identity`` tells successors in an entry apart."""

    at: float
    identity: object
    totals: Counters
    counters: Counters  # with the rates that were found then


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
                identity = records.server_key(maps.servers, server)
                generation = maps.server(server).generation
                counters = _rated(
                    self._servers, server, (identity, generation), servers[server], now
                )
                load = LOAD.unpack(maps.loads, server)
                by_server[identity] = ServerStats(counters, load.active, load.inactive)
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


def counted(table: Table, numbers: Iterable[int]) -> dict[int, Counters]:
    """Totals by entry; neighbours are read by one call."""
    found: dict[int, Counters] = {}
    wanted = set(numbers)
    for first, last in _stretches(sorted(wanted)):
        content = table.read_array(first, last - first + 1)
        cpus = table.stride // COUNTERS.size
        sums = Struct(f"={COUNTERS.size // 8 * cpus}Q")
        for number, row in enumerate(sums.iter_unpack(content), first):
            if number not in wanted:
                continue
            packets_in, bytes_in, packets_out, bytes_out, connections = (
                sum(row[at :: COUNTERS.size // 8]) for at in range(COUNTERS.size // 8)
            )
            found[number] = Counters(connections, packets_in, packets_out, bytes_in, bytes_out)
    return found


def _stretches(numbers: list[int]) -> Iterable[tuple[int, int]]:
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] - numbers[at - 1] > _AT_ONCE:
            yield numbers[start], numbers[at - 1]
            start = at


_RATES: Mapping[str, str] = {
    name: f"{name}_rate"
    for name in ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
}


def _rated(
    samples: dict[int, _Sample], number: int, identity: object, totals: Counters, now: float
) -> Counters:
    """Rates are those since the last reading that is long enough ago."""
    before = samples.get(number)
    if before is None or before.identity != identity:
        samples[number] = _Sample(now, identity, totals, totals)
        return totals
    seconds = now - before.at
    if seconds < SHORTEST:
        rates = {rate: getattr(before.counters, rate) for rate in _RATES.values()}
        return replace(totals, **rates)
    rates = {
        rate: round(max(0, getattr(totals, name) - getattr(before.totals, name)) / seconds)
        for name, rate in _RATES.items()
    }
    rated = replace(totals, **rates)
    samples[number] = _Sample(now, identity, totals, rated)
    return rated
