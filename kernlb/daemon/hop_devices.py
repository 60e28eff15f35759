"""The devices that frames are redirected to: in the datapath as long as a hop leaves by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Protocol

from kernlb.datapath.xdp.hops import Outcome, Unresolved


class DeviceTable(Protocol):
    """The datapath's devices, by index."""

    def devices(self) -> Iterable[int]: ...

    def add_device(self, ifindex: int) -> None:
        """Adding twice equals once. Raises OSError."""

    def remove_device(self, ifindex: int) -> None:
        """Removing the absent succeeds."""


class Devices:
    """Counts the hops that leave by each."""

    def __init__(self, table: DeviceTable) -> None:
        self._table = table
        self._used: Counter[int] = Counter()
        self._held: set[int] = set()

    def hold(self, ifindexes: Collection[int]) -> None:
        """These too, servers or not: answers to clients leave by them. Raises OSError."""
        for each in set(ifindexes) - self._held:
            self.enter(Unresolved("", each))
            self._held.add(each)
        for each in self._held - set(ifindexes):
            self._held.discard(each)
            self.leave(Unresolved("", each))

    def enter(self, outcome: Outcome) -> None:
        """A hop leaves by this device from now on. Raises OSError, and then none does."""
        if not outcome.ifindex:
            return
        if not self._used[outcome.ifindex]:
            self._table.add_device(outcome.ifindex)
        self._used[outcome.ifindex] += 1

    def leave(self, outcome: Outcome | None) -> None:
        """It does so no longer."""
        if outcome is None or not outcome.ifindex:
            return
        self._used[outcome.ifindex] -= 1
        if not self._used[outcome.ifindex]:
            del self._used[outcome.ifindex]
            self._table.remove_device(outcome.ifindex)

    def heal(self) -> None:
        """Add what is missing and remove what is not used: after a restart, or a device that the
        kernel took out with its namespace. Raises OSError."""
        there = set(self._table.devices())
        for ifindex in self._used.keys() - there:
            self._table.add_device(ifindex)
        for ifindex in there - self._used.keys():
            self._table.remove_device(ifindex)
