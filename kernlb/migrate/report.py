"""What came of translating a foreign configuration: service documents, and what was lost.

Every importer and exporter collects into a :class:`Report`. It owns the names of the services, the
texts of their documents, and the rule that nothing is dropped in silence: what has no place in a
document becomes a :class:`Loss` with file, line and reason. It refuses I/O.

Rules:

* a document is what an operator would write: plain values, defaults left out;
* a document leaves here only if ``config`` takes it; what it refuses is taken out, smallest part
  first (a check, a server, the service), and each part is a loss (``kernlb.migrate.settle``);
* losses are in the order of the text they are about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from kernlb.config.errors import Path

Document = dict[str, Any]

MAX_LOSSES = 100_000
SHOWN = 120  # characters of a directive
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")


class Kind(StrEnum):
    """How much of a directive is left."""

    LOST = "lost"  # what it said is not carried over
    CHANGED = "changed"  # the nearest that there is stands in for it
    NOTE = "note"  # nothing is lost; something is to be known or done


@dataclass(frozen=True, slots=True)
class Loss:
    """One directive that is not carried over as it was. ``line`` 0: none to point at."""

    kind: Kind
    what: str  # as it was written, on one line
    why: str
    file: str = ""
    line: int = 0
    service: str = ""  # the document it would have gone into; "": none

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        said = f"{self.kind}: {self.what}: {self.why}" if self.what else f"{self.kind}: {self.why}"
        return f"{place}: {said}" if place else said


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was said."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Translated:
    """One service. ``places`` say where parts of the document come from, by their path."""

    name: str
    document: Document
    place: Place = Place()
    places: Mapping[Path, Place] = field(default_factory=dict)

    def place_of(self, path: Path) -> Place:
        """Of the nearest part around ``path`` that has one."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path[:-1]
        return self.place


class Written(NamedTuple):
    """What an exporter made: a text of the other program, and what is not in it."""

    text: str
    losses: tuple[Loss, ...]


class MigrationError(Exception):
    """A configuration that cannot be read at all: one sentence, with file and line."""

    def __init__(self, why: str, place: Place | None = None) -> None:
        super().__init__(f"{place}: {why}" if place and str(place) else why)
        self.why = why
        self.place = place or Place()


class Report:
    """Services and losses of one translation, as they are found."""

    def __init__(self) -> None:
        self.services: list[Translated] = []
        self._losses: list[Loss] = []
        self._names: set[str] = set()
        self.unsaid = 0  # losses beyond MAX_LOSSES

    def lost(self, what: str, why: str, place: Place | None = None, service: str = "") -> None:
        self._add(Kind.LOST, what, why, place, service)

    def changed(self, what: str, why: str, place: Place | None = None, service: str = "") -> None:
        self._add(Kind.CHANGED, what, why, place, service)

    def note(self, what: str, why: str, place: Place | None = None, service: str = "") -> None:
        self._add(Kind.NOTE, what, why, place, service)

    def keep(self, loss: Loss) -> None:
        self._add(loss.kind, loss.what, loss.why, Place(loss.file, loss.line), loss.service)

    def name(self, wanted: str) -> str:
        """A name that no service of this report has: the one wanted, if it may be had."""
        stem = name_of(wanted)
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem[: 62 - len(str(number))]}-{number}"
        self._names.add(name)
        return name

    def add(self, service: Translated) -> None:
        self.services.append(service)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """By file, in the order the files were first named, and line; each said once."""
        files: dict[str, int] = {}
        for loss in self._losses:
            files.setdefault(loss.file, len(files))
        ordered = sorted(self._losses, key=lambda loss: (files[loss.file], loss.line))
        return tuple(dict.fromkeys(ordered))

    def _add(self, kind: Kind, what: str, why: str, place: Place | None, service: str) -> None:
        if len(self._losses) >= MAX_LOSSES:
            self.unsaid += 1
            return
        at = place or Place()
        self._losses.append(Loss(kind, shown(what), why, at.file, at.line, service))


def texts(report: Report) -> dict[str, str]:
    """The documents as YAML by service name, each saying on top where it comes from."""
    from kernlb.config.edit import render

    found = {}
    for service in report.services:
        head = f"# imported from {_comment(str(service.place))}\n" if str(service.place) else ""
        found[service.name] = head + render(service.document)
    return found


def name_of(wanted: str) -> str:
    """The name of a service that is nearest to ``wanted``."""
    name = _NOT_IN_A_NAME.sub("-", wanted.lower()).strip("._-")[:63].rstrip("._-")
    return name or "service"


def default_name(document: Document) -> str:
    """A name by what clients connect to: ``tcp-192.0.2.1-80``, ``fwmark-7``."""
    if "fwmark" in document:
        family = "-ipv6" if document.get("family") == "ipv6" else ""
        return f"fwmark-{document['fwmark']}{family}"
    address = str(document.get("address", "")).replace(":", "-").strip("-")
    return name_of(f"{document.get('protocol', 'tcp')}-{address}-{document.get('port', 0)}")


def shown(text: str) -> str:
    """A directive on one line, not too long, nothing in it that does not print."""
    line = " ".join(text.split())
    line = line if line.isprintable() else line.encode("unicode_escape").decode()
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."


def _comment(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode()
