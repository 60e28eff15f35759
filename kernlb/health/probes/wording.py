"""What a result may quote of a far end: one printable line, short, whatever the bytes are. Pure."""

from __future__ import annotations

LIMIT = 200  # characters of a result's detail
_QUOTE = 80
_LONGEST_CHARACTER = 4  # bytes in UTF-8


def line(text: str, limit: int = LIMIT) -> str:
    """``text`` as one printable line of at most ``limit`` characters."""
    cut = text[: limit + 1]
    if not cut.isprintable():
        cut = "".join(each if each.isprintable() else "." for each in cut)
    return cut if len(cut) <= limit else cut[: limit - 1] + "…"


def quote(data: bytes | bytearray | str, limit: int = _QUOTE) -> str:
    """The start of what came, in quotation marks."""
    if not isinstance(data, str):
        data = bytes(data[: limit * _LONGEST_CHARACTER]).decode("utf-8", "replace")
    return f'"{line(data.strip(), limit)}"'
