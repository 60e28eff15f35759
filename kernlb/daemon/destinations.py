"""The addresses that next hops are kept for, and how to find those that a change concerns. Pure.

Indexed by number (a route changes for a range of addresses), by next hop (a neighbour changes for
all behind it) and by device, so that a change costs what it concerns, not what there is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator

from kernlb.datapath.xdp.hops import (
    NextHop,
    NoRoute,
    Outcome,
    Route,
    RoutesChanged,
    next_hop,
)
from kernlb.model import Family, IPAddress

_FEW = 32  # addresses that are removed one by one; more are cheaper sorted out together


class Destination:
    """One address. ``route`` and ``outcome`` are None until it was looked up."""

    __slots__ = ("address", "outcome", "route", "since", "source", "told", "via")

    def __init__(self, address: IPAddress, source: IPAddress | None) -> None:
        self.address = address
        self.source = source  # the operator's choice for it
        self.route: Route | NoRoute | None = None
        self.via: NextHop | None = None
        self.outcome: Outcome | None = None
        self.since = 0.0  # of this outcome
        self.told: Outcome | None = None  # what the log said last


class Destinations:
    """All of them."""

    def __init__(self) -> None:
        self._numbers: dict[Family, list[int]] = {each: [] for each in Family}  # sorted
        self._by_number: dict[Family, dict[int, Destination]] = {each: {} for each in Family}
        self._behind: dict[NextHop, dict[Destination, None]] = {}
        self._on: dict[int, dict[NextHop, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_number.values()))

    def __iter__(self) -> Iterator[Destination]:
        for by_number in self._by_number.values():
            yield from by_number.values()

    def get(self, address: IPAddress) -> Destination | None:
        return self._by_number[Family.of(address)].get(int(address))

    def add(self, destinations: Iterable[Destination]) -> None:
        """They must be new."""
        for each in destinations:
            family, number = Family.of(each.address), int(each.address)
            self._by_number[family][number] = each
            self._numbers[family].append(number)
        for numbers in self._numbers.values():
            numbers.sort()  # sorted but for the end: linear

    def remove(self, destinations: Collection[Destination]) -> None:
        """They must be there."""
        for each in destinations:
            self.routed(each, None)
            family, number = Family.of(each.address), int(each.address)
            del self._by_number[family][number]
            if len(destinations) <= _FEW:
                del self._numbers[family][bisect_left(self._numbers[family], number)]
        if len(destinations) > _FEW:
            self._numbers = {family: sorted(each) for family, each in self._by_number.items()}

    def routed(self, destination: Destination, route: Route | NoRoute | None) -> None:
        """Note the way to a destination."""
        via = next_hop(destination.address, route) if isinstance(route, Route) else None
        destination.route = route
        before, destination.via = destination.via, via
        if before == via:
            return
        if before is not None:
            behind = self._behind[before]
            del behind[destination]
            if not behind:
                del self._behind[before]
                del self._on[before.ifindex][before]
        if via is not None:
            self._behind.setdefault(via, {})[destination] = None
            self._on.setdefault(via.ifindex, {})[via] = None

    def within(self, change: RoutesChanged) -> list[Destination]:
        """Those whose addresses are in the range."""
        numbers, by_number = self._numbers[change.family], self._by_number[change.family]
        start = bisect_left(numbers, change.first)
        return [by_number[n] for n in numbers[start : bisect_right(numbers, change.last)]]

    def behind(self, to: NextHop) -> Collection[Destination]:
        """Those that are reached by it."""
        return self._behind.get(to, {}).keys()

    def next_hops(self) -> Collection[NextHop]:
        """All that are in use."""
        return self._behind.keys()

    def on(self, ifindex: int) -> Collection[NextHop]:
        """The next hops that are in use on a device."""
        return self._on.get(ifindex, {}).keys()
