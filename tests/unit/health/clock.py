"""An event loop of which only the clock and its timers are left, so that hours pass in no time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self._when, self.callback, self._cancelled = when, callback, False

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled


class FakeLoop:
    """What the monitor asks of an event loop. ``late`` lets time pass without running anything,
    as for a process that is stopped."""

    def __init__(self) -> None:
        self.reported: list[dict[str, Any]] = []  # what was told to the exception handler
        self._now = 1000.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[..., None], *args: Any) -> Timer:
        timer = Timer(when, lambda: callback(*args))
        self._count += 1
        heappush(self._timers, (when, self._count, timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., None], *args: Any) -> Timer:
        return self.call_at(self._now + delay, callback, *args)

    def call_soon(self, callback: Callable[..., None], *args: Any) -> Timer:
        return self.call_at(self._now, callback, *args)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reported.append(context)

    def run(self, seconds: float) -> None:
        """Let time pass, each timer in its turn."""
        until = self._now + seconds
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heappop(self._timers)
            self._now = max(self._now, when)
            if not timer.cancelled():
                timer.callback()
        self._now = max(self._now, until)

    def late(self, seconds: float) -> None:
        self._now += seconds


class PollingLoop(FakeLoop):
    """With descriptors: whoever reads one is called every millisecond, among the timers."""

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        def turn() -> None:
            callback()
            self.call_later(0.001, turn)

        self.call_soon(turn)
