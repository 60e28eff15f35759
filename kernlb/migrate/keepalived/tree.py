"""Lines to directives: words, and the block that belongs to them. Pure.

Nothing is judged here: every directive, known or not, comes out once, with its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kernlb.migrate.keepalived.lines import Line
from kernlb.migrate.keepalived.words import QuoteError, split
from kernlb.migrate.report import MigrationError, Place, Report

MAX_DEPTH = 16  # blocks within blocks; keepalived has five


@dataclass(eq=False, slots=True)
class Directive:
    """``name`` and ``args`` are the words of ``text``. ``block`` None: it has none."""

    name: str
    args: tuple[str, ...]
    text: str
    place: Place
    block: list[Directive] | None = None
    broken: str = field(default="")  # why the words cannot be told

    @property
    def rest(self) -> str:
        """What follows the name, as it was written."""
        return self.text[len(self.name) :].strip(" \t") if self.text.startswith(self.name) else ""

    def walk(self) -> Iterator[Directive]:
        """This one and all within it."""
        yield self
        for each in self.block or ():
            yield from each.walk()


def read_tree(lines: Iterable[Line], report: Report) -> list[Directive]:
    """The directives at the top. Raises MigrationError."""
    top: list[Directive] = []
    open_: list[tuple[Directive | None, list[Directive]]] = [(None, top)]
    last: Directive | None = None  # may still get a block
    for text, place in lines:
        if text == "{":
            if last is None:
                last = Directive("{", (), "{", place)
                open_[-1][1].append(last)
            if len(open_) > MAX_DEPTH:
                raise MigrationError(f"blocks within blocks, more than {MAX_DEPTH}", place)
            last.block = []
            open_.append((last, last.block))
            last = None
        elif text == "}":
            if len(open_) == 1:
                report.lost(text, "closes a block that none has opened", place)
            else:
                open_.pop()
            last = None
        else:
            last = _directive(text, place)
            open_[-1][1].append(last)
    for holder, _ in open_[1:]:
        if holder is not None:
            report.note(holder.text, "its block is not closed at the end", holder.place)
    return top


def _directive(text: str, place: Place) -> Directive:
    try:
        words = split(text)
    except QuoteError as error:
        words = tuple(text.split())
        return Directive(words[0], words[1:], text, place, broken=str(error))
    if not words:
        return Directive("", (), text, place)
    return Directive(words[0], words[1:], text, place)
