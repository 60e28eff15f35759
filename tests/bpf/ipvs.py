"""IPVS's schedulers as small pure models, after net/netfilter/ipvs/ip_vs_{rr,wrr,lc,wlc,sh,mh}.c.

``destinations`` is the kernel's list: the newest first. A server is a name; weights and loads are
looked up, so that a test changes them in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import gcd


@dataclass
class Destination:
    name: str
    weight: int = 1
    active: int = 0
    inactive: int = 0
    upper: int = 0
    lower: int = 0
    overloaded: bool = False

    @property
    def overhead(self) -> int:
        """ip_vs_dest_conn_overhead()"""
        return (self.active << 8) + self.inactive

    @property
    def available(self) -> bool:
        return self.weight > 0 and not self.overloaded

    def count(self, active: int, inactive: int) -> None:
        """ip_vs_bind_dest() and ip_vs_unbind_dest(), with ip_vs_dest_totalconns()."""
        self.active += active
        self.inactive += inactive
        total = self.active + self.inactive
        if active + inactive > 0:
            if self.upper and total >= self.upper:
                self.overloaded = True
        elif self.lower:
            if total < self.lower:
                self.overloaded = False
        elif self.upper:
            if total * 4 < self.upper * 3:
                self.overloaded = False
        else:
            self.overloaded = False


@dataclass
class Model:
    destinations: list[Destination] = field(default_factory=list)

    def add(self, destination: Destination) -> None:
        self.destinations.insert(0, destination)
        self.changed()

    def remove(self, destination: Destination) -> None:
        self.removing(destination)
        self.destinations.remove(destination)
        self.changed()

    def weigh(self, destination: Destination, weight: int) -> None:
        destination.weight = weight
        self.changed()

    def changed(self) -> None:
        pass

    def removing(self, destination: Destination) -> None:
        pass

    def schedule(self) -> Destination | None:
        raise NotImplementedError


@dataclass
class RoundRobin(Model):
    last: Destination | None = None  # None: the head of the list

    def removing(self, destination: Destination) -> None:
        """ip_vs_rr_del_dest(): the one before it, which may be the head."""
        if self.last is destination:
            at = self.destinations.index(destination)
            self.last = self.destinations[at - 1] if at else None

    def schedule(self) -> Destination | None:
        start = self.destinations.index(self.last) + 1 if self.last else 0
        order = self.destinations[start:] + self.destinations[:start]
        for each in order:
            if each.available:
                self.last = each
                return each
        return None


@dataclass
class WeightedRoundRobin(Model):
    at: Destination | None = None
    current: int = 0
    most: int = 0
    step: int = 1

    def changed(self) -> None:
        """ip_vs_wrr_dest_changed()"""
        weights = [each.weight for each in self.destinations if each.weight > 0]
        self.at = None
        self.step = gcd(*weights) or 1
        self.most = max(weights, default=0) - (self.step - 1)
        if self.current > self.most or not self.current:
            self.current = self.most
        elif self.step > 1:
            self.current = self.current // self.step * self.step + 1

    def schedule(self) -> Destination | None:
        if not self.most:
            return None
        last = self.at
        position = self.destinations.index(last) + 1 if last else 0
        stop: Destination | None = None
        last_pass = restarted = False
        while True:
            for each in self.destinations[position:]:
                if not each.overloaded and each.weight >= self.current:
                    self.at = each
                    return each
                if each is stop:
                    self.at = each
                    return None
            position = 0
            self.current -= self.step
            if self.current <= 0:
                self.current = self.most
                if last_pass or last is None:
                    self.at = None
                    return None
                restarted = True
            last_pass = self.current <= self.step
            if last_pass and restarted and last is not None:
                stop = last


class LeastConnections(Model):
    def schedule(self) -> Destination | None:
        return min(
            (each for each in self.destinations if each.available),
            key=lambda each: each.overhead,
            default=None,
        )


class WeightedLeastConnections(Model):
    def schedule(self) -> Destination | None:
        least: Destination | None = None
        for each in self.destinations:
            if not each.available:
                continue
            if least is None or least.overhead * each.weight > each.overhead * least.weight:
                least = each
        return least


MODELS: dict[str, Callable[[], Model]] = {
    "rr": RoundRobin,
    "wrr": WeightedRoundRobin,
    "lc": LeastConnections,
    "wlc": WeightedLeastConnections,
}


def sh_fallback(table: Sequence[str], slot: int, available: Callable[[str], bool]) -> str | None:
    """ip_vs_sh_get_fallback(): round the table from the client's slot on."""
    size = len(table)
    if available(table[slot]):
        return table[slot]
    for offset in range(size):
        # the offset is itself counted from the slot: (offset + slot) % size, added to the hash
        name = table[((offset + slot) % size + slot) % size]
        if available(name):
            return name
    return None
