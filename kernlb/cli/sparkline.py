"""A row of numbers as a row of bars, one character each, and the other marks of a screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*%#"  # for terminals that know ASCII only


class Glyphs(NamedTuple):
    """Marks beside text, none of which says what the text does not."""

    bars: str
    closed: str  # a service whose servers are not shown
    open: str
    strip: str  # results of a check: good, bad, neither


UNICODE = Glyphs(BARS, "▸", "▾", "●○·")
ASCII = Glyphs(PLAIN_BARS, "+", "-", "+-.")


def sparkline(values: Sequence[float], width: int, bars: str = BARS, peak: float = 0.0) -> str:
    """The latest ``width`` values, right-aligned; a full bar is ``peak``, or the largest of them.

    Nothing is the lowest bar, and whatever is more than nothing stands above it.
    """
    latest = values[-width:] if width > 0 else []
    top = peak or max(latest, default=0.0)
    highest = len(bars) - 1
    marks = [_mark(value, top, highest) for value in latest]
    return "".join(bars[mark] for mark in marks).rjust(width)


def _mark(value: float, top: float, highest: int) -> int:
    if value <= 0 or top <= 0:
        return 0
    return min(highest, max(1, round(value / top * highest)))
