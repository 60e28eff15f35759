"""Probes at a VIP in the daemon: which mark leads to which server, and by which way.

A mark is given to a server of a service when its watch is made, and comes into force, in the
kernel, with the declaration. Until then, and while the kernel cannot, the probe has a reason not
to ask; the server is not to blame. Routes and what is in the kernel are looked at again every few
seconds: a service that somebody flushed would leave probes with this host's own stack.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

from kernlb.daemon.events import Events, sentence
from kernlb.daemon.replies import Replies
from kernlb.datapath import probing
from kernlb.datapath.own_addresses import address_on
from kernlb.datapath.probing import MARKS, Carrier
from kernlb.datapath.xdp.hops import Link, NoRoute, Question, Route
from kernlb.declaration import Declaration
from kernlb.health.check import Carried, Via, Way
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    Forwarding,
    IPAddress,
    RealServer,
    ServerKey,
    ServiceRef,
)

INTERVAL = 5.0  # seconds between two looks

Name = tuple[ServiceRef, ServerKey]


class Door(Protocol):
    """rtnetlink (datapath.xdp.hop_door.HopDoor). Calls raise OSError."""

    def links(self) -> list[Link]: ...
    def routes(self, questions: Sequence[Question]) -> list[Route | NoRoute]: ...
    def close(self) -> None: ...


_NOT_YET = Way(None, "the way to it is not made yet")


class _Answers(NamedTuple):
    """Names of links by index, and the way to each address."""

    names: Mapping[int, str]
    routes: Mapping[IPAddress, Route | NoRoute]


@dataclass(slots=True)
class _Probed:
    """A server that is probed at its VIP, and the way as it is now."""

    kind: DatapathKind
    vip: IPAddress
    server: RealServer
    way: Way = field(default=_NOT_YET, compare=False)


class Carrying:
    """``carriers`` makes the carrier of a datapath when it is first needed; None: there is no
    such datapath. ``door`` likewise."""

    def __init__(
        self,
        carriers: Callable[[DatapathKind], Carrier | None],
        door: Callable[[], Door],
        directory: Path,
        events: Events,
    ) -> None:
        self._make_carrier = carriers
        self._make_door = door
        self._carriers: dict[DatapathKind, Carrier] = {}
        self._door: Door | None = None
        self._replies = Replies(directory, events)
        self._events = events
        self._marks: dict[Name, int] = {}
        self._probed: dict[int, _Probed] = {}
        self._told: set[str] = set()
        self._left_over = self._replies.in_use  # by a process before this one
        self._asking = Lock()  # of the door

    # -- what the health keeper asks

    def carry(self, declaration: Declaration, server: RealServer) -> Carried | None:
        """The path of a server that is to be probed at the VIP, in force or not."""
        key = declaration.service.key
        if not isinstance(key, AddressKey):
            return None
        name = declaration.ref, server.key
        mark = self._marks.get(name) or self._next_mark()
        self._marks[name] = mark
        look = partial(self._look_up, mark)
        return Carried(mark, key.address, None, look, _hint(key.address, server))

    def follow(self, declared: Mapping[str, Declaration]) -> None:
        """These are in force now; marks of others are given back."""
        wanted: dict[int, _Probed] = {}
        marks: dict[Name, int] = {}
        for name, kind, vip, server in _probed(declared):
            mark = self._marks.get(name) or self._next_mark()
            marks[name] = self._marks[name] = mark
            before = self._probed.get(mark)
            same = before is not None and (before.vip, before.server) == (vip, server)
            wanted[mark] = before if before and same else _Probed(kind, vip, server)
        changed = wanted != self._probed
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

    def close(self) -> None:
        """What is in the kernel stays."""
        for each in self._carriers.values():
            each.close()
        if self._door is not None:
            self._door.close()

    def _look_up(self, mark: int) -> Way:
        probed = self._probed.get(mark)
        return probed.way if probed is not None else Way(None, "it is not declared any more")

    def _next_mark(self) -> int:
        taken = set(self._marks.values())
        for mark in MARKS:
            if mark not in taken:
                return mark
        raise OSError(errno.ENOSPC, f"cannot probe more than {len(MARKS)} servers at their VIPs")

    # -- the kernel

    def _ask(self) -> _Answers | OSError:
        """Of every address that matters, in whatever thread."""
        asked = dict.fromkeys(
            address for each in self._probed.values() for address in (each.server.address, each.vip)
        )
        if not asked:
            return _Answers({}, {})
        try:
            with self._asking:
                if self._door is None:
                    self._door = self._make_door()
                names = {each.index: each.name for each in self._door.links()}
                routes = self._door.routes([Question(each) for each in asked])
        except OSError as error:
            return error
        return _Answers(names, dict(zip(asked, routes, strict=True)))

    def _apply(self, answers: _Answers | OSError) -> None:
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
        done = [self._carry(kind, paths, told) for kind in self._carriers]
        if all(done) and not self._probed:
            self._replies.end()
            self._left_over = False
        for text in sorted(told - self._told):
            self._events.add(f"probes at a VIP: {text}", "health")
        self._told = told

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

    def _paths(self, marks: Collection[int], answers: _Answers) -> dict[int, probing.Path]:
        """Of those that there is a way for; the others get to know why not."""
        paths: dict[int, probing.Path] = {}
        for mark in marks:
            each = self._probed[mark]
            route, entry = answers.routes[each.server.address], answers.routes[each.vip]
            if isinstance(route, NoRoute):
                each.way = Way(None, route.reason)
                continue
            device, family = answers.names.get(route.ifindex, ""), Family.of(each.vip)
            source = route.source
            if source is None or source.version != each.vip.version:
                source = address_on(device, family) if device else None
            if source is None:
                why = f"no {family} address on {device or 'the way'}"
                each.way = Way(None, f"{why}, which {each.server.address} could answer")
                continue
            each.way = Way(source)
            paths[mark] = probing.Path(
                family,
                each.server,
                route.ifindex,
                route.gateway or each.server.address,
                route.source,
                entry.ifindex if isinstance(entry, Route) else None,
            )
        return paths


def _needs_sysctls(path: probing.Path) -> bool:
    return path.family is Family.IPV4


def _probed(
    declared: Mapping[str, Declaration],
) -> Iterator[tuple[Name, DatapathKind, IPAddress, RealServer]]:
    for declaration in declared.values():
        key = declaration.service.key
        if not declaration.watches or not isinstance(key, AddressKey):
            continue
        for server in declaration.servers:
            watch = declaration.watches.get(server.key)
            if watch is not None and watch.via is Via.VIP:
                name = declaration.ref, server.key
                yield name, declaration.datapath, key.address, server.with_weight(1)


def _hint(vip: IPAddress, server: RealServer) -> str:
    """What to look at on a server that answers at its own address only."""
    if server.forwarding is Forwarding.TUNNEL and server.tunnel is not None:
        kind = server.tunnel.type
        return f"is {vip} on its lo, is its {kind} device up, and rp_filter off there?"
    return f"is {vip} on its lo?"
