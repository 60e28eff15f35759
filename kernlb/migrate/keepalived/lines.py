"""A configuration to its lines: comments gone, conditions decided, definitions put in, files that
are included read. What is left out by a condition, or cannot be carried out, is told.

Order and rules are those of keepalived's lib/parser.c (read_line). Every line knows the file and
line it was written on; what a definition makes has the place where it is used. All loops are
bounded, and a configuration beyond a bound is refused whole.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from typing import NamedTuple

from kernlb.migrate.keepalived.definitions import (
    MAX_TEXT,
    DefinitionError,
    Definitions,
    definition,
    loop,
)
from kernlb.migrate.keepalived.files import Files
from kernlb.migrate.keepalived.words import BLANK, decomment
from kernlb.migrate.report import MigrationError, Place, Report

MAX_LINES = 200_000  # after loops and files that are included
MAX_FILES = 1_000
MAX_TOTAL = 64 << 20  # bytes of all files
MAX_INSIDE = 20  # files within files
MAX_PATTERNS = 1_000  # that braces in one name of a file stand for
MAX_DEPTH = 60  # definitions within definitions

_INCLUDE = re.compile(r"include([rmwba]?)\s+(.*)", re.DOTALL)
_CONDITION = re.compile(r"@(\^?)([^ \t]*)[ \t]+(.*)", re.DOTALL)
_BRACE = re.compile(r'[{}]|"')


class Line(NamedTuple):
    """One line: words of a directive, or a brace alone."""

    text: str
    place: Place


class Lines:
    """The lines of one configuration; iterate once."""

    def __init__(self, files: Files, config_id: str, report: Report) -> None:
        self._files = files
        self._id = config_id
        self._report = report
        self._defined = Definitions(_INSTANCE=config_id, _HASH="#", _BANG="!")
        self._reading: list[str] = []  # files within files
        self._count = self._opened = self._bytes = 0

    def read(self, path: str) -> Iterator[Line]:
        """Raises MigrationError; OSError for the file itself."""
        return self._file(path, Place(path))

    def _file(self, path: str, from_: Place) -> Iterator[Line]:
        if os.path.realpath(path) in self._reading:
            raise MigrationError(f"{path} includes itself", from_)
        if len(self._reading) >= MAX_INSIDE or self._opened >= MAX_FILES:
            raise MigrationError("includes too many files", from_)
        content = self._files.read(path)
        self._opened += 1
        self._bytes += len(content)
        if self._bytes > MAX_TOTAL:
            raise MigrationError(f"includes more than {MAX_TOTAL >> 20} MiB", from_)
        self._reading.append(os.path.realpath(path))
        before = self._pwd()
        self._defined.set("_PWD", (os.path.dirname(path) or ".",))  # noqa: PTH120
        yield from self._text(path, content)
        self._defined.set("_PWD", (before,))
        self._reading.pop()

    def _pwd(self) -> str:
        return self._defined.replace("${_PWD}")[0]

    def _text(self, path: str, content: bytes) -> Iterator[Line]:
        name, body = "", [""]  # of a definition that goes on
        at = Place(path)
        for number, raw in enumerate(content.split(b"\n"), 1):
            place = Place(path, number)
            line = self._readable(raw, place)
            blank = not line.strip("\r")
            text = "" if blank else decomment(line.rstrip("\r"))
            if name:
                if not text and not blank:
                    continue  # a comment within a definition
                body.append(text.removesuffix("\\").rstrip(BLANK))
                if not text.endswith("\\"):
                    self._define(name, body)
                    name = ""
                continue
            if not text:
                continue
            start = self._condition(text, place)
            said = None if start is None else definition(start)
            if said is not None and said[1].endswith("\\"):
                name, at = said[0], place
                body = [said[1].removesuffix("\\").rstrip(BLANK)]
                continue
            yield from self._line(text, place, 0)
        if name:
            self._define(name, body)
            self._report.note(f"${name}=", "is not finished at the end of the file", at)

    def _define(self, name: str, body: list[str]) -> None:
        self._defined.set(name, tuple(line for line in body if line), long=True)

    def _readable(self, raw: bytes, place: Place) -> str:
        if len(raw) > MAX_TEXT:
            self._report.lost(repr(raw[:60]), f"a line of {len(raw)} bytes is ignored", place)
            return ""
        if b"\0" in raw:
            self._report.lost(repr(raw[:60]), "a line with a NUL byte is ignored", place)
            return ""
        try:
            return raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("utf-8", "backslashreplace")
            self._report.note(text, "is not UTF-8: read with its bytes spelt out", place)
            return text

    def _condition(self, text: str, place: Place) -> str | None:
        """The line without its conditions, None where they say that it is not meant."""
        while text.startswith("@"):
            match = _CONDITION.fullmatch(text)
            if match is None:
                self._report.lost(text, "a condition without a directive", place)
                return None
            inverted, wanted, rest = match.groups()
            if (wanted == self._id) == bool(inverted):
                why = f"left out: meant for config id {inverted and 'other than '}{wanted}"
                self._report.note(text, f"{why}, and this is {self._id or 'none'}", place)
                return None
            text = rest
        return text

    def _line(self, text: str, place: Place, depth: int) -> Iterator[Line]:
        """What one line comes to, with the lines that definitions in it make."""
        if depth > MAX_DEPTH:
            raise MigrationError("definitions go on and on: one leads to itself", place)
        held = self._condition(text, place)
        if not held:
            return
        text = held
        if (said := definition(text)) is not None:
            self._defined.set(said[0], (said[1],))
            return
        try:
            if (rounds := loop(text, self._defined)) is not None:
                self._tick(place)
                for bindings in rounds[0]:
                    self._tick(place)
                    for name, value in bindings:
                        self._defined.set(name, (value,))
                    yield from self._line(rounds[1], place, depth + 1)
                return
            replaced, more = self._defined.replace(text) if "$" in text else (text, ())
        except DefinitionError as error:
            if "on and on" in str(error) or "rounds" in str(error):
                raise MigrationError(str(error), place) from None
            self._report.lost(text, str(error), place)
            return
        if self._defined.random_used:
            self._defined.random_used = False
            self._report.changed(text, "is not random: the least value stands in", place)
        if replaced != text or more:
            yield from self._line(replaced.strip(BLANK), place, depth + 1)
        elif match := _INCLUDE.fullmatch(text):
            yield from self._include(match[2].strip(BLANK), text, place)
        else:
            yield from self._split(text, place)
        for each in more:
            yield from self._line(each.strip(BLANK), place, depth + 1)

    def _include(self, pattern: str, text: str, place: Place) -> Iterator[Line]:
        found = False
        for each in braces(pattern):
            where = os.path.join(os.path.dirname(place.file), each)  # noqa: PTH118, PTH120
            for path in self._files.find(where):
                found = True
                try:
                    yield from self._file(path, place)
                except OSError as error:
                    self._report.lost(
                        text, f"cannot read {path}: {error.strerror or error}".lower(), place
                    )
        if not found:
            self._report.lost(text, "no file is there under this name", place)

    def _split(self, text: str, place: Place) -> Iterator[Line]:
        """Braces apart, unless they are quoted."""
        start = index = 0
        while (match := _BRACE.search(text, index)) is not None:
            if match[0] == '"':
                end = text.find('"', match.end())
                if end < 0:
                    break
                index = end + 1
                continue
            if before := text[start : match.start()].strip(BLANK):
                yield self._emit(before, place)
            yield self._emit(match[0], place)
            start = index = match.end()
        if rest := text[start:].strip(BLANK):
            yield self._emit(rest, place)

    def _emit(self, text: str, place: Place) -> Line:
        self._tick(place)
        return Line(text, place)

    def _tick(self, place: Place) -> None:
        self._count += 1
        if self._count > MAX_LINES:
            raise MigrationError(f"comes to more than {MAX_LINES} lines", place)


def braces(pattern: str) -> list[str]:
    """``a{b,c}d`` as a shell's braces make of it; bounded by MAX_PATTERNS."""
    done: list[str] = []
    todo = [pattern]
    while todo and len(done) + len(todo) <= MAX_PATTERNS:
        each = todo.pop(0)
        parts = _alternatives(each)
        if parts is None:
            done.append(each)
        else:
            todo = [part for part in parts if part not in todo] + todo
    return done + todo


def _alternatives(pattern: str) -> list[str] | None:
    """What the first brace that closes stands for; None: there is none."""
    start = pattern.find("{")
    depth, commas = 0, [start]
    for at in range(max(start, 0), len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[at], 0)
        if depth == 1 and pattern[at] == ",":
            commas.append(at)
        if depth == 0 and start >= 0:
            ends = [*commas[1:], at]
            inner = [pattern[a + 1 : b] for a, b in zip(commas, ends, strict=True)]
            return [pattern[:start] + part + pattern[at + 1 :] for part in inner]
    return None
