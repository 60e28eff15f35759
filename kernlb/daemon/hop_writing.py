"""Hands the next hops of destinations to the datapath, and knows what became of each.

Rules:

* the device that a hop leaves by is there before the hop, and goes when no hop leaves by it;
* what could not be written is tried again a second later, and holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from kernlb.daemon.destinations import Destination
from kernlb.daemon.events import Events, sentence
from kernlb.daemon.hop_devices import Devices, DeviceTable
from kernlb.daemon.hop_log import HopLog
from kernlb.datapath.xdp.hops import Outcome, Unresolved
from kernlb.model import IPAddress, ServerKey, ServiceKey

AGAIN = 1.0  # seconds after something could not be written

Endpoint = tuple[ServiceKey, ServerKey]


class HopTable(DeviceTable, Protocol):
    """The part of a datapath that next hops are handed to. Calls raise OSError."""

    def endpoints(self) -> Iterable[Endpoint]:
        """Every real server that it holds."""

    def set_hop(self, address: IPAddress, outcome: Outcome) -> None:
        """Of every server at this address, those to come included."""

    def forget_hop(self, address: IPAddress) -> None:
        """No server is there any more; forgetting the unknown succeeds."""


class HopWriter:
    """``clock``: seconds, monotonic. ``device``: the name of a device by its index."""

    def __init__(
        self,
        table: HopTable,
        events: Events,
        clock: Callable[[], float],
        device: Callable[[int], str],
    ) -> None:
        self._table, self._events, self._clock, self._device = table, events, clock, device
        self._devices = Devices(table)
        self._log = HopLog(events, device)
        self._troubled: dict[IPAddress, Destination] = {}
        self._unwritten: dict[Destination, None] = {}
        self._again = 0.0
        self._healing = True
        self._told = ""

    def hold(self, ifindexes: Collection[int]) -> None:
        """Answers to clients leave by these devices. Raises OSError."""
        self._devices.hold(ifindexes)

    def write(self, destination: Destination, outcome: Outcome) -> None:
        """It is reached like that now."""
        try:
            self._write(destination, outcome)
        except Exception as error:
            self._unwritten[destination] = None
            self._again = self._clock() + AGAIN
            if not isinstance(error, OSError):
                raise
            self._tell(f"cannot write the next hop of {destination.address}: {sentence(error)}")

    def unwritten(self) -> dict[Destination, None]:
        """Those whose hop is to be tried again now; they are forgotten here."""
        if self._clock() < self._again:
            return {}
        found, self._unwritten = self._unwritten, {}
        return found

    def forget(self, destination: Destination) -> None:
        """No server is there any more."""
        self._log.forget(destination)
        self._troubled.pop(destination.address, None)
        self._unwritten.pop(destination, None)
        self._table.forget_hop(destination.address)
        self._devices.leave(destination.outcome)

    def look(self) -> None:
        """The devices are to be healed once everything is written."""
        self._healing, self._told = True, ""

    def heal(self) -> None:
        """Everything is written."""
        if self._healing and not self._unwritten:
            try:
                self._devices.heal()
                self._healing = False
            except OSError as error:
                self._tell(f"cannot set the devices that XDP transmits on: {error.strerror}")

    def tell(self, now: float) -> float:
        """Say what changed; returns when there will be more to say or to try."""
        more = self._log.tell(now)
        return min(more, self._again) if self._unwritten else more

    def problems(self) -> list[tuple[Endpoint, str]]:
        """The servers that cannot be reached, or perhaps not, and why and since when."""
        if not self._troubled:
            return []
        found, now = [], self._clock()
        for endpoint in self._table.endpoints():
            destination = self._troubled.get(endpoint[1].address)
            if destination is not None and destination.outcome is not None:
                seconds = now - destination.since
                found.append((endpoint, f"{_trouble(destination.outcome)} (for {seconds:.0f} s)"))
        return found

    def _write(self, destination: Destination, outcome: Outcome) -> None:
        before = destination.outcome
        if outcome == before:
            return
        moves = before is None or before.ifindex != outcome.ifindex
        if moves and (outcome := self._enter_device(outcome)) == before:
            return
        try:
            self._table.set_hop(destination.address, outcome)
        except Exception:
            if moves:
                self._devices.leave(outcome)
            raise
        destination.outcome, destination.since = outcome, self._clock()
        if moves:
            self._devices.leave(before)
        self._log.changed(destination)
        if _trouble(outcome):
            self._troubled[destination.address] = destination
        else:
            self._troubled.pop(destination.address, None)

    def _enter_device(self, outcome: Outcome) -> Outcome:
        try:
            self._devices.enter(outcome)
        except OSError as error:
            reason = f"XDP cannot transmit on {self._device(outcome.ifindex)}: {error.strerror}"
            return Unresolved(reason, 0, outcome.mtu, outcome.source)
        return outcome

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._events.add(text, "next hops")
        self._told = text


def _trouble(outcome: Outcome) -> str:
    """What an operator should know of it; empty if nothing."""
    return outcome.reason if isinstance(outcome, Unresolved) else outcome.note
