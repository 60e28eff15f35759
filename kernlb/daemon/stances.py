"""Where services stand, written down for the daemon that comes after this one.

Only what the kernel cannot tell it then (``Stance.lasting``). What a daemon before has left holds
until the service is judged again: a file that cannot be read, or a kernel that cannot, must not
bring back a VIP that good servers have not earned.
"""

from __future__ import annotations

from collections.abc import Set

from kernlb.daemon.events import Events
from kernlb.daemon.runtime import RuntimeState
from kernlb.health.stance import Stance
from kernlb.model import ServiceRef


class Stances:
    """Hears of each judgement that counts; writes when it is told to, all together."""

    def __init__(self, runtime: RuntimeState, events: Events) -> None:
        self._runtime = runtime
        self._events = events
        self._declared: Set[ServiceRef] = frozenset()
        self._watched: Set[ServiceRef] = frozenset()
        self._news: dict[ServiceRef, Stance | None] = {}
        self._stale = False
        self._failing = ""

    def follow(self, declared: Set[ServiceRef], watched: Set[ServiceRef]) -> None:
        """These are in force from now on, and checks are asked of some."""
        self._declared, self._watched, self._stale = declared, watched, True

    def note(self, ref: ServiceRef, stance: Stance) -> None:
        """A service was judged."""
        lasting = stance if stance.lasting else None
        if self._runtime.stances.get(ref) != lasting:
            self._news[ref] = lasting
        else:
            self._news.pop(ref, None)

    def write_down(self, cause: str) -> None:
        """Before a VIP is touched."""
        if not (self._news or self._stale):
            return
        known = {**self._runtime.stances, **self._news}
        try:
            self._runtime.stand(
                {ref: each for ref, each in known.items() if each is not None and self._lives(ref)}
            )
        except OSError as error:
            text = f"cannot write down where services stand: {error}"
            if text != self._failing:
                self._events.add(text, cause)
            self._failing = text
            return
        self._news.clear()
        self._stale, self._failing = False, ""

    def _lives(self, ref: ServiceRef) -> bool:
        """Is it watched, or left as it is in the kernel while nothing declares it?"""
        return ref in self._watched or (ref in self._runtime.owned and ref not in self._declared)
