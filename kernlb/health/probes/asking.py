"""A probe as a coroutine: what is told in order is written in order.

For the probes that are few; ICMP, TCP, HTTP and TLS, of which there are thousands, work without.
A conversation ends by returning what it found, by raising ``Ended`` from wherever it stands, or by
the system's error. It keeps in ``Stage.late`` what its timeout would mean right now. However it
ends, it has closed what it opened before ``done`` is called: that is its task's last act.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, NamedTuple

from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import Done
from kernlb.health.probes.sockets import report
from kernlb.health.probes.trouble import detail_of, outcome_of
from kernlb.health.probes.wording import line


class Found(NamedTuple):
    """A result that does not know yet how long it took."""

    outcome: Outcome
    detail: str = ""
    percent: int | None = None


class Ended(Exception):
    """The conversation is over, and this is what it found."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(outcome, detail)
        self.found = Found(outcome, detail)


class Stage:
    """How far a conversation has come: what silence means from here on."""

    __slots__ = ("detail", "late")

    def __init__(self) -> None:
        self.late = Outcome.CONNECT_TIMEOUT
        self.detail = ""


Conversation = Callable[[Stage], Coroutine[Any, Any, Found]]


class Asking:
    """A conversation under way."""

    __slots__ = ("_done", "_loop", "_stage", "_started", "_task", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        conversation: Conversation,
        done: Done,
    ) -> None:
        self._loop = loop
        self._done: Done | None = done
        self._started = monotonic()
        self._stage = Stage()
        self._task = loop.create_task(conversation(self._stage))
        self._timer = loop.call_later(timeout, self._task.cancel)
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        self._done = None
        self._timer.cancel()
        self._task.cancel()

    def _end(self, task: asyncio.Task[Found]) -> None:
        self._timer.cancel()
        found = self._found(task)
        done, self._done = self._done, None
        if done is not None:
            duration = monotonic() - self._started
            done(Result(found.outcome, duration, line(found.detail), found.percent))

    def _found(self, task: asyncio.Task[Found]) -> Found:
        if task.cancelled():
            return Found(self._stage.late, self._stage.detail)
        match task.exception():
            case None:
                return task.result()
            case Ended(found=found):
                return found
            case OSError() as error:
                return Found(outcome_of(error), detail_of(error))
            case error:
                assert isinstance(error, Exception)
                report(self._loop, error)
                return Found(Outcome.NOT_ASKED, f"error in the probe: {error!r}")
