"""What changed, when, and by whom: a bounded list in memory, one log line each, and on disk.

Events are numbered; the numbers go on over restarts (``event_log``). What an operator asked for
over the control socket is told with who that was (``caller``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import islice, takewhile
from typing import Protocol

from kernlb.control.protocol import Event

log = logging.getLogger("kernlb")

KEPT = 5000
BY_OPERATORS = frozenset({"api", "drain", "disable", "enable", "adopt", "reload", "rollback"})

caller: ContextVar[str] = ContextVar("caller", default="")  # of the request being carried out


class Kept(Protocol):
    """Where events outlive the process (event_log.EventLog)."""

    def load(self) -> list[Event]:
        """What was kept, oldest first."""

    def append(self, event: Event) -> None:
        """Never raises: whoever changes something has other worries."""


def sentence(error: Exception) -> str:
    """What went wrong, without the errno in front that Python puts there."""
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return error.strerror
    return str(error)


def encodable(text: str) -> str:
    """Text that JSON can hold: what is no UTF-8 in the name of a file, say, is spelled out."""
    return text.encode(errors="backslashreplace").decode()


class Events:
    """The latest events, oldest first. ``latest_number`` is 0 while there are none."""

    def __init__(self, clock: Callable[[], float], kept: int = KEPT) -> None:
        self.latest_number = 0
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=kept)
        self._log: Kept | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def keep(self, log: Kept) -> None:
        """Go on from what ``log`` has, and keep there what comes. Before the first event."""
        self._events.extend(log.load())
        self.latest_number = self._events[-1].number if self._events else 0
        self._log = log

    def add(self, text: str, cause: str, service: str = "", server: str = "") -> None:
        """Record and log one sentence; ``service`` and ``server`` where it is about one."""
        if cause in BY_OPERATORS and (name := caller.get()):
            cause = f"{cause} by {name}"
        self.latest_number += 1
        text = encodable(text)
        event = Event(self._clock(), text, cause, self.latest_number, service, server)
        self._events.append(event)
        log.info("%s (%s)", text, cause, extra={"event": event})
        if self._log is not None:
            self._log.append(event)
        self.release()

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def latest(self, count: int, service: str = "") -> list[Event]:
        """Of all, or of one service."""
        of_it = (each for each in reversed(self._events) if not service or each.service == service)
        return list(islice(of_it, count))[::-1]

    def since(self, number: int, limit: int, service: str = "") -> list[Event]:
        """The oldest ``limit`` of those above ``number``, or of one service among them."""
        newer = list(takewhile(lambda each: each.number > number, reversed(self._events)))
        of_it = (each for each in reversed(newer) if not service or each.service == service)
        return list(islice(of_it, limit))

    async def news(self, seconds: float) -> None:
        """Return at the next event, or after ``seconds``."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(future)

    def release(self) -> None:
        """Let go of all who wait."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
