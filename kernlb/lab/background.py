"""What the load generator does between its orders, until it is stopped: a stream, a talk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that was not answered; `at` is the time of day it started."""

    at: float
    error: str
    source: str | None


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """What a stream saw. Requests still under way are in `sent` and in nothing else."""

    sent: int
    answered: int
    by_server: dict[str, int]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class TalkRecord:
    """What was said on open sessions: exchanges in all, and on the one that had the least."""

    sessions: int
    exchanged: int
    least: int
    failures: tuple[Failure, ...]


Record = TypeVar("Record")
Ask = Callable[[dict[str, Any]], dict[str, Any]]


class Background(Generic[Record]):
    """A stream of requests, or a talk on open sessions."""

    def __init__(self, kind: Callable[..., Record], number: int, ask: Ask) -> None:
        self._kind = kind
        self._number = number
        self._ask = ask

    def look(self) -> Record:
        return self._record("look-at")

    def stop(self) -> Record:
        """Waits for what is under way, so all that was sent is answered or failed."""
        return self._record("stop")

    def _record(self, verb: str) -> Record:
        found = self._ask({"do": verb, "number": self._number})
        failures = tuple(Failure(**failure) for failure in found.pop("failures"))
        return self._kind(failures=failures, **found)


Stream = Background[StreamRecord]
Talk = Background[TalkRecord]
