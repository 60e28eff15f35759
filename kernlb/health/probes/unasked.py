"""A probe that this host cannot ask: it says so each time, and that counts for nothing."""

from __future__ import annotations

import asyncio

from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import Done
from kernlb.health.probes.wording import line


class Unasked:
    """``why`` continues "could not ask: "."""

    __slots__ = ("_handle",)

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Done, why: str) -> None:
        self._handle = loop.call_soon(done, Result(Outcome.NOT_ASKED, 0.0, line(why)))

    def cancel(self) -> None:
        self._handle.cancel()
