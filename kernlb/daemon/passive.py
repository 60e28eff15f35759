"""The third opinion in the daemon: looks at what XDP counted of servers, and ejects suspects.

Only services that ask for it (``health: {passive: true}``) are looked at, every few seconds. What
is ejected counts as held down by the health keeper; probes go on beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from kernlb.daemon.events import Events, sentence
from kernlb.declaration import Declaration
from kernlb.health.passive import WINDOW, Seen, Suspect
from kernlb.model import AddressKey, DatapathKind, L4Protocol, ServerKey, ServiceKey, ServiceRef

CAUSE = "passive"


class Signals(Protocol):
    """A datapath that counts them (XDPDatapath)."""

    def signals(
        self, keys: Iterable[ServiceKey]
    ) -> Mapping[ServiceKey, Mapping[ServerKey, tuple[int, int, int]]]: ...


class PassiveWatch:
    """``again`` has services judged anew; ``clock``: seconds, monotonic."""

    def __init__(
        self,
        datapath: Signals,
        declared: Callable[[], Iterable[Declaration]],
        events: Events,
        again: Callable[[Sequence[ServiceRef]], None],
        clock: Callable[[], float],
    ) -> None:
        self._datapath, self._declared = datapath, declared
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
        out: set[tuple[ServiceRef, ServerKey]] = set()
        known: set[tuple[ServiceRef, ServerKey]] = set()
        for ref, declaration in asked.items():
            for server, totals in seen.get(ref.key, {}).items():
                known.add((ref, server))
                self._hear(declaration, server, Seen(*totals), now)
            # one that is out of the kernel has no counters, and stays out until its time
            for each in declaration.servers:
                suspect = self._suspects.get((ref, each.key))
                if suspect is not None and suspect.ejected(now):
                    known.add((ref, each.key))
                    out.add((ref, each.key))
        self._suspects = {each: s for each, s in self._suspects.items() if each in known}
        changed = {ref for ref, _ in out ^ self._out}
        for ref, server in self._out - out:
            if ref in asked:
                name = asked[ref].name
                text = f"real server {name}/{server} may show that it serves"
                self._events.add(text, CAUSE, name, str(server))
        self._out = out
        if changed:
            self._again(list(changed))

    def _hear(self, declaration: Declaration, server: ServerKey, seen: Seen, now: float) -> None:
        suspect = self._suspects.get((declaration.ref, server))
        if suspect is None:
            self._suspects[declaration.ref, server] = Suspect(seen)
        elif self._too_many(declaration, now):
            suspect.before = seen  # it may be the network, or somebody who wants this to happen
        elif why := suspect.look(now, seen):
            name = declaration.name
            text = f"real server {name}/{server} is ejected for {suspect.until - now:g} s: {why}"
            self._events.add(text, CAUSE, name, str(server))

    def _too_many(self, declaration: Declaration, now: float) -> bool:
        """Would one more ejection leave half of the servers or fewer?"""
        suspects = (self._suspects.get((declaration.ref, s.key)) for s in declaration.servers)
        out = sum(each is not None and each.ejected(now) for each in suspects)
        return 2 * (out + 1) >= len(declaration.servers)


def _wants(declaration: Declaration) -> bool:
    key = declaration.service.key
    return (
        declaration.health.passive
        and declaration.datapath is DatapathKind.XDP
        and isinstance(key, AddressKey)
        and key.protocol is L4Protocol.TCP  # others have no first packet to be sent again
    )
