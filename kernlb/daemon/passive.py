"""The third opinion in the daemon: looks at what XDP counted of servers, and ejects suspects.

Only services that ask for it (``health: {passive: true}``) are looked at, every few seconds, and
of their servers those that are checked. What is ejected counts as held down by the health keeper;
probes go on beside it. Whatever takes servers out, more than half of those declared must serve
without the one that is to be ejected: it may be the network, or somebody who wants it to happen.
Ejections end where nobody else serves any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Protocol

from kernlb.daemon.events import Events, sentence
from kernlb.declaration import Declaration
from kernlb.health.passive import NOTHING, WINDOW, Seen, Suspect
from kernlb.model import AddressKey, DatapathKind, L4Protocol, ServerKey, ServiceKey, ServiceRef

CAUSE = "passive"


class Signals(Protocol):
    """A datapath that counts them (XDPDatapath)."""

    def signals(
        self, keys: Iterable[ServiceKey]
    ) -> Mapping[ServiceKey, Mapping[ServerKey, tuple[int, int, int]]]: ...


class PassiveWatch:
    """``serving`` names the servers of a service that take new connections, sorry servers or not;
    ``again`` has services judged anew; ``clock``: seconds, monotonic."""

    def __init__(
        self,
        datapath: Signals,
        declared: Callable[[], Iterable[Declaration]],
        serving: Callable[[Declaration], Set[ServerKey]],
        events: Events,
        again: Callable[[Sequence[ServiceRef]], None],
        clock: Callable[[], float],
    ) -> None:
        self._datapath, self._declared, self._serving = datapath, declared, serving
        self._events, self._again, self._clock = events, again, clock
        self._suspects: dict[tuple[ServiceRef, ServerKey], Suspect] = {}
        self._out: set[tuple[ServiceRef, ServerKey]] = set()

    def ejected(self, ref: ServiceRef, server: ServerKey) -> bool:
        """Is a server of a service to count as bad now?"""
        return (ref, server) in self._out

    async def run(self) -> None:
        failing = ""
        while True:
            await asyncio.sleep(WINDOW)
            try:
                self.look()
                failing = ""
            except OSError as error:
                if failing != sentence(error):
                    self._events.add(f"cannot look at servers: {sentence(error)}", CAUSE)
                failing = sentence(error)

    def look(self) -> None:
        """Once, at all that asked for it."""
        now = self._clock()
        asked = {each.ref: each for each in self._declared() if _wants(each)}
        seen = self._datapath.signals([ref.key for ref in asked]) if asked else {}
        for ref, declaration in asked.items():
            self._look_at(declaration, seen.get(ref.key, {}), now)
        names = {(ref, server) for ref, each in asked.items() for server in each.watches}
        self._suspects = {name: s for name, s in self._suspects.items() if name in names}
        out = {name for name, suspect in self._suspects.items() if suspect.ejected(now)}
        changed = {ref for ref, _ in out ^ self._out}
        for ref, server in self._out - out:
            if ref in asked:
                name = asked[ref].name
                text = f"real server {name}/{server} may show that it serves"
                self._events.add(text, CAUSE, name, str(server))
        self._out = out
        if changed:
            self._again(list(changed))

    def _look_at(
        self, declaration: Declaration, totals: Mapping[ServerKey, tuple[int, int, int]], now: float
    ) -> None:
        for server in declaration.watches:
            name = declaration.ref, server
            suspect = self._suspects.get(name)
            if server not in totals:  # out of the kernel; should it come back, it counts from 0
                if suspect is not None and suspect.in_row(now):
                    suspect.before = NOTHING
                else:
                    self._suspects.pop(name, None)
            elif suspect is None:
                self._suspects[name] = Suspect(Seen(*totals[server]))
            else:
                why = suspect.look(now, Seen(*totals[server]))
                if why and self._may_go(declaration, server, now):
                    self._eject(declaration, server, suspect, why, now)

        if not self._serve(declaration, now):
            for server in declaration.watches:
                if (suspect := self._suspects.get((declaration.ref, server))) is not None:
                    suspect.until = min(suspect.until, now)

    def _may_go(self, declaration: Declaration, server: ServerKey, now: float) -> bool:
        """Does it serve, and do more than half of the service's servers serve without it?"""
        serve = self._serve(declaration, now)
        return server in serve and 2 * (len(serve) - 1) > len(declaration.servers)

    def _serve(self, declaration: Declaration, now: float) -> Set[ServerKey]:
        """Those declared that take new connections, and are not ejected."""
        serve = self._serving(declaration)
        suspects = (
            (s.key, self._suspects.get((declaration.ref, s.key))) for s in declaration.servers
        )
        return {
            key
            for key, suspect in suspects
            if key in serve and (suspect is None or not suspect.ejected(now))
        }

    def _eject(
        self, declaration: Declaration, server: ServerKey, suspect: Suspect, why: str, now: float
    ) -> None:
        suspect.eject(now)
        name = declaration.name
        text = f"real server {name}/{server} is ejected for {suspect.lasted:g} s: {why}"
        self._events.add(text, CAUSE, name, str(server))


def _wants(declaration: Declaration) -> bool:
    key = declaration.service.key
    return (
        declaration.health.passive
        and declaration.datapath is DatapathKind.XDP
        and isinstance(key, AddressKey)
        and key.protocol is L4Protocol.TCP  # others have no first packet to be sent again
    )
