"""The sweep: what has expired is freed, what leaked is healed, what there is is counted.

The program `sweep` walks the buckets; this module says which, some at a time, so that nothing
waits for it. Beside a whole walk it recounts the connections of every server. Between the first
bucket and the last connections come and go, so one difference to `loads` means nothing; the same
one in two walks running is a count that was lost, and is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from operator import sub
from typing import Protocol

from kernlb.datapath.xdp.layout import LOAD, SWEEP, AddressFamily, Sweep
from kernlb.datapath.xdp.loading import Loaded
from kernlb.datapath.xdp.maps import Maps

PROGRAM = "sweep"
SLICES = 8  # in a walk, of tables of ordinary size
LARGEST_SLICE = 1 << 17  # buckets; about 10 ms
AT_ONCE = 1 << 14  # buckets in one run of the program

Difference = tuple[int, int, int]  # of active and inactive connections, and of templates


@dataclass(frozen=True, slots=True)
class Swept:
    """What a whole walk found. ``expired`` entries were freed by it."""

    used4: int = 0
    used6: int = 0
    expired: int = 0
    half_open: int = 0
    healed: int = 0  # connections that were counted, and are not

    @property
    def used(self) -> int:
        return self.used4 + self.used6


class Runner(Protocol):
    """The program (libbpf.Program)."""

    def run_syscall(self, ctx: bytes) -> tuple[int, bytes]: ...


class Follower(Protocol):
    """Who is told of whole walks (XDPDatapath)."""

    @property
    def maps(self) -> Maps: ...
    def sweep_begins(self) -> int: ...
    def sweep_ended(self, swept: Swept) -> None: ...


class Sweeper:
    """One per loaded program; ``swept`` is the last whole walk."""

    def __init__(self, loaded: Loaded, datapath: Follower) -> None:
        self._program: Runner = loaded.programs[PROGRAM]
        self._datapath = datapath
        sizes = datapath.maps.sizes
        self._buckets = {AddressFamily.IPV4: sizes.buckets4, AddressFamily.IPV6: sizes.buckets6}
        self._slice = min(LARGEST_SLICE, -(-sum(self._buckets.values()) // SLICES))
        self._ahead: list[tuple[AddressFamily, int, int]] = []  # first and count, last one first
        self._servers = 0
        self._walk = self.swept = Swept()
        self._differences: Mapping[int, Difference] = {}

    def slice(self) -> bool:
        """Some buckets on from where the last call ended. True where that ended a walk."""
        left = self._slice
        while left > 0:
            if not self._ahead:
                self._begin()
            left -= self._run(*self._ahead.pop())
            if not self._ahead:
                self._end()
                return True
        return False

    def whole(self) -> Swept:
        """A whole walk from its beginning, all at once: for small tables, and tests."""
        self._ahead = []
        while not self.slice():
            pass
        return self.swept

    def _begin(self) -> None:
        self._servers = self._datapath.sweep_begins()
        size = self._servers * LOAD.size
        self._datapath.maps.recounts[:size] = bytes(size)
        self._walk = Swept()
        step = min(AT_ONCE, self._slice)
        self._ahead = [
            (family, first, min(step, buckets - first))
            for family, buckets in self._buckets.items()
            for first in range(0, buckets, step)
        ][::-1]

    def _run(self, family: AddressFamily, first: int, count: int) -> int:
        _, answer = self._program.run_syscall(SWEEP.pack(Sweep(family, first, count, recount=1)))
        found, walk = SWEEP.unpack(answer), self._walk
        ipv4 = found.used if family is AddressFamily.IPV4 else 0
        self._walk = replace(
            walk,
            used4=walk.used4 + ipv4,
            used6=walk.used6 + found.used - ipv4,
            expired=walk.expired + found.expired,
            half_open=walk.half_open + found.half_open,
        )
        return count

    def _end(self) -> None:
        now = differences(self._datapath.maps, self._servers)
        healed = 0
        for server, difference in now.items():
            if self._differences.get(server) == difference:
                healed += take_off(self._datapath.maps, server, difference)
        self._differences = now
        self.swept = replace(self._walk, healed=healed)
        self._datapath.sweep_ended(self.swept)


def differences(maps: Maps, servers: int) -> Mapping[int, Difference]:
    """Connections in `loads` that are not in `recounts`, by server, where that is not nothing."""
    found = {}
    for server, (load, recount) in enumerate(
        zip(_counted(maps.loads, servers), _counted(maps.recounts, servers), strict=True)
    ):
        if load != recount:
            counted, there = LOAD.unpack(maps.loads, server), LOAD.unpack(maps.recounts, server)
            active, inactive, persistent, _ = map(sub, counted, there)
            found[server] = active, inactive, persistent
    return found


def _counted(memory: memoryview, servers: int) -> Iterator[tuple[int, int]]:
    """What is compared of each, as few numbers as may be: there may be 100 000 of them."""
    words, step = memory.cast("Q"), LOAD.size // 8
    templates = memory.cast("I")[LOAD.offset["persistent"] // 4 :: 2 * step]
    return zip(words[: servers * step : step].tolist(), templates[:servers].tolist(), strict=True)


def take_off(maps: Maps, server: int, difference: Difference) -> int:
    """Returns how many connections that were."""
    words, at = maps.loads.cast("I"), server * LOAD.size // 4
    for word, by in enumerate(difference, at):
        if by:
            words[word] = (words[word] - by) % 2**32
    return sum(abs(by) for by in difference)
