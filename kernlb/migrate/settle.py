"""Translated documents held against ``config``: what it refuses is taken out, and told.

Pure. The smallest part around a fault goes first: a check, then the server, then the service.
Services that quarrel (a key declared twice, a VIP that is another's real server) are settled in
favour of the one in front.
"""

from __future__ import annotations

import copy
import re

from kernlb.config import ConfigError, Defaults, Fault, Index, parse_service
from kernlb.config.edit import render
from kernlb.config.errors import Path, key_of
from kernlb.declaration import Declaration
from kernlb.migrate.report import Report, Translated

ROUNDS = 8  # a round takes out something of every fault that config reports
_PART = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")


def settle(report: Report, defaults: Defaults | None = None) -> dict[str, Declaration]:
    """Leaves in ``report.services`` only what config takes, alone and together; the declarations
    by name."""
    index = Index()
    kept: list[Translated] = []
    for service in report.services:
        settled = _settle(service, index, report, defaults or Defaults())
        if settled is not None:
            translated, declaration = settled
            kept.append(translated)
            index.put(declaration)
    report.services[:] = kept
    return dict(index.declarations)


def mark_local(report: Report) -> None:
    """Servers at an address that services are reached at are on the balancer itself: IPVS hands
    their connections to a process there. To be called before :func:`settle`."""
    vips = {str(service.document.get("address", "")) for service in report.services} - {""}
    for service in report.services:
        sorry = service.document.get("sorry_server")
        for path, server in (
            *((("servers", index), each) for index, each in enumerate(service.document["servers"])),
            *([(("sorry_server",), sorry)] if sorry else []),
        ):
            if server["address"] in vips:
                server["local"] = True
                why = "is at an address of the balancer: local, IPVS hands it to a process there"
                report.note(f"server {server['address']}", why, service.place_of(path))


def _settle(
    service: Translated, index: Index, report: Report, defaults: Defaults
) -> tuple[Translated, Declaration] | None:
    document = copy.deepcopy(service.document)
    places = dict(service.places)
    for _ in range(ROUNDS):
        current = Translated(service.name, document, service.place, places)
        faults: tuple[Fault, ...]
        try:
            text = render(document).encode()
            declaration = parse_service(text, name=service.name, source="", defaults=defaults)
            faults = tuple(index.faults(declaration))
        except ConfigError as error:
            faults = error.faults
        if not faults:
            return current, declaration
        if not _take_out(current, faults, report):
            return None
    report.lost("service " + service.name, str(faults[0]), service.place, service.name)
    return None


def _take_out(service: Translated, faults: tuple[Fault, ...], report: Report) -> bool:
    """Takes the part around each fault out of the document; False: the whole service goes."""
    document = service.document
    gone: set[Path] = set()
    for fault in faults:
        part = _part(path_of(fault.key), document)
        what = f"service {service.name}" + (f", {key_of(part)}" if part else "")
        why = f"{fault.key}: {fault.message}" if fault.key else fault.message
        report.lost(what, why, service.place_of(path_of(fault.key)), service.name)
        if not part:
            return False
        gone.add(part)
    for part in sorted(gone, key=_late_first):
        _remove(service, part)
    return True


def _part(path: Path, document: dict[str, object]) -> Path:
    """The smallest part that can go without the rest changing its meaning; () the service."""
    if not path or path[0] not in document:
        return ()
    if path[0] in ("servers", "sorry_server") and len(path) > 1 and isinstance(path[1], int):
        if len(path) > 2 and path[2] in ("check", "labels"):
            return path[:3]
        return path[:2]
    if path[0] in ("check", "sorry_server", "labels", "vip"):
        return path[:1]
    if path[0] == "health":
        return path[:2]
    return ()


def _late_first(path: Path) -> tuple[str, int, int]:
    """Items of a list from behind, so that the places in front keep their numbers."""
    number = path[1] if len(path) > 1 and isinstance(path[1], int) else 0
    return str(path[0]), -number, -len(path)


def _remove(service: Translated, path: Path) -> None:
    holder: object = service.document
    for step in path[:-1]:
        holder = holder[step]  # type: ignore[index]
    last = path[-1]
    if isinstance(holder, dict):
        holder.pop(last, None)
        if path == ("check",) or path[2:] == ("check",):
            holder["check"] = "none"
        return
    if isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        del holder[last]
        _close_gap(service, path)


def _close_gap(service: Translated, path: Path) -> None:
    """The places of a list's items move up with them."""
    depth, number = len(path) - 1, path[-1]
    places = dict(service.places)
    assert isinstance(service.places, dict)
    service.places.clear()
    for where, place in places.items():
        at = where[depth] if len(where) > depth and where[:depth] == path[:depth] else None
        if at is None or not isinstance(at, int) or not isinstance(number, int) or at < number:
            service.places[where] = place
        elif at > number:
            service.places[(*where[:depth], at - 1, *where[depth + 1 :])] = place


def path_of(key: str) -> Path:
    """The reverse of ``errors.key_of``, for keys without dots in their names."""
    return tuple(int(number) if number else name for name, number in _PART.findall(key))
