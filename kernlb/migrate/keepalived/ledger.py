"""The account of directives: each is used, or told as lost. Pure.

Whoever translates says of every directive what became of it; what nobody spoke for when all is
done is told as lost by :meth:`Ledger.close`. So nothing can be dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from kernlb.migrate.keepalived.tree import Directive
from kernlb.migrate.report import Report

T = TypeVar("T")

SAME = {"lb_algo": "lvs_sched", "lb_kind": "lvs_method"}  # old words
UNKNOWN = "is unknown, and keepalived ignores it"
TWICE = "is said again in line {line}, which counts"


class Ledger:
    """What became of each directive of one configuration."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self._spoken: set[int] = set()
        self._deferred: set[int] = set()
        self.used: list[Directive] = []
        self.forgotten: list[Directive] = []  # of close(): nobody spoke for these

    def use(self, directive: Directive, words: int | None = None) -> None:
        """It is in a document. Beyond ``words`` arguments nothing of it is; None: all are."""
        self._spoken.add(id(directive))
        self.used.append(directive)
        if words is not None and len(directive.args) > words:
            extra = " ".join(directive.args[words:])
            self.report.lost(directive.text, f"{extra}: more than it takes", directive.place)
        if directive.broken:
            self.report.lost(directive.text, directive.broken, directive.place)

    def lost(self, directive: Directive, why: str) -> None:
        """It is in no document, and what is in its block neither."""
        inside = sum(1 for _ in directive.walk()) - 1
        if inside:
            why += f" ({inside} directive{'s' if inside > 1 else ''} in it)"
        self.report.lost(self._text(directive), why, directive.place)
        self._speak(directive)

    def changed(self, directive: Directive, why: str) -> None:
        """Something near it is in a document; its block is spoken for apart."""
        self.report.changed(self._text(directive), why, directive.place)
        self._spoken.add(id(directive))

    def note(self, directive: Directive, why: str) -> None:
        self.report.note(self._text(directive), why, directive.place)
        self._spoken.add(id(directive))

    def spoken(self, directive: Directive) -> bool:
        return id(directive) in self._spoken

    def dispatch(
        self,
        directives: Iterable[Directive],
        known: Mapping[str, Callable[[Directive], None]],
        repeatable: frozenset[str] = frozenset(),
    ) -> None:
        """Calls what is known by name, in order; of a directive that is there several times the
        last one counts, and each of the others is told."""
        listed = list(directives)
        last = {SAME.get(each.name, each.name): each for each in listed}
        for each in listed:
            handler = known.get(each.name)
            if handler is None:
                self.lost(each, UNKNOWN)
                continue
            final = last[SAME.get(each.name, each.name)]
            if each is not final and each.name not in repeatable:
                where = final.place.line
                self.note(each, TWICE.format(line=where))
                for inner in each.walk():
                    self._spoken.add(id(inner))
                continue
            handler(each)
            self.leftover(each)

    def defer(self, directive: Directive) -> None:
        """It is read later."""
        self._deferred.add(id(directive))

    def leftover(self, directive: Directive) -> None:
        """Tells what stands in the block of a directive that takes none."""
        if self.spoken(directive):
            for inner in directive.block or ():
                if not self.spoken(inner) and id(inner) not in self._deferred:
                    self.lost(inner, f"{directive.name} takes no block")

    def close(self, directives: Iterable[Directive]) -> None:
        for directive in directives:
            for each in directive.walk():
                if id(each) not in self._spoken:
                    self.forgotten.append(each)
                    self.report.lost(self._text(each), "is not carried over", each.place)

    def _speak(self, directive: Directive) -> None:
        self._spoken.update(id(each) for each in directive.walk())

    def _text(self, directive: Directive) -> str:
        return directive.text + (" { ... }" if directive.block else "")
