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

from kernlb.daemon.events import Events
from kernlb.daemon.hop_writing import AGAIN, Endpoint, HopTable, HopWriter
from kernlb.daemon.neighbours import Keeping
from kernlb.daemon.reachability import Reachability, subject
from kernlb.datapath.xdp.hops import (
    Event,
    Link,
    Neighbour,
    NextHop,
    NoRoute,
    Question,
    Route,
)
from kernlb.model import IPAddress

INTERVAL = 30.0  # seconds between two looks
ROUTES = 4096  # that a look asks for again
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
        self._writer = HopWriter(table, events, clock, self._world.name)
        self._wake = asyncio.Event()
        self._heard: dict[Hashable, Event] = {}
        self._next_look = 0.0
        self._losses, self._made_up = 1, 0  # of changes that were announced
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
            self._writer.forget(each)
        self._wake.set()

    def transmit_on(self, ifindexes: Collection[int]) -> None:
        """Answers to clients leave by these devices. Raises OSError."""
        self._writer.hold(ifindexes)

    def look_up(self, next_hops: Iterable[NextHop]) -> None:
        """Have the kernel find these, which are nobody's here: the way to clients, say."""
        self._strangers.update(next_hops)
        self._wake.set()

    def problems(self) -> list[tuple[Endpoint, str]]:
        """The servers that cannot be reached, or perhaps not, and why and since when."""
        return self._writer.problems()

    async def run(self) -> None:
        """Work until cancelled; then closes the door. May be begun again after a fault."""
        loop = asyncio.get_running_loop()
        self._losses += 1
        self._next_look = self._clock()
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
        except asyncio.CancelledError:
            loop.remove_reader(self._door.fileno())
            self._door.close()
            raise

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
        return min(again, self._next_look, self._writer.tell(self._clock()))

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
        self._writer.look()
        self._next_look = self._clock() + self._interval

    async def _ask_routes(self) -> None:
        asking = self._world.next_unasked(QUESTIONS)
        if asking:
            questions = [Question(each.address, each.source) for each in asking]
            answers = await asyncio.to_thread(self._door.routes, questions)
            for destination, answer in zip(asking, answers, strict=True):
                self._world.answered(destination, answer)

    def _decide(self) -> None:
        world = self._world
        world.undecided.update(self._writer.unwritten())
        for destination in world.take_undecided(WRITES):
            self._writer.write(destination, world.outcome(destination))
        if not world.unasked and not world.undecided:
            self._writer.heal()

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
