"""Rows in columns for a width that is given. Pure.

A line is spans: texts, each with its colour. Where the width does not take every column, those
of the highest rank are left out, so that a narrow terminal loses what matters least.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kernlb.cli.render import Cell, Paint, printable

Span = tuple[str, str]
"""Text and its colour."""

Line = list[Span]

GAP = 2


class Column(NamedTuple):
    """``rank`` 0 is never left out; of the others the highest goes first."""

    heading: str
    right: bool = False
    rank: int = 0


def layout(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int | None = None
) -> list[Line]:
    """The headings and a line a row; with ``width`` (in characters) as wide as that at most, as
    far as ranks allow it, and without columns that are empty."""
    cells = [[_span(cell) for cell in row] for row in rows]
    widths = [
        max([len(column.heading), *(len(row[index][0]) for row in cells)])
        for index, column in enumerate(columns)
    ]
    shown = list(range(len(columns)))
    if width is not None:
        empty = {index for index in shown if not any(row[index][0] for row in cells)}
        shown = [index for index in shown if index not in empty or not columns[index].rank]
        while _total(widths, shown) > width and any(columns[index].rank for index in shown):
            shown.remove(max(shown, key=lambda index: columns[index].rank))
    heading = [(column.heading, "bold") for column in columns]
    return [_line(columns, row, widths, shown) for row in (heading, *cells)]


def _span(cell: Cell) -> Span:
    text, colour = cell if isinstance(cell, tuple) else (cell, "")
    return printable(text), colour


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[index] for index in shown) + GAP * (len(shown) - 1)


def _line(
    columns: Sequence[Column], row: Sequence[Span], widths: Sequence[int], shown: Sequence[int]
) -> Line:
    line: Line = []
    blank = 0  # not yet written: a line does not end in spaces
    for index in shown:
        text, colour = row[index]
        pad = widths[index] - len(text)
        before = blank + (pad if columns[index].right else 0)
        if text:
            if before:
                line.append((" " * before, ""))
            line.append((text, colour))
            blank = 0 if columns[index].right else pad
        else:
            blank += widths[index]
        blank += GAP
    return line


def painted(line: Line, paint: Paint) -> str:
    return "".join(paint(text, colour) for text, colour in line)


def plain_text(line: Line) -> str:
    return "".join(text for text, _ in line)
