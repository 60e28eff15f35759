"""Plain columns, and text that cannot steer a terminal. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Paint = Callable[[str, str], str]
"""Text and colour to text."""

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "": 0}


def plain(text: str, _: str) -> str:
    return text


def colours(text: str, colour: str) -> str:
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if colour and text else text


def printable(text: str) -> str:
    """Text that cannot steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


Cell = str | tuple[str, str]
"""Text, or text and its colour."""


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Cell]], paint: Paint, right: str = ""
) -> str:
    """Columns two spaces apart; headings that end in a mark of ``right`` align right."""
    numeric = [bool(right) and heading.endswith(right) for heading in headings]
    shown = [heading.removesuffix(right) if right else heading for heading in headings]
    cells = [[cell if isinstance(cell, tuple) else (cell, "") for cell in row] for row in rows]
    texts = [[printable(text) for text, _ in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(shown, *texts, strict=True)]
    if paint is plain:
        signs = ("" if number else "-" for number in numeric)
        form = "  ".join(f"%{sign}{width}s" for sign, width in zip(signs, widths, strict=True))
        return "\n".join([(form % tuple(row)).rstrip() for row in [shown, *texts]])
    lines = [_line(shown, ["bold"] * len(shown), widths, numeric, paint)]
    for text, row in zip(texts, cells, strict=True):
        lines.append(_line(text, [colour for _, colour in row], widths, numeric, paint))
    return "\n".join(lines)


def _line(
    texts: Sequence[str],
    tints: Sequence[str],
    widths: Sequence[int],
    numeric: Sequence[bool],
    paint: Paint,
) -> str:
    parts = []
    last = len(texts) - 1
    for index, (text, tint, width) in enumerate(zip(texts, tints, widths, strict=True)):
        pad = " " * (width - len(text))
        if numeric[index]:
            parts.append(pad + paint(text, tint))
        else:
            parts.append(paint(text, tint) + ("" if index == last else pad))
    return "  ".join(parts).rstrip()
