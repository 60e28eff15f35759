"""The filter's marks: what an address may be, by a hash of it.

Addresses share cells, so users of each mark are counted, and the last one to go takes it along.
A mark is set before what it announces, and goes after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kernlb.datapath.xdp.layout import FILTER_SIZE, Mark
from kernlb.model import IPAddress

_SPREAD = 0x9E3779B1
_PARTS = {marks: [each.value for each in Mark if each & marks] for marks in map(Mark, range(8))}


def cell(address: IPAddress) -> int:
    """As marks_of() of bpf/parse.h finds it."""
    word = int(address)
    if address.version == 6:
        word ^= word >> 64
        word ^= word >> 32
    return (word & 0xFFFFFFFF) * _SPREAD % 2**32 >> 16


class Filter:
    """The map `filter`, and who uses each of its marks."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._users: Counter[tuple[int, int]] = Counter()  # cell and mark

    def adopt(self, marks: Iterable[tuple[IPAddress, Mark]]) -> None:
        """These are all there are; marks that nobody uses go."""
        for address, mark in marks:
            self.add(address, mark)
        wanted = bytearray(FILTER_SIZE)
        for at, bit in self._users:
            wanted[at] |= bit
        for at in range(FILTER_SIZE):
            if self._cells[at] != wanted[at]:
                self._cells[at] = wanted[at]

    def add(self, address: IPAddress, marks: Mark) -> None:
        at = cell(address)
        for mark in _PARTS[marks]:
            self._users[at, mark] += 1
            self._cells[at] |= mark

    def remove(self, address: IPAddress, marks: Mark) -> None:
        """Once for each time it was added."""
        at = cell(address)
        for mark in _PARTS[marks]:
            self._users[at, mark] -= 1
            if not self._users[at, mark]:
                del self._users[at, mark]
                self._cells[at] &= ~mark


def population(cells: memoryview) -> dict[Mark, int]:
    """Cells that bear each mark."""
    used = [each for each in bytes(cells[:FILTER_SIZE]) if each]
    return {mark: sum(1 for each in used if each & mark) for mark in Mark}
