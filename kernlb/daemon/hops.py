"""Keeps the next hops of servers true: what the kernel's routes, neighbours and links say.

The keeper hears rtnetlink and hands what changed to the datapath. Every ``interval`` seconds it
looks at links, neighbours and some of the routes again, for some changes are never announced (a
discovered path MTU, a path of a multipath route that comes back).

Rules:

* a change costs what it concerns: a neighbour's new address no question at all, a route one for
  every destination in its range; a storm of changes of one thing counts as one;
* links and neighbours come before routes: a gateway that fails over is never behind a backlog;
* every neighbour that is needed is kept resolved by the kernel (:mod:`.neighbours`);
* nothing here blocks: questions are asked in a thread, a bounded number at a time;
* a stop leaves everything as it is, and the next start takes it up.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Protocol

from kernlb.daemon.destinations import Destination
from kernlb.daemon.events import Events
from kernlb.daemon.hop_devices import Devices, DeviceTable
from kernlb.daemon.hop_log import HopLog
from kernlb.daemon.neighbours import Keeping
from kernlb.daemon.reachability import Reachability, subject
from kernlb.datapath.xdp.hops import (
    Event,
    Link,
    Neighbour,
    NextHop,
    NoRoute,
    Outcome,
    Question,
    Route,
    Unresolved,
)
from kernlb.model import IPAddress, ServerKey, ServiceKey

INTERVAL = 30.0  # seconds between two looks
ROUTES = 4096  # that a look asks for again
AGAIN = 1.0  # seconds after the kernel did not answer
QUESTIONS = 256  # asked at a time
WRITES = 1024  # destinations that are worked out before others get their turn
STORM = 16384  # changes beyond which everything is looked at instead


class Door(Protocol):
    """rtnetlink of a namespace (datapath.xdp.hop_door.HopDoor). Calls raise OSError."""

    def fileno(self) -> int: ...
    def events(self) -> list[Event] | None: ...
    def links(self) -> list[Link]: ...
    def neighbours(self) -> list[Neighbour]: ...
    def routes(self, questions: Sequence[Question]) -> list[Route | NoRoute]: ...
    def keep(self, next_hops: Mapping[NextHop, bool]) -> dict[NextHop, int]: ...
    def look_up(self, next_hops: Sequence[NextHop]) -> None: ...
    def release(self, next_hops: Sequence[NextHop]) -> None: ...
    def close(self) -> None: ...


class HopTable(DeviceTable, Protocol):
    """The part of a datapath that next hops are handed to."""

    def endpoints(self) -> Iterable[tuple[ServiceKey, ServerKey]]:
        """Every real server that it holds."""

    def set_hop(self, address: IPAddress, outcome: Outcome) -> None:
        """Of every server at this address, those to come included."""

    def forget_hop(self, address: IPAddress) -> None:
        """No server is there any more; forgetting the unknown succeeds."""


class HopKeeper:
    """One per XDP datapath. ``run`` is its task; the rest is for the same event loop."""

    def __init__(
        self,
        door: Door,
        table: HopTable,
        events: Events,
        clock: Callable[[], float],
        sources: Sequence[IPAddress] = (),
        interval: float = INTERVAL,
    ) -> None:
        """``clock``: seconds, monotonic. ``sources``: addresses for outer headers and fullnat, in
        place of those that routes prefer."""
        self._door = door
        self._table = table
        self._events = events
        self._clock = clock
        self._interval = interval
        self._keeping = Keeping()
        self._world = Reachability(self._keeping, tuple(sources))
        self._devices = Devices(table)
        self._log = HopLog(events, self._world.name)
        self._wake = asyncio.Event()
        self._heard: dict[Hashable, Event] = {}
        self._next_look = 0.0
        self._losses, self._made_up = 1, 0  # of changes that were announced
        self._troubled: dict[IPAddress, Destination] = {}
        self._healing = True  # of devices, once everything is looked at
        self._failing = ""  # what was told last
        self._refused = ""
        self._strangers: set[NextHop] = set()

    def refresh(self) -> None:
        """The datapath's servers may be others now: all are compared, so where the change is
        known, :meth:`want` and :meth:`forget` are cheaper."""
        wanted = dict.fromkeys(server.address for _, server in self._table.endpoints())
        self.forget([each for each in self._world.addresses() if each not in wanted])
        self.want(wanted)

    def want(self, addresses: Iterable[IPAddress]) -> None:
        """There are servers at these addresses. Those that are known cost nothing."""
        self._world.want(addresses)
        self._wake.set()

    def forget(self, addresses: Iterable[IPAddress]) -> None:
        """There are none any more. Forgetting the unknown succeeds."""
        for each in self._world.forget(addresses):
            self._log.forget(each)
            self._troubled.pop(each.address, None)
            self._table.forget_hop(each.address)
            self._devices.leave(each.outcome)
        self._wake.set()

    def transmit_on(self, ifindexes: Collection[int]) -> None:
        """Answers to clients leave by these devices. Raises OSError."""
        self._devices.hold(ifindexes)

    def look_up(self, next_hops: Iterable[NextHop]) -> None:
        """Have the kernel find these, which are nobody's here: the way to clients, say."""
        self._strangers.update(next_hops)
        self._wake.set()

    def problems(self) -> list[tuple[tuple[ServiceKey, ServerKey], str]]:
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

    async def run(self) -> None:
        """Work until cancelled; closes the door."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._door.fileno(), self._hear)
        try:
            while True:
                self._wake.clear()
                due = await self.step()
                await asyncio.sleep(0)  # others' turn, even if there is more to do at once
                try:
                    async with asyncio.timeout(max(0.0, due - self._clock())):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            loop.remove_reader(self._door.fileno())
            self._door.close()

    async def step(self) -> float:
        """Do a bounded piece of what there is to do; returns when the next is due."""
        try:
            if self._clock() >= self._next_look:
                await self._look()
            self._note_changes()
            self._decide()
            await self._ask_routes()
            self._decide()
            again = await self._keep()
        except OSError as error:
            self._fail(str(error))
            return self._clock() + AGAIN
        if self._heard or self._world.unasked or self._world.undecided:
            return self._clock()
        return min(again, self._next_look, self._log.tell(self._clock()))

    def _hear(self) -> None:
        """Decides nothing: a change of the same thing takes the place of the earlier one."""
        try:
            events = self._door.events()
        except OSError as error:
            self._fail(str(error))
            events = None
        for event in events or ():
            self._heard[subject(event)] = event
        if events is None or len(self._heard) > STORM:
            self._losses += 1
            self._next_look = self._clock()
        self._wake.set()

    def _note_changes(self) -> None:
        heard, self._heard = self._heard, {}
        for event in heard.values():
            self._world.note(event)

    async def _look(self) -> None:
        """At links, neighbours and some routes; at everything where changes were lost. What is
        heard meanwhile is newer, and is noted after."""
        losses = self._losses
        links = await asyncio.to_thread(self._door.links)
        neighbours = await asyncio.to_thread(self._door.neighbours)
        self._world.look(links, neighbours, ROUTES if losses == self._made_up else None)
        self._made_up = losses
        self._failing = ""
        self._healing = True
        self._next_look = self._clock() + self._interval

    async def _ask_routes(self) -> None:
        asking = self._world.next_unasked(QUESTIONS)
        if asking:
            questions = [Question(each.address, each.source) for each in asking]
            answers = await asyncio.to_thread(self._door.routes, questions)
            for destination, answer in zip(asking, answers, strict=True):
                self._world.answered(destination, answer)

    def _decide(self) -> None:
        for destination in self._world.take_undecided(WRITES):
            before, outcome = destination.outcome, self._world.outcome(destination)
            if outcome == before:
                continue
            moves = before is None or before.ifindex != outcome.ifindex
            if moves and (outcome := self._enter_device(outcome)) == before:
                continue
            destination.outcome, destination.since = outcome, self._clock()
            self._table.set_hop(destination.address, outcome)
            if moves:
                self._devices.leave(before)
            self._log.changed(destination)
            if _trouble(outcome):
                self._troubled[destination.address] = destination
            else:
                self._troubled.pop(destination.address, None)
        if self._healing and not self._world.unasked and not self._world.undecided:
            self._heal()

    def _enter_device(self, outcome: Outcome) -> Outcome:
        try:
            self._devices.enter(outcome)
        except OSError as error:
            name = self._world.name(outcome.ifindex)
            reason = f"XDP cannot transmit on {name}: {error.strerror}"
            return Unresolved(reason, 0, outcome.mtu, outcome.source)
        return outcome

    def _heal(self) -> None:
        try:
            self._devices.heal()
            self._healing = False
        except OSError as error:
            self._fail(f"cannot set the devices that XDP transmits on: {error.strerror}")

    async def _keep(self) -> float:
        """Ask for neighbours and give some back; returns when there will be more to ask."""
        world = self._world
        asking, again = self._keeping.due(world.neighbours, world.keeps, self._clock(), QUESTIONS)
        if asking:
            refused = await asyncio.to_thread(self._door.keep, asking)
            for to in [to for to, number in refused.items() if number == errno.EEXIST]:
                del refused[to]
                self._keeping.exists(to)
            self._tell_refused(refused)
        if self._strangers:
            strangers, self._strangers = list(self._strangers), set()
            await asyncio.to_thread(self._door.look_up, strangers)
        leaving = self._keeping.leaving(world.neighbours, world.next_hops())
        if leaving:
            await asyncio.to_thread(self._door.release, leaving)
        return again

    def _tell_refused(self, refused: Mapping[NextHop, int]) -> None:
        for to, number in refused.items():
            more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
            where = f"{to.address} on {self._world.name(to.ifindex)}{more}"
            text = f"cannot have neighbour {where} kept resolved: {os.strerror(number)}"
            if text != self._refused:
                self._events.add(text, "next hops")
            self._refused = text
            break

    def _fail(self, text: str) -> None:
        if text != self._failing:
            self._events.add(text, "next hops")
        self._failing = text


def _trouble(outcome: Outcome) -> str:
    """What an operator should know of it; empty if nothing."""
    return outcome.reason if isinstance(outcome, Unresolved) else outcome.note
