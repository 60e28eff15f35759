"""Tries again what cannot wait for the audit: services whose servers somebody has spoken of, by a
verdict or a hold, and that the kernel refused.

The first try comes after a second, each later one after twice the time, up to the interval of the
audit. A wake-up of another cause begins anew: there is news of the service. What is wrong is told
by the loop, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from kernlb.model import ServiceRef

RETRY = "retry"  # the cause
FIRST = 1.0  # seconds

Wake = Callable[[Sequence[ServiceRef], str], Awaitable[object]]


class Retries:
    """``first`` in seconds. Times are those of the event loop."""

    def __init__(self, first: float = FIRST) -> None:
        self.first = first
        self._failed: dict[ServiceRef, float] = {}  # and waits since then
        self._delays: dict[ServiceRef, float] = {}
        self._changed = asyncio.Event()

    def failed(self, ref: ServiceRef, *, again: bool) -> None:
        """``again``: there was no other reason to try than that it failed before."""
        delay = self._delays.get(ref, 0.0) if again else 0.0
        self._delays[ref] = min(2 * delay, 1e6) or self.first
        self._failed[ref] = asyncio.get_running_loop().time()
        self._changed.set()

    def settled(self, ref: ServiceRef) -> None:
        """It is as it should be, or nobody waits for it. Idempotent."""
        self._failed.pop(ref, None)
        self._delays.pop(ref, None)

    async def run(self, wake: Wake, most: Callable[[], float]) -> None:
        """Try again until cancelled, each service after ``most`` seconds at the latest."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            limit, now = most(), loop.time()
            dues = {ref: at + min(self._delays[ref], limit) for ref, at in self._failed.items()}
            if due := [ref for ref, at in dues.items() if at <= now]:
                for ref in due:
                    del self._failed[ref]  # who fails again says so
                with suppress(OSError):  # the audit looks again
                    await wake(due, RETRY)
                continue
            wait = min(dues.values()) - now if dues else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
