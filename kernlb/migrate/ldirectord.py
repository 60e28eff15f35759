"""ldirectord.cf to service documents.

The grammar is that of ldirectord 4.12: settings of the whole file at the left margin, those of a
virtual service indented below its ``virtual=`` line by four spaces or a tab. Names of hosts are not
resolved; every setting is used or told as lost, and passwords are not repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kernlb.migrate.keepalived.files import Disk, Files
from kernlb.migrate.ldirectord_services import KNOWN, translate
from kernlb.migrate.report import MigrationError, Place, Report
from kernlb.migrate.settle import mark_local, settle

MAX_LINES = 200_000
MAX_SERVICES = 16_384

_SETTING = re.compile(r"([A-Za-z0-9]+)\s*=\s*(.*?)\s*")
_INDENT = re.compile(r" {4,}(\S.*)")

_LOST = {
    "emailalert": "kernlb sends no mail: kernlb events and metrics tell what changed",
    "emailalertfrom": "kernlb sends no mail",
    "emailalertfreq": "kernlb sends no mail",
    "emailalertstatus": "kernlb sends no mail",
    "smtp": "kernlb sends no mail",
    "logfile": "kernlbd writes to standard error, which systemd keeps",
    "monitorfile": "kernlb health and kernlb events tell what was found",
    "autoreload": "kernlb reload reads the files again, when it is asked to",
    "callback": "kernlb runs no scripts on changes: kernlb events tells them",
    "fallbackcommand": "kernlb runs no scripts on changes: kernlb events tells them",
    "execute": "import that configuration by itself",
    "supervised": "kernlbd stays in the foreground, for systemd to watch",
    "fork": "one kernlbd checks all servers at once",
    "cleanstop": "kernlbd leaves the kernel forwarding; --flush-on-stop takes its services away",
    "readdquiescent": "kernlb puts back what is missing in the kernel",
    "maintenancedir": "kernlb server drain and disable take servers out",
    "checkcount": "counts attempts of one ping: fall counts bad answers (failurecount)",
    "load": "has no counterpart",
}
_SECRET = ("passwd", "secret")


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: str
    place: Place

    @property
    def text(self) -> str:
        return f"{self.name} = {'...' if self.name in _SECRET else self.value}"


@dataclass(slots=True)
class Section:
    """A virtual service: its settings in the order of the file."""

    head: Setting
    settings: list[Setting] = field(default_factory=list)


def read_ldirectord(path: str, files: Files | None = None) -> Report:
    """The services of a configuration and what is lost. Raises MigrationError."""
    report = read_unsettled(path, files)
    mark_local(report)
    settle(report)
    return report


def read_unsettled(path: str, files: Files | None = None) -> Report:
    """The same before documents are held against ``config``."""
    try:
        content = (files or Disk()).read(path)
    except OSError as error:
        raise MigrationError((error.strerror or str(error)).lower(), Place(path)) from None
    report = Report()
    common, sections = _parse(content, path, report)
    if len(sections) > MAX_SERVICES:
        raise MigrationError(f"has more than {MAX_SERVICES} services", Place(path))
    usual = _last(common, report)
    for section in sections:
        reals = [each for each in section.settings if each.name in ("real", "real6")]
        rest = [each for each in section.settings if each.name not in ("real", "real6")]
        translate(section.head, _last(rest, report), reals, usual, report)
    for setting in usual.values():
        if setting.name in KNOWN and not sections:
            report.lost(setting.text, "there is no virtual service", setting.place)
    return report


def _parse(content: bytes, path: str, report: Report) -> tuple[list[Setting], list[Section]]:
    common: list[Setting] = []
    sections: list[Section] = []
    open_: Section | None = None
    for place, line in _lines(content, path):
        if open_ is not None:
            if line.lstrip().startswith("#"):
                continue
            inside = _INDENT.fullmatch(line.partition("#")[0].replace("\t", "    ").rstrip())
            if inside is not None:
                _take(inside[1], place, open_.settings, report)
                continue
            open_ = None
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        setting = _setting(line, place)
        if setting is None or line[0] in " \t":
            why = "is indented below no virtual service" if line[0] in " \t" else "is no setting"
            report.lost(_hidden(line), why, place)
        elif setting.name in ("virtual", "virtual6"):
            open_ = Section(setting)
            sections.append(open_)
        else:
            _keep(setting, common, report)
    return common, sections


def _lines(content: bytes, path: str) -> Iterator[tuple[Place, str]]:
    lines = content.split(b"\n")
    if len(lines) > MAX_LINES:
        raise MigrationError(f"has more than {MAX_LINES} lines", Place(path))
    for number, raw in enumerate(lines, 1):
        yield Place(path, number), raw.decode("utf-8", "backslashreplace").rstrip("\r")


def _take(text: str, place: Place, into: list[Setting], report: Report) -> None:
    setting = _setting(text, place)
    if setting is None:
        report.lost(_hidden(text), "is no setting", place)
    else:
        _keep(setting, into, report)


def _setting(text: str, place: Place) -> Setting | None:
    match = _SETTING.fullmatch(text.strip())
    if match is None:
        return Setting("supervised", "yes", place) if text.strip() == "supervised" else None
    return Setting(match[1], match[2], place)


def _keep(setting: Setting, into: list[Setting], report: Report) -> None:
    if setting.name in _LOST:
        report.lost(setting.text, _LOST[setting.name], setting.place)
    elif setting.name in KNOWN:
        into.append(setting)
    else:
        report.lost(setting.text, "is unknown, and ldirectord refuses it", setting.place)


def _last(settings: list[Setting], report: Report) -> dict[str, Setting]:
    """By name; of those said several times the last counts."""
    found: dict[str, Setting] = {}
    for setting in settings:
        if (before := found.get(setting.name)) is not None:
            why = f"is said again in line {setting.place.line}, which counts"
            report.note(before.text, why, before.place)
        found[setting.name] = setting
    return found


def _hidden(text: str) -> str:
    """A line that may hold a password, without it."""
    word = text.strip().partition("=")[0].strip().lower()
    return f"{word} = ..." if any(secret in word for secret in _SECRET) else text
