"""The screen of ``kernlb top``: lines of text for a width and a height. Pure.

From the top: what needs somebody, totals, the table, what is to be said of the selected row, the
latest events where there is room, and the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from kernlb.cli.board_text import (
    clock_time,
    event_text,
    rate,
    server_state,
    service_state,
    serving,
    severity,
    share,
    since,
    strip_text,
    total_rates,
)
from kernlb.cli.columns import Column, Line, layout, plain_text
from kernlb.cli.render import Cell, count, plain, printable, span
from kernlb.cli.sparkline import Glyphs, sparkline
from kernlb.cli.top_model import HELP, Row, State, Trails, rows, window
from kernlb.control.protocol import Status
from kernlb.control.protocol_overview import Moment, Overview

COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("SINCE", right=True, rank=4),
    Column("WEIGHT", right=True),
    Column("PROMISED", right=True),
    Column("RECEIVED", right=True),
    Column("ACTIVE", right=True),
    Column("CONN/s", right=True),
    Column("IN/s", right=True, rank=6),
    Column("OUT/s", right=True, rank=7),
    Column("CHECKS", rank=5),
    Column("TREND", rank=1),
)
_SORTED = {"name": "NAME", "trouble": "STATE", "active": "ACTIVE", "conns": "CONN/s",
           "in": "IN/s", "out": "OUT/s"}  # fmt: skip
TREND, WIDEST_TREND = 7, 40
STRIP = 10
EVENTS = 5
WARNINGS = 3
ROOMY = 30  # lines from which events are shown, and more than one warning
SELECTED = "selected"  # a colour beside those of render


class Frame(NamedTuple):
    """A screen, and the state with which it was drawn: scrolled to the selected row."""

    lines: list[Line]
    state: State
    shown: list[Row]
    height: int  # of the table, without its heading


class Surroundings(NamedTuple):
    """What a screen depends on beside state and overview. ``away``: why there is no answer now,
    "" while there is one."""

    now: float
    width: int
    height: int | None  # None: as high as it gets
    glyphs: Glyphs
    trails: Trails
    away: str = ""
    selected: bool = True


def frame(state: State, overview: Overview, around: Surroundings) -> Frame:
    shown = rows(state, overview.services)
    if state.help:
        lines = [[("keys", "bold")], *([(f"  {key:<28}{does}", "")] for key, does in HELP)]
        return Frame(lines[: around.height], state, shown, len(shown))
    above = _above(state, overview, around)
    below = _below(state, overview, around, shown)
    height = len(shown) if around.height is None else around.height - len(above) - len(below) - 1
    height = max(1, height)
    place = window(state, shown, height)
    state = replace(state, first=place.first)
    names = max((len(_name(row, state, around)) for row in shown), default=0)
    part = shown[place.first : place.first + height]
    heading, *visible = _table(state, part, names, overview, around)
    if around.selected and visible:
        line = plain_text(visible[place.at - place.first]).ljust(around.width)
        visible[place.at - place.first] = [(line, SELECTED)]
    if not visible:
        what = state.words if state.typing is None else state.typing
        visible = [[(f"nothing has {printable(what)}" if what else "no services", "dim")]]
    gap: list[Line] = [] if around.height is None else [[]] * (height - len(visible))
    lines = [*above, heading, *visible, *gap, *below]
    return Frame(lines[: around.height], state, shown, height)


def _above(state: State, overview: Overview, around: Surroundings) -> list[Line]:
    status = overview.status
    asked = f"every {state.interval:g} s  " if around.height is not None else ""
    clock = clock_time(overview.time).partition(" ")[2]
    first: Line = [
        ("kernlb", "bold"),
        (f" {printable(status.version)} up {span(around.now - status.started)}  ", ""),
        (printable(_ways(status)), ""),
        (f"  {asked}{clock}", "dim"),
    ]
    lines = [first]
    if around.away:
        old = span(around.now - overview.time)
        lines.append([(f"trying again, this is {old} old: {around.away}", "red")])
    elif state.paused:
        lines.append([("stands still: p goes on", "yellow")])
    room = WARNINGS if around.height is None or around.height >= ROOMY else 1
    for number, warning in enumerate(overview.warnings[:room], 1):
        left = len(overview.warnings) - room if number == room else 0
        more = f" (and {left} more)" if left > 0 else ""
        lines.append([(f"WARNING  {printable(warning)}{more}", "red")])
    return [*lines, _services(overview), _traffic(overview, around)]


def _ways(status: Status) -> str:
    """``xdp (front, back native), ipvs``."""
    modes: dict[str, list[str]] = {}
    for each in status.xdp.interfaces if status.xdp is not None else []:
        modes.setdefault(each.mode or "no program", []).append(each.name)
    of_xdp = "; ".join(f"{', '.join(names)} {mode}" for mode, names in modes.items())
    here = [path.kind for path in status.datapaths if path.available]
    return ", ".join(f"{kind} ({of_xdp})" if kind == "xdp" and of_xdp else kind for kind in here)


def _services(overview: Overview) -> Line:
    status = overview.status
    by_state = [f"{number} {state}" for state, number in status.services.items() if number]
    drift = f"  {status.drift_repaired} drift repaired" if status.drift_repaired else ""
    trouble = sum(severity(service) > 0 for service in overview.services)
    line: Line = [
        (f"services: {printable(', '.join(by_state)) or 'none'}", ""),
        (f"  {status.serving} of {status.servers} servers serving{drift}", ""),
    ]
    if trouble:
        line.append((f"  {trouble} need a look", "red"))
    return line


def _traffic(overview: Overview, around: Surroundings) -> Line:
    """Totals, each with its own bars while the width takes them."""
    rates = total_rates(overview.services)
    active = sum(service.active for service in overview.services)
    past = _summed([service.history for service in overview.services])
    series = (
        (f"conn/s {rate(rates.connections):>5}", [each.connections for each in past]),
        (f"in/s {rate(rates.bytes_in):>5}", [each.bytes_in for each in past]),
        (f"out/s {rate(rates.bytes_out):>5}", [each.bytes_out for each in past]),
    )
    start = f"{count(active)} active"
    taken = len(start) + sum(len(text) + 3 for text, _ in series)
    room = min(WIDEST_TREND, (around.width - taken) // len(series))
    line: Line = [(start, "")]
    for text, values in series:
        bars = sparkline(values, room, around.glyphs.bars) if room >= TREND else ""
        line += [(f"  {text} ", ""), (bars, "green")]
    return line


def _summed(histories: Sequence[Sequence[Moment]]) -> list[Moment]:
    """Readings of all services together; the latest of each stand under one another."""
    length = max(map(len, histories), default=0)
    total = []
    for back in range(length, 0, -1):
        each = [history[-back] for history in histories if len(history) >= back]
        total.append(
            Moment(
                each[0].time,
                sum(moment.connections for moment in each),
                sum(moment.bytes_in for moment in each),
                sum(moment.bytes_out for moment in each),
                sum(moment.active for moment in each),
            )
        )
    return total


def _table(
    state: State, shown: Sequence[Row], names: int, overview: Overview, around: Surroundings
) -> list[Line]:
    """The heading and a line a row; TREND takes the width that the others leave.

    NAME is ``names`` wide, so that it stays where it is while rows move."""
    columns = [
        column._replace(heading=column.heading + ("^" if state.reverse else "*"))
        if column.heading == _SORTED[state.sort]
        else column
        for column in COLUMNS
    ]
    cells = [
        [(_name(row, state, around).ljust(names), "" if row.server else "bold"), *rest]
        for row in shown
        for rest in [_row(row, overview.time, around)]
    ]
    narrow = layout(columns, [[*row, "." * TREND] for row in cells], around.width)
    lines = [len(plain_text(line)) for line in narrow]
    room = TREND + around.width - max(lines)
    wide = max(TREND, min(WIDEST_TREND, room))
    bars = [_trend(row, wide, around) for row in shown]
    whole = [[*row, (each, "green")] for row, each in zip(cells, bars, strict=True)]
    return layout(columns, whole, around.width)


def _trend(row: Row, width: int, around: Surroundings) -> str:
    return sparkline(around.trails.of(row), width, around.glyphs.bars)


def _name(row: Row, state: State, around: Surroundings) -> str:
    if row.server is not None:
        return printable(f"    {row.server.server}")
    mark = around.glyphs.open if state.shows(row.service) else around.glyphs.closed
    return printable(f"{mark} {row.service.name or row.service.key}")


def _row(row: Row, now: float, around: Surroundings) -> list[Cell]:
    """Everything but the name and the trend."""
    service, server = row
    if server is None:
        return [
            service_state(service),
            "",
            serving(service),
            "",
            "",
            count(service.active),
            rate(service.rates.connections),
            rate(service.rates.bytes_in),
            rate(service.rates.bytes_out),
            "",
        ]
    weight = str(server.effective_weight)
    return [
        server_state(server),
        since(server.since, now),
        weight if server.effective_weight == server.weight else f"{weight}/{server.weight}",
        share(server.promised),
        share(server.received),
        count(server.active),
        rate(server.rates.connections),
        rate(server.rates.bytes_in),
        rate(server.rates.bytes_out),
        strip_text(server.strip[-STRIP:], around.glyphs.strip),
    ]


def _below(
    state: State, overview: Overview, around: Surroundings, shown: Sequence[Row]
) -> list[Line]:
    lines: list[Line] = []
    if around.selected and shown:
        place = window(state, shown, 1)
        lines.append([(printable(_details(shown[place.at], overview.time)), "")])
    if around.height is None or around.height >= ROOMY:
        for event in overview.status.events[-EVENTS:]:
            lines.append([(event_text(event, plain, around.width), "dim")])
    if around.height is not None:
        lines.append(_keys(state))
    return lines


def _details(row: Row, now: float) -> str:
    """Of the selected row, what the columns have no room for."""
    service, server = row
    if server is None:
        labels = " ".join(f"{key}={value}" for key, value in sorted(service.labels.items()))
        parts = [service.key, f"{service.datapath} {service.scheduler}", service.state]
        return "  ".join(part for part in (*parts, service.error, labels) if part)
    parts = [f"{server.server} of {service.name}", server.forwarding]
    if server.since:
        parts.append(f"{server.state} since {clock_time(server.since)}")
    if server.check:
        took = f", took {server.duration * 1000:.1f} ms" if server.duration else ""
        parts.append(f"{server.check} {server.condition}{took}")
    return "  ".join(part for part in (*parts, server.why) if part)


def _keys(state: State) -> Line:
    if state.typing is not None:
        return [(f"filter: {printable(state.typing)}_  Enter: keep  Esc: as before", "bold")]
    kept = f"  filter: {printable(state.words)} (Esc: none)" if state.words else ""
    kept += "  only trouble (Esc: all)" if state.trouble else ""
    order = f"{state.sort}, reversed" if state.reverse else state.sort
    keys = f"q quit  Enter servers  s sort: {order}  / filter  p pause  ? help"
    return [(keys, "dim"), (kept, "yellow")]
