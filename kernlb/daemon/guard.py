"""What nobody foresaw, in the daemon's background work: it ends neither the daemon nor in silence.

Rules:

* work beside the daemon's purpose (``keep``) is begun again after a pause, whatever it raised;
* what the daemon is for (``must``) ends it when it fails, in one sentence, so that the service
  manager starts it again: the kernel forwards meanwhile;
* callbacks of the event loop go on, but for the monitor's: whoever sets its next timer did not;
* each kind of failure is an event, and in the log with its traceback, once; all are counted, and
  told by ``kernlb status`` until the daemon ends: they are faults of kernlb.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from kernlb.daemon.events import Events, encodable

log = logging.getLogger("kernlb")

PAUSE = 1.0  # seconds before work that failed is begun again
CAUSE = "fault"
_MONITOR = "kernlb.health.monitor"

Work = Callable[[], Awaitable[object]]


class EndedError(Exception):
    """The daemon cannot do what it is for, and ends."""


@dataclass(slots=True)
class _Failures:
    count: int = 0
    latest: str = ""


class Guard:
    """One per daemon; of its event loop."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._failures: dict[str, _Failures] = {}
        self._told: set[tuple[object, ...]] = set()
        self._broken = asyncio.Event()

    async def keep(self, name: str, work: Work) -> None:
        """Have work done that is not to end the daemon; returns when the work does."""
        while True:
            try:
                await work()
            except Exception as error:
                self._note(name, error)
            else:
                return
            await asyncio.sleep(PAUSE)

    async def must(self, name: str, work: Work) -> None:
        """Have work done that the daemon is for. Raises EndedError."""
        try:
            await work()
        except Exception as error:
            self._note(name, error)
            raise EndedError(f"cannot go on: {name} failed: {_said(error)}") from error

    async def monitor(self) -> None:
        """Raises EndedError when the health monitor cannot go on."""
        await self._broken.wait()
        raise EndedError(f"cannot go on: {self._failures[_MONITOR].latest}")

    def hear(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The event loop's exception handler: what a callback raised, or a task nobody asks."""
        error = context.get("exception")
        callback = _outermost(error) if isinstance(error, Exception) else None
        if callback is None or not isinstance(error, Exception):
            loop.default_exception_handler(context)
            return
        module = callback.f_globals["__name__"]
        self._note(module, error)
        if module == _MONITOR:
            self._broken.set()

    def troubles(self) -> list[str]:
        """One sentence for all that failed in one place."""
        return [
            f"{name} failed {each.count} time{'s' * (each.count > 1)}, a fault of kernlb "
            f"(see the log): {each.latest}"
            for name, each in self._failures.items()
        ]

    def _note(self, name: str, error: Exception) -> None:
        failures = self._failures.setdefault(name, _Failures())
        failures.count, failures.latest = failures.count + 1, _said(error)
        kind = name, type(error), _where(error)
        if kind not in self._told:
            self._told.add(kind)
            log.error("%s failed", name, exc_info=error)
            self._events.add(f"{name} failed, a fault of kernlb: {_said(error)}", CAUSE)


def _said(error: Exception) -> str:
    return encodable(" ".join("".join(traceback.format_exception_only(error)).split()))


def _where(error: Exception) -> tuple[str, int] | None:
    """The line that raised it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return (frames[-1][0].f_code.co_filename, frames[-1][1]) if frames else None


def _outermost(error: Exception) -> FrameType | None:
    """Whose callback it was; None: nobody's here."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    ours = (f for f in frames if str(f.f_globals.get("__name__", "")).startswith("kernlb."))
    return next(ours, None)
