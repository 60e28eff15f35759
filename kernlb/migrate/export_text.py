"""Text of blocks and lines as keepalived reads it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

MAX_LINE = 1_000  # characters: keepalived's MAXBUF is 1024

_INDENT = "    "
_DEFINED = re.compile(r"\$\{?_")  # what keepalived has definitions for
_SAFE = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_/:,=%&?+*;()[]|^"
)


class Text:
    """Lines, blocks indented."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str) -> None:
        printable = text if text.isprintable() else text.encode("unicode_escape").decode()
        self._lines.append(f"{_INDENT * self._depth}{printable}" if printable else "")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(f"{head} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    def finished(self) -> str:
        return "\n".join(self._lines) + "\n"


def quoted(word: str) -> str | None:
    """A word as keepalived reads it back; None: there is no way to write it."""
    if not word or not word.isprintable() or '"' in word or len(word) > MAX_LINE:
        return None
    if set(word) <= _SAFE:
        return word
    return None if "\\" in word or _DEFINED.search(word) else f'"{word}"'


def shell_quoted(words: tuple[str, ...]) -> str | None:
    """A command as one quoted text, each word of it as a shell would take it; None: no way."""
    parts = []
    for word in words:
        if not word.isprintable() or any(char in word for char in "\"'\\"):
            return None
        parts.append(word if word and set(word) <= _SAFE else f"'{word}'")
    command = " ".join(parts)
    if _DEFINED.search(command):
        return None
    return f'"{command}"' if len(command) <= MAX_LINE else None


def regex_quoted(pattern: str) -> str | None:
    """A pattern as keepalived reads it back: its backslashes doubled."""
    if not pattern or not pattern.isprintable() or _DEFINED.search(pattern) or '"' in pattern:
        return None
    said = '"' + pattern.replace("\\", "\\\\") + '"'
    return said if len(said) <= MAX_LINE else None
