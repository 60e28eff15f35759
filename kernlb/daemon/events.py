"""What changed, when, and by whom: a bounded list in memory, and one log line each."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

from kernlb.control.protocol import Event

log = logging.getLogger("kernlb")

KEPT = 500


def sentence(error: Exception) -> str:
    """What went wrong, without the errno in front that Python puts there."""
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return error.strerror
    return str(error)


class Events:
    """The latest events, oldest first."""

    def __init__(self, clock: Callable[[], float], kept: int = KEPT) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=kept)

    def add(self, text: str, cause: str) -> None:
        """Record and log one sentence."""
        self._events.append(Event(time=self._clock(), text=text, cause=cause))
        log.info("%s (%s)", text, cause)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def latest(self, count: int) -> list[Event]:
        return list(self._events)[-count:]
