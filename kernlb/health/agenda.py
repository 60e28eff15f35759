"""Who is to be asked next: the earliest first, and those in doubt before their turn.

While all are asked in time the order is that of time alone. Where the prober cannot keep up, who is
overdue would wait for all the others before; so of two that start one is urgent, as long as there
are any: a verdict waits for little, and nobody is forgotten for it. Pure.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, Protocol, TypeVar


class Planned(Protocol):
    """``due`` is when its next turn is, ``order`` the number of the entry that is in force."""

    due: float
    order: int


P = TypeVar("P", bound=Planned)
_Heap = list[tuple[float, int, P]]


class Agenda(Generic[P]):
    """Each stands in it once at most; times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self._ordinary: _Heap[P] = []
        self._urgent: _Heap[P] = []
        self._order = 0
        self._turn = True  # of an urgent one

    def plan(self, who: P, due: float, *, urgent: bool) -> None:
        """Instead of what was planned for it before."""
        self._order += 1
        who.due, who.order = due, self._order
        heappush(self._urgent if urgent else self._ordinary, (due, self._order, who))

    def strike(self, who: P) -> None:
        """It is asked no more."""
        who.order = -1

    def first(self) -> float:
        """When the next turn is; infinity: never."""
        due = inf
        for heap in (self._urgent, self._ordinary):
            while heap and heap[0][1] != heap[0][2].order:
                heappop(heap)
            if heap and heap[0][0] < due:
                due = heap[0][0]
        return due

    def take(self, now: float) -> P | None:
        """Whose turn it is; None: nobody's yet."""
        urgent, ordinary = self._urgent, self._ordinary
        for heap in (urgent, ordinary) if self._turn else (ordinary, urgent):
            while heap and heap[0][0] <= now:
                _, order, who = heappop(heap)
                if order == who.order:
                    self._turn = heap is ordinary
                    return who
        return None

    def trim(self, standing: int) -> None:
        """Let go of void entries, where they are many beside those that stand."""
        for heap in (self._urgent, self._ordinary):
            if len(heap) > 64 + 4 * standing:
                heap[:] = [each for each in heap if each[1] == each[2].order]
                heapify(heap)
