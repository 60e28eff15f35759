"""Drains end: when a drain's deadline passes, its service is reconciled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kernlb.daemon.loop import Reconciler
from kernlb.model import ServiceRef


class Deadlines:
    """Sleeps until the next deadline, or until the holds on servers change."""

    def __init__(self, reconciler: Reconciler, clock: Callable[[], float]) -> None:
        self._reconciler = reconciler
        self._clock = clock
        self._changed = asyncio.Event()
        self._passed: set[tuple[ServiceRef, float]] = set()

    def changed(self) -> None:
        """Holds were set or lifted."""
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            upcoming = self._deadlines()
            now = self._clock()
            due = {entry for entry in upcoming if entry[1] <= now}
            if due - self._passed:
                refs = [ref for ref, _ in due - self._passed]
                await self._reconciler.wake(refs, "drain deadline")
            self._passed = due
            later = [deadline for _, deadline in upcoming - due]
            wait = max(0.0, min(later) - self._clock()) if later else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _deadlines(self) -> set[tuple[ServiceRef, float]]:
        found = set()
        for name, holds in self._reconciler.runtime.admin.items():
            declaration = self._reconciler.desired.declarations.get(name)
            for hold in holds.values():
                if declaration is not None and hold.deadline is not None:
                    found.add((declaration.ref, hold.deadline))
        return found
