"""Cursors of rr and wrr beside a model of IPVS's own list."""

from __future__ import annotations

from math import gcd
from random import Random

import pytest

from kernlb.datapath.xdp.cursor import RR_HEAD, Turn, rr_removed, wrr_begun, wrr_changed


class KernelRr:
    """ip_vs_rr.c on a list with the newest server first; ``used`` None is the list's head."""

    def __init__(self) -> None:
        self.servers: list[int] = []
        self.used: int | None = None

    def add(self, server: int) -> None:
        self.servers.insert(0, server)

    def remove(self, server: int) -> None:
        """ip_vs_rr_del_dest(): back to the one before, which has been looked at."""
        if self.used == server:
            index = self.servers.index(server)
            self.used = self.servers[index - 1] if index else None
        self.servers.remove(server)

    def choose(self) -> int:
        after = self.servers.index(self.used) + 1 if self.used is not None else 0
        self.used = self.servers[after % len(self.servers)]
        return self.used


class Rr:
    """Members oldest first and the cursor; ``choose`` as rr_step() of bpf/select.h."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self.cursor = RR_HEAD

    def add(self, server: int) -> None:
        self.members.append(server)

    def remove(self, server: int) -> None:
        index = self.members.index(server)
        self.members.remove(server)
        self.cursor = rr_removed(self.cursor, index, len(self.members))

    def choose(self) -> int:
        at = self.cursor if 0 < self.cursor < len(self.members) else len(self.members)
        self.cursor = at - 1
        return self.members[self.cursor]


@pytest.mark.parametrize("seed", range(20))
def test_rr_goes_on_where_the_kernel_does_as_servers_leave(seed: int) -> None:
    random, kernel, ours = Random(seed), KernelRr(), Rr()
    for server in range(8):
        kernel.add(server)
        ours.add(server)
    while kernel.servers:
        for _ in range(random.randint(1, 12)):
            assert ours.choose() == kernel.choose()
        gone = random.choice(kernel.servers)
        kernel.remove(gone)
        ours.remove(gone)


class KernelWrr:
    """The mark of ip_vs_wrr.c, formula by formula."""

    def __init__(self) -> None:
        self.cw = self.mw = 0
        self.di = 1

    def changed(self, weights: list[int]) -> None:
        self.di = 1
        if positive := [each for each in weights if each]:
            self.di = gcd(*positive)
        self.mw = max(weights, default=0) - (self.di - 1)
        if self.cw > self.mw or not self.cw:
            self.cw = self.mw
        elif self.di > 1:
            self.cw = (self.cw // self.di) * self.di + 1


@pytest.mark.parametrize("seed", range(20))
def test_wrr_takes_up_its_round_as_the_kernel_does(seed: int) -> None:
    random, kernel, weights = Random(seed), KernelWrr(), list[int]()
    turn = wrr_begun(weights)
    for _ in range(200):
        weights.append(random.choice((0, 1, 2, 3, 4, 6, 100, 300)))
        if random.random() < 0.4:
            del weights[random.randrange(len(weights))]
        kernel.cw = random.choice((kernel.cw, random.randint(0, 300)))
        turn = wrr_changed(kernel.cw, weights)
        kernel.changed(weights)
        assert turn == (kernel.cw, len(weights), kernel.mw, kernel.di)


def test_a_cursor_of_wrr_is_the_weight_above_the_index() -> None:
    assert Turn(weight=5, place=3, max_weight=9, step=1).cursor == 5 << 32 | 3
    assert wrr_begun([2, 4, 6]) == Turn(weight=5, place=3, max_weight=5, step=2)
    assert wrr_begun([]) == Turn(0, 0, 0, 1)
