"""Several checks of one server as one: passes when ``need`` of them pass.

All start at once, so the slowest that matters sets the time. It ends as soon as the rest cannot
change what it is, and they are cancelled. A check that could not be asked counts neither way: if
it could still tip the balance, there is no opinion.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import NamedTuple

from kernlb.health.check import Check, Several, Target
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.probes import Done, Probe, Running
from kernlb.health.probes.wording import line

Make = Callable[[Check, float, Target, asyncio.AbstractEventLoop], Probe]

# A good result that asks for more attention than another comes later. The rest are alike.
_ATTENTION = (
    Outcome.PASSED,
    Outcome.CERTIFICATE_EXPIRES_SOON,
    Outcome.EXIT_WARNING,
    Outcome.ANSWERS_ARP,
    Outcome.AGENT_DRAIN,
)


class Finding(NamedTuple):
    """The result of one of the checks, and what it is called."""

    name: str
    result: Result

    def __str__(self) -> str:
        return f"{self.name}: {self.result}"


def decide(need: int, of: int, findings: Sequence[Finding]) -> Result | None:
    """What is known when ``findings`` have come from ``of`` checks; None: still open. Pure.

    The duration is left at 0.
    """
    by = {
        opinion: [each for each in findings if each.result.outcome.opinion is opinion]
        for opinion in Opinion
    }
    if len(by[Opinion.GOOD]) >= need:
        return _passed([each.result for each in by[Opinion.GOOD]])
    if of - len(by[Opinion.BAD]) < need:
        return Result(Outcome.TOO_FEW_PASSED, 0.0, _told(by[Opinion.BAD]))
    if len(findings) == of:
        return Result(Outcome.NOT_ASKED, 0.0, _told(by[Opinion.NONE]))
    return None


def _passed(good: list[Result]) -> Result:
    """The one that asks for most attention, and the least weight that anyone asks for."""
    worst = max(good, key=lambda each: _ATTENTION.index(each.outcome))
    percents = [each.percent for each in good if each.percent is not None]
    return Result(worst.outcome, 0.0, worst.detail, min(percents, default=None))


def _told(findings: list[Finding]) -> str:
    return line("; ".join(str(each) for each in findings))


def names(checks: Sequence[Check]) -> list[str]:
    """What the checks are called in details: by kind and own port, numbered where that is equal."""
    plain = [_name(each) for each in checks]
    often, seen = Counter(plain), Counter[str]()
    told = []
    for each in plain:
        seen[each] += 1
        told.append(f"{each} ({seen[each]})" if often[each] > 1 else each)
    return told


def _name(check: Check) -> str:
    kind = type(check).__name__.removesuffix("Check").lower()
    port: int | None = getattr(check, "port", None)
    return kind if port is None else f"{kind} {port}"


class SeveralProbe:
    __slots__ = ("_need", "_parts")

    def __init__(
        self,
        check: Several,
        timeout: float,
        target: Target,
        loop: asyncio.AbstractEventLoop,
        make: Make,
    ) -> None:
        self._need = check.need
        probes = [make(each, timeout, target, loop) for each in check.checks]
        self._parts = list(zip(names(check.checks), probes, strict=True))

    def start(self, done: Done) -> Running:
        together = _Together(self._need, len(self._parts), done)
        for name, probe in self._parts:
            together.running.append(probe.start(partial(together.hear, name)))
        return together


class _Together:
    __slots__ = ("_done", "_findings", "_need", "_of", "_started", "running")

    def __init__(self, need: int, of: int, done: Done) -> None:
        self._need = need
        self._of = of
        self._done: Done | None = done
        self._findings: list[Finding] = []
        self._started = monotonic()
        self.running: list[Running] = []

    def hear(self, name: str, result: Result) -> None:
        if self._done is None:
            return
        self._findings.append(Finding(name, result))
        decided = decide(self._need, self._of, self._findings)
        if decided is not None:
            done = self._done
            self.cancel()
            done(decided._replace(duration=monotonic() - self._started))

    def cancel(self) -> None:
        self._done = None
        for each in self.running:
            each.cancel()
