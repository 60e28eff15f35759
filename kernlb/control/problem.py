"""A request that was refused, on its way from where it was refused to the one who asked."""

from __future__ import annotations

from collections.abc import Iterable

from kernlb.control.protocol import STATUS, Fault, Problem, ProblemKind


class RequestRefusedError(Exception):
    """Carries the problem document. Nothing was changed."""

    def __init__(self, kind: ProblemKind, title: str, faults: Iterable[Fault] = ()) -> None:
        super().__init__(title)
        self.problem = Problem(kind, title, STATUS[kind], list(faults))
