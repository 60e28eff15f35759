"""Whose turn it is, among those who are overdue and those who are in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kernlb.health.agenda import Agenda


@dataclass(eq=False)
class Who:
    name: str
    due: float = 0.0
    order: int = 0


def taken(agenda: Agenda[Who], now: float) -> list[str]:
    names = []
    while (who := agenda.take(now)) is not None:
        names.append(who.name)
    return names


def test_who_is_due_comes_by_time_and_nobody_before_it() -> None:
    agenda = Agenda[Who]()
    for name, due in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        agenda.plan(Who(name), due, urgent=False)
    assert agenda.first() == 1.0
    assert taken(agenda, 0.9) == []
    assert taken(agenda, 2.0) == ["a", "b"]
    assert agenda.first() == 3.0


def test_of_two_that_are_overdue_one_is_urgent() -> None:
    agenda = Agenda[Who]()
    for number in range(4):
        agenda.plan(Who(f"long overdue {number}"), number, urgent=False)
    for number in range(2):
        agenda.plan(Who(f"urgent {number}"), 10 + number, urgent=True)
    assert taken(agenda, 20) == [
        *("urgent 0", "long overdue 0", "urgent 1"),
        *("long overdue 1", "long overdue 2", "long overdue 3"),
    ]


def test_only_the_latest_plan_counts_and_who_was_struck_has_none() -> None:
    agenda, one, other = Agenda[Who](), Who("one"), Who("other")
    agenda.plan(one, 1.0, urgent=False)
    agenda.plan(other, 2.0, urgent=False)
    agenda.plan(one, 3.0, urgent=True)
    agenda.strike(other)
    assert agenda.first() == 3.0
    assert taken(agenda, 5.0) == ["one"]
    assert agenda.first() == float("inf")


def test_each_of_many_has_its_turn_whatever_is_planned_again() -> None:
    random, agenda = Random(5), Agenda[Who]()
    everybody = [Who(str(number)) for number in range(500)]
    for _ in range(20):
        for who in everybody:
            agenda.plan(who, random.random() * 10, urgent=random.random() < 0.3)
    agenda.trim(len(everybody))
    assert sorted(taken(agenda, 10.0)) == sorted(who.name for who in everybody)
