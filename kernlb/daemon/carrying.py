"""Probes at a VIP in the daemon: which mark leads to which server, and by which way.

A mark is given to a server of a service when its watch is made, and comes into force, in the
kernel, with the declaration. Until then, and while the kernel cannot, the probe has a reason not
to ask; the server is not to blame. Routes and what is in the kernel are looked at again every few
seconds: a service that somebody flushed would leave probes with this host's own stack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Protocol

from kernlb.daemon.events import Events, sentence
from kernlb.daemon.probed import (
    AddressOn,
    Answers,
    Name,
    Probed,
    hint,
    neighbours,
    path_to,
    probed_in,
)
from kernlb.daemon.replies import Replies
from kernlb.daemon.strays import Neighbourhood, Strays, WhoHas
from kernlb.datapath import probing
from kernlb.datapath.probing import MARKS, Carrier
from kernlb.datapath.xdp.hops import Link, Neighbour, NoRoute, Question, Route
from kernlb.declaration import Declaration
from kernlb.health.check import Carried, Way
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    RealServer,
)

INTERVAL = 5.0  # seconds between two looks


class Door(Protocol):
    """rtnetlink (datapath.xdp.hop_door.HopDoor). Calls raise OSError."""

    def links(self) -> list[Link]: ...
    def neighbours(self) -> list[Neighbour]: ...
    def routes(self, questions: Sequence[Question]) -> list[Route | NoRoute]: ...
    def close(self) -> None: ...


class Carrying:
    """``carriers`` makes the carrier of a datapath when it is first needed; None: there is no
    such datapath. ``door`` likewise. ``address_on`` finds ours on an interface,
    ``who_has`` whose an address is on a link."""

    def __init__(
        self,
        carriers: Callable[[DatapathKind], Carrier | None],
        door: Callable[[], Door],
        address_on: AddressOn,
        who_has: WhoHas,
        replies: Replies,
        events: Events,
    ) -> None:
        self._make_carrier = carriers
        self._make_door = door
        self._address_on = address_on
        self._carriers: dict[DatapathKind, Carrier] = {}
        self._door: Door | None = None
        self._replies = replies
        self._events = events
        self._marks: dict[Name, int] = {}
        self._spare = iter(MARKS)
        self._probed: dict[int, Probed] = {}
        self._told: set[str] = set()
        self._strays = Strays(who_has, self._neighbours)
        self._places: list[Neighbourhood] = []
        self._left_over = self._replies.in_use  # by a process before this one
        self._asking = Lock()  # of the door

    # -- what the health keeper asks

    def carry(self, declaration: Declaration, server: RealServer) -> Carried | None:
        """The path of a server that is to be probed at the VIP, in force or not."""
        key = declaration.service.key
        if not isinstance(key, AddressKey):
            return None
        mark = self._mark((declaration.ref, server.key))
        look = partial(self._look_up, mark)
        return Carried(mark, key.address, None, look, hint(key.address, server))

    def follow(self, declared: Mapping[str, Declaration]) -> None:
        """These are in force now; marks of others are given back."""
        wanted: dict[int, Probed] = {}
        marks: dict[Name, int] = {}
        for name, kind, vip, server in probed_in(declared):
            if not (mark := self._mark(name)):
                continue
            marks[name] = mark
            before = self._probed.get(mark)
            same = before is not None and (before.vip, before.server) == (vip, server)
            wanted[mark] = before if before and same else Probed(kind, vip, server)
        changed = wanted != self._probed
        if marks.keys() != self._marks.keys():
            self._spare = (mark for mark in MARKS if mark not in wanted)
        self._probed, self._marks = wanted, marks
        if changed or self._left_over:
            self._apply(self._ask())

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            if probed := self._probed:
                asked = await asyncio.to_thread(self._ask)
                if self._probed is probed:  # else it was done meanwhile
                    self._apply(asked)
                await self._look_for_strays()

    def close(self) -> None:
        """What is in the kernel stays."""
        for each in self._carriers.values():
            each.close()
        if self._door is not None:
            self._door.close()

    def _look_up(self, mark: int) -> Way:
        if not mark:
            return Way(None, f"no more than {len(MARKS)} servers are asked at their VIPs")
        probed = self._probed.get(mark)
        if probed is None:
            return Way(None, "it is not declared any more")
        arp = (probed.server.address, probed.vip) in self._strays.found
        return probed.way._replace(arp=arp)

    def _mark(self, name: Name) -> int:
        """That of a server, given to it now if it has none; 0 where all are in use."""
        if name not in self._marks and (mark := next(self._spare, 0)):
            self._marks[name] = mark
        return self._marks.get(name, 0)

    # -- the kernel

    def _ask(self) -> Answers | OSError:
        """Of every address that matters, in whatever thread."""
        asked = dict.fromkeys(
            address for each in self._probed.values() for address in (each.server.address, each.vip)
        )
        if not asked:
            return Answers({}, {})
        try:
            with self._asking:
                if self._door is None:
                    self._door = self._make_door()
                routes = self._door.routes([Question(each) for each in asked])
                # after the routes: links that come meanwhile are among them
                names = {each.index: each.name for each in self._door.links()}
        except OSError as error:
            return error
        return Answers(names, dict(zip(asked, routes, strict=True)))

    def _apply(self, answers: Answers | OSError) -> None:
        """Have every server carried that there is a way to, and no others."""
        told: set[str] = set()
        paths: dict[int, probing.Path] = {}
        try:
            if isinstance(answers, OSError):
                raise answers
            if self._probed:
                self._replies.begin()
            for kind in DatapathKind:
                if self._carrier(kind) is None:
                    told |= self._fail(self._of(kind), f"there is no {kind} here")
                else:
                    paths |= self._paths(self._of(kind), answers)
            self._replies.want(
                {answers.names[path.ifindex] for path in paths.values() if _needs_sysctls(path)}
            )
        except OSError as error:
            told |= self._fail(self._probed, sentence(error))
            paths = {}
        names = answers.names if isinstance(answers, Answers) else {}
        self._places = list(neighbours(paths, self._probed, names))
        done = [self._carry(kind, paths, told) for kind in self._carriers]
        if all(done) and not self._probed:
            self._replies.end()
            self._left_over = False
        for text in sorted(told - self._told):
            self._events.add(f"probes at a VIP: {text}", "health")
        self._told = told

    async def _look_for_strays(self) -> None:
        before = self._strays.found
        try:
            await asyncio.to_thread(self._strays.look, self._places)
        except OSError as error:
            if sentence(error) not in self._told:
                self._events.add(f"cannot ask who has a VIP: {sentence(error)}", "health")
            self._told.add(sentence(error))
        for server, vip in sorted(self._strays.found ^ before, key=str):
            what = "answers" if (server, vip) in self._strays.found else "no longer answers"
            self._events.add(f"real server {server} {what} ARP for {vip}", "health")

    def _neighbours(self) -> list[Neighbour]:
        with self._asking:
            return self._door.neighbours() if self._door is not None else []

    def _of(self, kind: DatapathKind) -> list[int]:
        return [mark for mark, each in self._probed.items() if each.kind is kind]

    def _fail(self, marks: Collection[int], why: str) -> set[str]:
        for mark in marks:
            self._probed[mark].way = Way(None, why)
        return {why} if marks else set()

    def _carrier(self, kind: DatapathKind) -> Carrier | None:
        if kind not in self._carriers and (made := self._make_carrier(kind)) is not None:
            self._carriers[kind] = made
        return self._carriers.get(kind)

    def _carry(self, kind: DatapathKind, paths: probing.Paths, told: set[str]) -> bool:
        mine = {mark: path for mark, path in paths.items() if self._probed[mark].kind is kind}
        try:
            refused = self._carriers[kind].carry(mine)
        except OSError as error:
            told |= self._fail(mine, sentence(error))
            return False
        for mark, why in refused.items():
            if mark in mine:
                told |= self._fail([mark], why)
        return not refused

    def _paths(self, marks: Collection[int], answers: Answers) -> dict[int, probing.Path]:
        """Of those that there is a way for; the others get to know why not."""
        found = {mark: path_to(self._probed[mark], answers, self._address_on) for mark in marks}
        return {mark: path for mark, path in found.items() if path is not None}


def _needs_sysctls(path: probing.Path) -> bool:
    return path.family is Family.IPV4
