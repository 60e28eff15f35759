"""An overview as the page that ``kernlb status`` prints. Pure.

What needs somebody comes first, then how the daemon is, then the services and what happened last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kernlb.cli.board_text import event_text, traffic
from kernlb.cli.render import (
    STATE_COLOURS,
    Paint,
    ago,
    count,
    mebibytes,
    printable,
    span,
)
from kernlb.cli.status_services import services_text
from kernlb.control.protocol import Status, VipView
from kernlb.control.protocol_overview import Overview
from kernlb.control.protocol_xdp import XdpStatus

EVENTS = 5
SUBJECT = 9  # characters
TABLES = 3  # of XDP, the fullest
LISTED = 5  # of what may be many: warnings, VIPs, foreign services

Row = tuple[str, str]
"""Subject and text."""


def status_text(
    overview: Overview, now: float, paint: Paint, *, width: int | None, room: int, every: bool
) -> str:
    """``width`` and ``room``, the lines that there are, are a terminal's; ``every``: all there is,
    however much."""
    status = overview.status
    warnings = [("WARNING", paint(printable(text), "red")) for text in overview.warnings]
    rows = _few(warnings, every, "warnings")
    rows += _daemon(status, now, paint)
    rows.append(("traffic", traffic(overview)))
    if status.health is not None:
        from kernlb.cli.health import monitor_text

        rows.append(("health", monitor_text(status.health, paint)))
    rows += _few(_foreign(status), every, "foreign services")
    rows += _few(_vips(status.vips, paint), every, "VIPs")
    if status.xdp is not None:
        rows += _xdp(status.xdp, paint, every)
    cut = None if width is None else width - SUBJECT - 1
    events = [("event", event_text(event, paint, cut)) for event in status.events[-EVENTS:]]
    left = room - len(rows) - len(events) - 2  # blank lines between
    services = services_text(
        overview.services, now, paint, width=width, room=max(left, LISTED), every=every
    )
    return "\n\n".join(part for part in (_lines(rows), *services, _lines(events)) if part)


def _lines(rows: Iterable[Row]) -> str:
    return "\n".join(f"{subject:<{SUBJECT}} {text}" for subject, text in rows)


def _few(rows: Iterable[Row], every: bool, what: str) -> list[Row]:
    """The first rows, and how many more there are."""
    rows = list(rows)
    if every or len(rows) <= LISTED:
        return rows
    more = f"and {len(rows) - LISTED} more {what}: kernlb status --all"
    return [*rows[:LISTED], (rows[0][0], more)]


def _daemon(status: Status, now: float, paint: Paint) -> Iterator[Row]:
    yield (
        "kernlbd",
        f"{printable(status.version)}, pid {status.pid}, up {span(now - status.started)}",
    )
    for path in status.datapaths:
        here = paint("available", "green") if path.available else paint("not available", "red")
        more = ", ".join(printable(text) for text in (path.version, path.detail) if text)
        yield "datapath", f"{path.kind}: {here}" + (more and f", {more}")
    by_state = [
        paint(f"{number} {printable(state)}", STATE_COLOURS.get(state, ""))
        for state, number in status.services.items()
        if number
    ]
    yield "services", ", ".join(by_state) or "none"
    yield "servers", f"{status.serving} of {status.servers} serving"
    drift = f"{status.drift_repaired} repaired" if status.drift_repaired else "none seen"
    audited = f"last {ago(now - status.last_audit)}" if status.last_audit else "none yet"
    yield "audit", f"{audited}, every {span(status.audit_interval)}; drift: {drift}"


def _foreign(status: Status) -> Iterator[Row]:
    for key in status.foreign:
        yield "foreign", printable(key)


def _vips(vips: Sequence[VipView], paint: Paint) -> Iterator[Row]:
    """Missing ones first."""
    for vip in sorted(vips, key=lambda vip: vip.present):
        present = "present" if vip.present else paint("missing", "red")
        if vip.withdrawn and not vip.present:
            present = paint("withdrawn: too few good servers", "red")
        owner = "kernlb's" if vip.owned else "not kernlb's to remove"
        yield "vip", f"{printable(f'{vip.address} on {vip.interface}')}: {present}, {owner}"


def _xdp(xdp: XdpStatus, paint: Paint, every: bool) -> Iterator[Row]:
    yield "xdp", printable(f"program {xdp.program}, ABI {xdp.abi}, {mebibytes(xdp.memory)}")
    native = [printable(each.name) for each in xdp.interfaces if each.mode == "native"]
    if native:
        yield "xdp", f"{', '.join(native)}: {paint('native', 'green')} mode"
    for each in xdp.interfaces:
        name = printable(each.name)
        if each.mode == "generic":
            yield "xdp", f"{name}: " + paint("GENERIC mode: several times slower", "yellow")
        if each.error or not each.mode:
            why = printable(each.error) or "no program is attached"
            yield "xdp", f"{name}: " + paint(why, "red")
    tables = xdp.tables
    if not every:
        tables = sorted(tables, key=lambda each: each.used / max(each.size, 1), reverse=True)
    fill = [f"{each.name} {count(each.used)}/{count(each.size)}" for each in tables]
    shown = fill if every else fill[:TABLES]
    yield "xdp", printable(", ".join(shown) + f"; half-open {count(xdp.half_open)}")
