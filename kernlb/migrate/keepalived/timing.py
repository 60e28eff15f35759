"""When servers are asked: defaults handed down, and keepalived's timing in kernlb's words. Pure.

A directive of a virtual server is the default of its real servers, theirs that of their checkers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.keepalived.values import number, switch, timer, word

MAX_RETRY = 2**32 - 1
DELAY_LOOP = 60.0  # seconds, keepalived's default
CONNECT_TIMEOUT = 5.0
LONGEST, SHORTEST = 86_400.0, 0.1  # kernlb's
QUICKEST = 0.01
MAX_FALL = 1_000

WARMUP = "kernlb spreads first probes over the interval by itself"


class Said(NamedTuple):
    """A value and where it was said; None: it is keepalived's default."""

    value: float
    by: Directive | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What checkers have that do not say otherwise. None: nothing is said."""

    delay_loop: Said | None = None
    retry: Said | None = None
    delay_before_retry: Said | None = None
    connect_timeout: Said | None = None
    alpha: bool | None = None
    inhibit: bool | None = None

    def over(self, outer: Defaults) -> Defaults:
        """These, and where nothing is said those of ``outer``."""
        missing = {
            name: getattr(outer, name) for name in self.__slots__ if getattr(self, name) is None
        }
        return replace(self, **missing)


class Timings:
    """Reads the directives of timing in one block. ``least_retry`` is 0 in checkers."""

    def __init__(self, ledger: Ledger, least_retry: int = 1) -> None:
        self._ledger = ledger
        self._least_retry = least_retry
        self.said: dict[str, Any] = {}

    def handlers(self) -> dict[str, Callable[[Directive], None]]:
        return {
            "delay_loop": lambda d: self._timer(d, least=0.000001),
            "delay_before_retry": self._timer,
            "connect_timeout": lambda d: self._timer(d, least=0.000001),
            "retry": self._retry,
            "warmup": lambda d: self._ledger.lost(d, WARMUP),
        }

    def defaults(self) -> Defaults:
        return Defaults(**self.said)

    def switch(self, directive: Directive, name: str) -> None:
        try:
            self.said[name] = switch(directive)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._ledger.use(directive, 1)

    def _timer(self, directive: Directive, least: float = 0) -> None:
        try:
            self.said[directive.name] = Said(timer(word(directive), least), directive)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self._ledger.use(directive, 1)

    def _retry(self, directive: Directive) -> None:
        try:
            value = number(word(directive), self._least_retry, MAX_RETRY)
        except ValueError as error:
            self._ledger.lost(directive, str(error))
            return
        self.said["retry"] = Said(value, directive)
        self._ledger.use(directive, 1)


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one checker, seconds and counts, as a check document has them."""

    interval: float
    fast_interval: float
    timeout: float
    fall: int

    def document(self) -> dict[str, Any]:
        return {
            "interval": _plain(self.interval),
            "fast_interval": _plain(self.fast_interval),
            "timeout": _plain(self.timeout),
            "rise": 1,
            "fall": self.fall,
        }


@dataclass
class Usual:
    """What a kind of checker does that is not told otherwise. ``before_retry`` None: as
    delay_loop."""

    retry: int = 1
    before_retry: float | None = 1.0
    timeout: Said | None = field(default=None)  # in place of connect_timeout


def timing(defaults: Defaults, usual: Usual, ledger: Ledger) -> Timing:
    """In kernlb's bounds; what they change is told."""
    loop = defaults.delay_loop or Said(DELAY_LOOP)
    interval = _within(loop, SHORTEST, LONGEST, "the interval", ledger)
    wait = usual.timeout or defaults.connect_timeout or Said(CONNECT_TIMEOUT)
    timeout = _within(wait, QUICKEST, interval, "the timeout", ledger)
    again = defaults.delay_before_retry or Said(
        loop.value if usual.before_retry is None else usual.before_retry
    )
    fast = _within(again, QUICKEST, interval, "fast_interval", ledger)
    retry = defaults.retry or Said(usual.retry)
    fall = int(min(retry.value + 1, MAX_FALL))
    if retry.by is not None and fall <= retry.value:
        ledger.changed(retry.by, f"fall is {MAX_FALL} at most")
    return Timing(interval, fast, timeout, fall)


def _within(said: Said, least: float, most: float, what: str, ledger: Ledger) -> float:
    value = round(min(max(said.value, least), most), 3)
    if value != said.value and said.by is not None:
        bound = "no longer than the interval" if most < LONGEST and value == most else "in bounds"
        ledger.changed(said.by, f"{what} is {value:g} s here, {bound}")
    return value


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value
