"""Definitions (``$NAME=value``), where they are used, and the loops ``~SEQ`` and ``~LST``. Pure.

A definition of several lines is a tuple of lines; it may stand at the end of a line only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_REPLACED = 1_000  # definitions put into one line
MAX_TEXT = 65_536  # characters of a line, after that
MAX_ROUNDS = 200_000  # of one loop

_DEFINITION = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)=[ \t]*(.*)", re.ASCII | re.DOTALL)
_USE = re.compile(
    r"\$(?:\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?P<given>[ \t][ \t0-9A-Za-z_]*)?\}"
    r"|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)(?=[ \t,)]|$))",
    re.ASCII,
)
_SEQ = re.compile(r"~SEQ(x?)[ \t]*\([ \t]*([^ \t,)]+)[ \t]*,([^)]*)\)[ \t]*(.*)", re.DOTALL)
_LST = re.compile(r"~LST[ \t]*\([ \t]*(?:\{([^}]*)\}|([^ \t,}]+))[ \t]*,(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

Bindings = tuple[tuple[str, str], ...]


class DefinitionError(ValueError):
    """A definition or a loop that cannot be carried out."""


class Definitions:
    """The definitions so far. ``value`` of several lines as a tuple."""

    def __init__(self, **values: str) -> None:
        self._values: dict[str, tuple[str, ...]] = {k: (v,) for k, v in values.items()}
        self._long: set[str] = set()
        self.random_used = False

    def set(self, name: str, lines: tuple[str, ...], *, long: bool = False) -> None:
        self._values[name] = lines
        self._long.discard(name)
        if long:
            self._long.add(name)

    def replace(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The line with definitions put in, again and again, and the lines that follow it.

        What is not defined stays as it is. Raises DefinitionError."""
        rest: tuple[str, ...] = ()
        start = 0
        for _ in range(MAX_REPLACED):
            use = _USE.search(text, start)
            if use is None:
                return text, rest
            value = self._value(use, at_end=use.end() == len(text))
            if value is None:
                start = use.start() + 1
                continue
            text = text[: use.start()] + value[0] + text[use.end() :]
            rest = value[1:] + rest
            start = use.start()
            if len(text) > MAX_TEXT:
                break
            if value[0].lstrip(" \t").startswith("~"):
                return text, rest
        raise DefinitionError("definitions go on and on: one leads to itself")

    def _value(self, use: re.Match[str], *, at_end: bool) -> tuple[str, ...] | None:
        name = use["braced"] or use["plain"]
        given = (use["given"] or "").split()
        if name == "_RANDOM" and name not in self._values:
            self.random_used = True
            return (given[0] if given else "0",)
        if given or name not in self._values or (name in self._long and not at_end):
            return None
        return self._values[name] or ("",)


def definition(text: str) -> tuple[str, str] | None:
    """Name and value of a line that defines one."""
    match = _DEFINITION.fullmatch(text)
    return None if match is None else (match[1], match[2])


def loop(text: str, definitions: Definitions) -> tuple[Iterator[Bindings], str] | None:
    """What a loop binds in each of its rounds, and the rest of the line; None: it is none.

    Raises DefinitionError."""
    if text.startswith("~SEQ"):
        return _sequence(text, definitions)
    return _listed(text) if text.startswith("~LST") else None


def _sequence(text: str, definitions: Definitions) -> tuple[Iterator[Bindings], str]:
    match = _SEQ.fullmatch(text)
    if match is None:
        raise DefinitionError("~SEQ is not ~SEQ(name, [start, [step,]] end)")
    hexadecimal, name, numbers, rest = match.groups()
    if not _NAME.fullmatch(name):
        raise DefinitionError(f"~SEQ: {name} is not a name")
    filled, more = definitions.replace(numbers)
    try:
        said = [_number(each) for each in filled.split(",")]
    except ValueError:
        said = []
    if more or not 1 <= len(said) <= 3:
        raise DefinitionError("~SEQ needs one to three numbers")
    end = said[-1]
    start = said[0] if len(said) > 1 else (-1 if end < 0 else 1)
    step = said[1] if len(said) == 3 else (1 if start <= end else -1)
    if step == 0 or (end - start) * step < 0:
        raise DefinitionError("~SEQ would not come to its end")
    if hexadecimal and (start < 0 or end < 0):
        raise DefinitionError("~SEQx takes positive numbers only")
    steps = range(start, end + (1 if step > 0 else -1), step)
    if len(steps) > MAX_ROUNDS:
        raise DefinitionError(f"~SEQ has {len(steps)} rounds: at most {MAX_ROUNDS}")
    return (((name, f"{n:x}" if hexadecimal else str(n)),) for n in steps), rest


def _number(text: str) -> int:
    """As strtol(3) with base 0 takes it."""
    text = text.strip()
    digits = text.lstrip("+-")
    if len(digits) > 18:
        raise ValueError
    octal = len(digits) > 1 and digits.startswith("0") and digits.isdigit()
    return int(text, 8 if octal else 0)


def _listed(text: str) -> tuple[Iterator[Bindings], str]:
    match = _LST.fullmatch(text)
    if match is None:
        raise DefinitionError("~LST is not ~LST(name, value, ...)")
    names = [name.strip() for name in (match[1] or match[2]).split(",")]
    if not all(map(_NAME.fullmatch, names)):
        raise DefinitionError("~LST: what stands in front are no names")
    rounds: list[Bindings] = []
    rest = match[3]
    while True:
        rest = rest.lstrip(" \t")
        if rest.startswith("{"):
            inner, closed, rest = rest[1:].partition("}")
            values = [value.strip() for value in inner.split(",")]
        else:
            value = re.match(r"[^,)]*", rest)
            assert value is not None
            closed, values, rest = "}", [value[0].strip()], rest[value.end() :]
        if not closed or len(values) > len(names) or len(rounds) >= MAX_ROUNDS:
            raise DefinitionError("~LST has a set of values that does not fit its names")
        rounds.append(tuple(zip(names, values + [""] * len(names), strict=False)))
        rest = rest.lstrip(" \t")
        if rest.startswith(")"):
            return iter(rounds), rest[1:].lstrip(" \t")
        if not rest.startswith(","):
            raise DefinitionError("~LST does not close")
        rest = rest[1:]
