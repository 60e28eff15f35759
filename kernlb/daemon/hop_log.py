"""What the log says of next hops: one sentence for a change, however many servers it concerns.

Rules:

* what could not be resolved yet a moment ago is not news; what still is not after SETTLED is;
* a change of many destinations alike is one line; many changes are a few lines and a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kernlb.daemon.destinations import Destination
from kernlb.daemon.events import Events
from kernlb.datapath.xdp.hops import Outcome, Unresolved

SETTLED = 1.0  # seconds that an unresolved hop lasts before it is told
LINES = 20  # at a time


class HopLog:
    """Told of every change, tells those that matter."""

    def __init__(self, events: Events, device: Callable[[int], str]) -> None:
        """``device``: the name of a device by its index."""
        self._events = events
        self._device = device
        self._resolved: dict[Destination, None] = {}
        self._unresolved: dict[Destination, None] = {}  # longest first

    def changed(self, destination: Destination) -> None:
        """Its outcome is a new one."""
        self.forget(destination)
        if isinstance(destination.outcome, Unresolved):
            self._unresolved[destination] = None
        elif destination.told is None:
            destination.told = destination.outcome  # as it should be, from the start
        else:
            self._resolved[destination] = None

    def forget(self, destination: Destination) -> None:
        self._resolved.pop(destination, None)
        self._unresolved.pop(destination, None)

    def tell(self, now: float) -> float:
        """Say what is due; returns when there will be more."""
        due, self._resolved = list(self._resolved), {}
        for each in self._unresolved:
            if each.since + SETTLED > now:
                break
            due.append(each)
        for each in due:
            self._unresolved.pop(each, None)
        self._say(due)
        first = next(iter(self._unresolved), None)
        return first.since + SETTLED if first is not None else math.inf

    def _say(self, destinations: list[Destination]) -> None:
        alike: dict[str, list[Destination]] = {}
        changes: dict[tuple[int, int], str] = {}  # outcomes are shared, and kept by destinations
        for each in destinations:
            both = id(each.told), id(each.outcome)
            if both not in changes:
                changes[both] = self._change(each.told, each.outcome)
            if change := changes[both]:
                alike.setdefault(change, []).append(each)
        for each in destinations:
            each.told = each.outcome
        for change in list(alike)[:LINES]:
            first, *others = alike.pop(change)
            more = f" and {len(others)} more" if others else ""
            self._events.add(f"next hop of {first.address}{more}: {change}", "next hops")
        if alike:
            left = sum(map(len, alike.values()))
            self._events.add(f"next hops of {left} more servers changed", "next hops")

    def _change(self, old: Outcome | None, new: Outcome | None) -> str:
        """Empty where there is nothing to tell."""
        before, after = self._text(old), self._text(new)
        return "" if before == after else f"{before} -> {after}" if before else after

    def _text(self, outcome: Outcome | None) -> str:
        if outcome is None:
            return ""
        if isinstance(outcome, Unresolved):
            return outcome.reason
        tag = f" VLAN {outcome.vlan}" if outcome.vlan else ""
        return f"{outcome.destination_mac.hex(':')} on {self._device(outcome.ifindex)}{tag}"
