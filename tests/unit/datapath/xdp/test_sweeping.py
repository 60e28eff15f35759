"""Walks of the sweep: every bucket once, totals of a whole walk, and counts that were lost."""

from __future__ import annotations

from collections import Counter

import pytest

from kernlb.datapath.xdp.datapath import XDPDatapath
from kernlb.datapath.xdp.layout import LOAD, SWEEP, AddressFamily, Load
from kernlb.datapath.xdp.memory import Sizes
from kernlb.datapath.xdp.sweeping import AT_ONCE, LARGEST_SLICE, SLICES, Sweeper, Swept
from kernlb.model import ServiceState, VirtualService
from tests.netns.contract.world import WEB, A, B, adding
from tests.unit.datapath.xdp.plain import Plain

SIZES = Sizes(16, 64, 1024, 400, 100)


class World:
    """Two servers; ``there`` is what a recount finds of each."""

    def __init__(self, sizes: Sizes = SIZES) -> None:
        self.plain = Plain(sizes)
        self.plain.program.answer = self._answer
        self.datapath = XDPDatapath(self.plain.loaded, self.plain.clock)
        self.datapath.apply(adding(ServiceState(VirtualService(WEB), (A, B))))
        self.sweeper = Sweeper(self.plain.loaded, self.datapath)
        self.there = {0: Load(0, 0, 0, 0), 1: Load(0, 0, 0, 0)}

    def _answer(self, ctx: bytes) -> bytes:
        asked = SWEEP.unpack(ctx)
        if asked.first == 0 and asked.family == AddressFamily.IPV4:
            for server, load in self.there.items():
                LOAD.pack_into(self.datapath.maps.recounts, server, load)
        used = 2 * asked.count if asked.family == AddressFamily.IPV4 else asked.count
        return SWEEP.pack(asked._replace(used=used, expired=1, half_open=3))

    def count(self, server: int, active: int, inactive: int, overloaded: int = 0) -> None:
        LOAD.pack_into(self.datapath.maps.loads, server, Load(active, inactive, 4, overloaded))

    def load(self, server: int) -> Load:
        return LOAD.unpack(self.datapath.maps.loads, server)

    def buckets(self) -> Counter[tuple[int, int]]:
        asked = [SWEEP.unpack(each) for each in self.plain.program.asked]
        return Counter(
            (each.family, bucket)
            for each in asked
            for bucket in range(each.first, each.first + each.count)
        )


def test_a_walk_meets_every_bucket_of_both_families_once() -> None:
    world = World()
    slices = 1
    while not world.sweeper.slice():
        slices += 1
    sizes = world.datapath.maps.sizes
    wanted = {(4, n) for n in range(sizes.buckets4)} | {(6, n) for n in range(sizes.buckets6)}
    assert world.buckets() == Counter(wanted)
    assert SLICES - 2 <= slices <= SLICES + 2


def test_a_slice_of_a_large_table_is_bounded() -> None:
    world = World(Sizes(16, 64, 1024, 4, 4))
    world.sweeper._buckets = {AddressFamily.IPV4: 1 << 22, AddressFamily.IPV6: 1 << 20}
    world.sweeper._slice = LARGEST_SLICE
    assert not world.sweeper.slice()
    counts = [SWEEP.unpack(each).count for each in world.plain.program.asked]
    assert sum(counts) == LARGEST_SLICE
    assert max(counts) == AT_ONCE


def test_totals_are_those_of_the_last_whole_walk() -> None:
    world = World()
    assert world.sweeper.swept == Swept()
    world.sweeper.slice()
    assert world.sweeper.swept == Swept()
    swept = world.sweeper.whole()
    calls = len(world.plain.program.asked)
    sizes = world.datapath.maps.sizes
    assert (swept.used4, swept.used6) == (2 * sizes.buckets4, sizes.buckets6)
    assert swept.half_open == 3 * swept.expired
    assert 0 < swept.expired < calls
    tables = {name: (used, size) for name, used, size in world.datapath.tables()}
    assert tables["conns4"] == (2 * sizes.buckets4, sizes.conns4)
    assert tables["servers"] == (2, 64)
    assert tables["services"] == (1, 16)
    assert tables["slots"] == (2, 1024)


@pytest.mark.parametrize(
    "there", [(5, 2, 1), (9, 9, 9)], ids=["lost decrements", "lost increments"]
)
def test_the_same_difference_twice_is_taken_off(there: tuple[int, int, int]) -> None:
    world = World()
    world.count(0, 7, 3, overloaded=1)
    world.there[0] = Load(*there, 0)
    assert world.sweeper.whole().healed == 0
    assert world.load(0) == Load(7, 3, 4, 1)
    lost = sum(abs(was - now) for was, now in zip((7, 3, 4), there, strict=True))
    assert world.sweeper.whole().healed == lost
    assert world.load(0) == Load(*there, 1)
    assert world.sweeper.whole().healed == 0


def test_a_difference_that_changes_is_the_traffic_of_the_day() -> None:
    world = World()
    for active in (7, 8, 6, 9):
        world.count(1, active, 0)
        assert world.sweeper.whole().healed == 0
        assert world.load(1).active == active
