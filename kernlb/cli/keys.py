"""Bytes that a terminal sends to the names of keys that were pressed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

_NAMED = {
    b"\r": "enter",
    b"\n": "enter",
    b"\t": "tab",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b"\x15": "clear",  # Ctrl-U
    b"\x0c": "redraw",  # Ctrl-L
}
# xterm's ctlseqs, in its two modes of cursor keys, and what the Linux console and rxvt send.
_SEQUENCES = {
    **{f"\x1b[{final}".encode(): name for final, name in zip("ABCDHF", (
        "up", "down", "right", "left", "home", "end"), strict=True)},
    **{f"\x1bO{final}".encode(): name for final, name in zip("ABCDHFM", (
        "up", "down", "right", "left", "home", "end", "enter"), strict=True)},
    **{f"\x1b[{number}~".encode(): name for number, name in (
        (1, "home"), (4, "end"), (5, "pageup"), (6, "pagedown"), (7, "home"), (8, "end"))},
}  # fmt: skip
_ESCAPE = 0x1B
_LONGEST = 16  # bytes of a sequence that is still waited for


def decode(data: bytes, *, ended: bool) -> tuple[list[str], bytes]:
    """Keys, and the bytes of one that is not complete yet.

    ``ended``: nothing more comes, so that an escape stands for its own key. What is no key of
    ours, a mouse's report say, is passed over. Characters are themselves.
    """
    keys: list[str] = []
    rest = data
    while rest:
        length = _length(rest)
        if length == 0:
            if not ended and len(rest) <= _LONGEST:
                break
            length = 1
        keys += _key(rest[:length])
        rest = rest[length:]
    return keys, rest


def _length(data: bytes) -> int:
    """Bytes of the first key; 0: it is not complete."""
    first = data[0]
    if first == _ESCAPE:
        return _sequence_length(data)
    size = 1 if not 0xC2 <= first <= 0xF4 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    return size if len(data) >= size else 0


def _sequence_length(data: bytes) -> int:
    """ECMA-48: an introducer, parameters, and a final byte."""
    if len(data) < 2:
        return 0
    if data[1:2] == b"O":
        return 3 if len(data) >= 3 else 0
    if data[1:2] != b"[":
        return 1  # a key on its own, followed by another
    for index in range(2, len(data)):
        if 0x40 <= data[index] <= 0x7E:
            return index + 1
    return 0


def _key(data: bytes) -> Iterator[str]:
    if data in _NAMED:
        yield _NAMED[data]
    elif data == b"\x1b":
        yield "escape"
    elif data in _SEQUENCES:
        yield _SEQUENCES[data]
    elif data[0] != _ESCAPE:
        text = data.decode("utf-8", "ignore")
        if text.isprintable() and text:
            yield text
