"""What a check is, and what it may find. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from kernlb.doctor.facts import Facts
from kernlb.doctor.ops import Op


class Severity(StrEnum):
    """Worst first."""

    ERROR = "error"  # connections fail now, or will at the next turn
    WARNING = "warning"  # it works, and costs speed, safety or a bad night later
    NOTE = "note"  # worth knowing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``about``: what it is wrong with (an interface, a service, a
    server). ``evidence``: what was seen, and where. ``remedy``: commands, or a sentence where no
    command does it; left out where ``fix`` is the whole of it."""

    about: str
    evidence: str
    remedy: tuple[str, ...] = ()
    fix: tuple[Op, ...] = ()

    @property
    def commands(self) -> tuple[str, ...]:
        """How to put it right, a line each."""
        return self.remedy or tuple(map(str, self.fix))


Find = Callable[[Facts], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """A mistake that can be found. ``means`` is one line, ``why`` one or two sentences, ``remedy``
    the general form of the commands (a finding has them with its own names). ``find`` yields one
    finding for each place; it raises UnreadError where what it needs is not known."""

    id: str
    severity: Severity
    means: str
    why: str
    remedy: str
    find: Find


@dataclass(frozen=True, slots=True)
class Found:
    check: Check
    finding: Finding


@dataclass(frozen=True, slots=True)
class NotChecked:
    check: Check
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all checks: each is in one of the three, or in ``found`` and ``not_checked``
    where its facts ran out half-way. Worst findings first."""

    found: tuple[Found, ...]
    not_checked: tuple[NotChecked, ...]
    clean: tuple[Check, ...]

    @property
    def worst(self) -> Severity | None:
        return self.found[0].check.severity if self.found else None
