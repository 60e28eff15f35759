"""What is wrong with a document: faults, each naming file, line and key.

A reader of documents reports into a :class:`Report` and goes on, so that an operator sees every
fault of a file at once. Lines are found only when there is something to report: a good document
never pays for positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

MAX_FAULTS = 100  # of one document; what is said after that helps nobody

Path = tuple[str | int, ...]  # ("servers", 3, "port")
Lines = Mapping[Path, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. ``line`` 0: no line to point at; ``key`` "": the whole file."""

    message: str
    file: str = ""
    line: int = 0
    key: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(Exception):
    """A document that cannot be used, with everything that was found wrong with it."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def key_of(path: Path) -> str:
    """``servers[3].port``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if part.isprintable() and len(part) <= 60 else shown(part)
            text += f".{name}" if text else name
    return text


def shown(value: object) -> str:
    """A value as an operator would recognise it, on one line and not too long."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            text = value if len(value) <= 60 else value[:57] + "..."
            return '"' + text.encode("unicode_escape").decode() + '"'
        case _:
            return str(value)


class Report:
    """Faults of one document as they are found."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[tuple[Path, str]] = []
        self._unsaid = 0

    def add(self, path: Path, message: str) -> None:
        if len(self._found) < MAX_FAULTS:
            self._found.append((path, message))
        else:
            self._unsaid += 1

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def error(self, locate: Callable[[], Lines]) -> ConfigError:
        """Everything reported, each with its line, in the order of the file."""
        lines = locate()
        faults = [
            Fault(message, self.file, line_at(lines, path), key_of(path))
            for path, message in self._found
        ]
        faults.sort(key=lambda fault: fault.line)
        if self._unsaid:
            last = faults[-1]
            faults.append(replace(last, message=f"and {self._unsaid} more faults", key=""))
        return ConfigError(*faults)


def line_at(lines: Lines, path: Path) -> int:
    """The line of a key, or of the nearest thing around it that is there."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)
