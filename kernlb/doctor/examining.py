"""Carries out checks over facts. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kernlb.doctor.facts import Facts, UnreadError
from kernlb.doctor.finding import Check, Found, NotChecked, Report, Severity

_ORDER = list(Severity)


def examine(checks: Iterable[Check], facts: Facts) -> Report:
    """Every check, in the order given; findings are sorted by severity, then in that order."""
    found: list[Found] = []
    not_checked: list[NotChecked] = []
    clean: list[Check] = []
    for check in checks:
        before = len(found)
        try:
            for finding in check.find(facts):
                found.append(Found(check, finding))
        except UnreadError as error:
            not_checked.append(NotChecked(check, str(error)))
            continue
        if len(found) == before:
            clean.append(check)
    found.sort(key=lambda each: _ORDER.index(each.check.severity))  # stable
    return Report(tuple(found), tuple(not_checked), tuple(clean))
