"""``kernlb health``: what the checks found, and how the prober itself is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kernlb.cli.arguments import ServiceName
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import STATE_COLOURS, Cell, Paint, ago, printable, span, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernlb.control.protocol_health import (
        Health,
        MonitorView,
        ProbeView,
        ServerHealth,
        ServiceHealth,
    )

_MARKS = {"good": "+", "bad": "-", "none": "?"}
_COLOURS = {
    "waiting": "yellow",
    "unconfirmed": "yellow",
    "up": "green",
    "down": "red",
    "held": "red",
}
_OPINIONS = {"good": "green", "bad": "red", "none": "yellow"}


@click.command(
    cls=Command,
    examples="""
        kernlb health
        kernlb health web
        kernlb health web -o json
    """,
)
@click.argument("service", type=ServiceName(), required=False)
@pass_console
def health(console: Console, service: str | None) -> int:
    """Show what health checks found, of all services or of SERVICE with its latest probes.

    CONDITION is what the checks say, STATE what is made of it. RESULTS are the latest probes,
    newest first: + good, - bad, ? counts for nothing. SHARED servers of services have one probe.
    """
    view = console.client().health(service)
    if console.json:
        console.print_json(view)
    else:
        console.print(health_text(view, console.clock(), console.paint, full=service is not None))
    return DONE


def health_text(health: Health, now: float, paint: Paint, *, full: bool = False) -> str:
    """``full``: with the latest probes one by one."""
    parts = [monitor_text(health.monitor, paint), _lateness(health.monitor)]
    for service in health.services:
        parts += ["", _service_text(service, paint), _servers_text(service, now, paint)]
        if full:
            parts += [line for each in service.servers for line in _past(each, now, paint)]
    if not health.services:
        parts.append("no server has a check")
    return "\n".join(parts)


def monitor_text(monitor: MonitorView, paint: Paint) -> str:
    """One line for ``status`` and ``health``."""
    text = f"{monitor.targets} targets, "
    text += paint(f"{monitor.down} down", "red" if monitor.down else "")
    if monitor.waiting:
        text += f", {monitor.waiting} waiting"
    if monitor.suspended:
        text += "; " + paint("SUSPENDED: the prober is late, bad results do not count", "red")
    if monitor.partition_held:
        text += "; " + paint("HELD: everything fails at once, verdicts wait", "red")
    return text


def _lateness(monitor: MonitorView) -> str:
    late = monitor.lateness
    text = f"probes start late by {milliseconds(late.median)} (median), {milliseconds(late.p99)} "
    text += f"(99 %), {milliseconds(late.worst)} (worst)"
    if monitor.suspensions:
        times = "once" if monitor.suspensions == 1 else f"{monitor.suspensions} times"
        text += f"; suspended {times} since it started"
    return text


def milliseconds(seconds: float) -> str:
    """``0.4 ms``, ``12 ms``, ``2000 ms``."""
    amount = seconds * 1000
    return f"{amount:.0f} ms" if amount >= 9.95 else f"{amount:.1f} ms"


def _service_text(service: ServiceHealth, paint: Paint) -> str:
    lost = service.phase in ("below quorum", "all down")
    text = f"{paint(printable(service.name), 'bold')}  "
    text += paint(printable(service.phase), "red" if lost else "")
    if service.quorum > 1:
        text += f", quorum {service.quorum}"
    if service.withdrawn:
        text += ", " + paint("VIP withdrawn", "red")
    return text


def _servers_text(service: ServiceHealth, now: float, paint: Paint) -> str:
    headings = ("SERVER", "CHECK", "CONDITION", "STATE", "SINCE", "RESULTS", "TOOK>", "NEXT>")
    rows: list[list[Cell]] = []
    for each in service.servers:
        row: list[Cell] = [
            each.server,
            each.check,
            (each.condition, _COLOURS.get(each.condition, "")),
            (each.state, STATE_COLOURS.get(each.state, "")),
            ago(now - each.since),
            "".join(_MARKS.get(probe.opinion, "?") for probe in each.probes) or "-",
            milliseconds(each.probes[0].duration) if each.probes else "-",
            f"{each.next_probe:.1f}s" if each.next_probe else "now",
            f"{each.sharing}",
            _why(each),
        ]
        rows.append(row)
    return table((*headings, "SHARED>", "WHY"), rows, paint, right=">")


def _why(server: ServerHealth) -> str:
    if server.percent is None:
        return server.why
    asks = f"asks for {server.percent} % of its weight"
    return f"{server.why}; {asks}" if server.why else asks


def _past(server: ServerHealth, now: float, paint: Paint) -> Iterator[str]:
    yield ""
    yield printable(server.server)
    for probe in server.probes:
        yield f"  {_probe(probe, now, paint)}"


def _probe(probe: ProbeView, now: float, paint: Paint) -> str:
    detail = f": {probe.detail}" if probe.detail else ""
    outcome = paint(printable(probe.outcome), _OPINIONS.get(probe.opinion, ""))
    took = milliseconds(probe.duration)
    return f"{span(now - probe.time):>7} ago  {outcome}{printable(detail)} ({took})"
