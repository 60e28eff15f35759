"""``kernlb status`` and ``kernlb version``."""

from __future__ import annotations

from time import localtime, strftime
from typing import TYPE_CHECKING

import click

from kernlb import __version__
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import (
    STATE_COLOURS,
    Paint,
    ago,
    count,
    fault_text,
    mebibytes,
    printable,
    span,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernlb.control.protocol import Status
    from kernlb.control.protocol_xdp import XdpStatus


@click.command(
    cls=Command,
    examples="""
        kernlb status
        kernlb status -o json
    """,
)
@pass_console
def status(console: Console) -> int:
    """Show how the daemon is: datapaths, services by state, drift, bad files, latest events."""
    view = console.client().status()
    if console.json:
        console.print_json(view)
    else:
        console.print(status_text(view, console.clock(), console.paint))
    return DONE


@click.command(
    cls=Command,
    examples="""
        kernlb version
        kernlb version -o json
    """,
)
@pass_console
def version(console: Console) -> int:
    """Show the version of this program and of the daemon; works without a daemon too."""
    from kernlb.control.client import DaemonUnreachableError

    try:
        daemon = console.client().version()
    except DaemonUnreachableError as error:
        if console.json:
            console.print_json({"client": __version__, "daemon": None})
        else:
            console.print(f"kernlb {__version__}\nkernlbd: {error}")
        return DONE
    if console.json:
        console.print_json({"client": __version__, "daemon": daemon})
    else:
        line = f"kernlbd {daemon.version} (api {daemon.api}, pid {daemon.pid})"
        console.print(f"kernlb {__version__}\n{printable(line)}")
    return DONE


def status_text(status: Status, now: float, paint: Paint) -> str:
    """A line a subject; lists only where there is something to list."""
    drift = f"{status.drift_repaired} repaired" if status.drift_repaired else "none seen"
    audited = f"last {ago(now - status.last_audit)}" if status.last_audit else "none yet"
    rows = [("kernlbd", f"{status.version}, pid {status.pid}, up {span(now - status.started)}")]
    for path in status.datapaths:
        here = paint("available", "green") if path.available else paint("not available", "red")
        more = ", ".join(printable(text) for text in (path.version, path.detail) if text)
        rows.append(("datapath", f"{path.kind}: {here}" + (more and f", {more}")))
    rows += [
        ("services", _services(status.services, paint)),
        ("servers", f"{status.serving} of {status.servers} serving"),
        ("audit", f"{audited}, every {span(status.audit_interval)}; drift: {drift}"),
    ]
    if status.health is not None:
        from kernlb.cli.health import monitor_text

        rows.append(("health", monitor_text(status.health, paint)))
    if status.xdp is not None:
        rows += _xdp(status.xdp, paint)
    rows += [("foreign", printable(key)) for key in status.foreign]
    for vip in status.vips:
        present = "present" if vip.present else paint("missing", "red")
        if vip.withdrawn and not vip.present:
            present = paint("withdrawn: too few good servers", "red")
        owner = "kernlb's" if vip.owned else "not kernlb's to remove"
        where = printable(f"{vip.address} on {vip.interface}")
        rows.append(("vip", f"{where}: {present}, {owner}"))
    rows += [("bad file", paint(fault_text(fault), "red")) for fault in status.faults]
    for event in status.events:
        when = strftime("%Y-%m-%d %H:%M:%S", localtime(event.time))
        cause = f" ({event.cause})" if event.cause else ""
        rows.append(("event", f"{when}  {printable(event.text + cause)}"))
    return "\n".join(f"{subject:<9} {text}" for subject, text in rows)


def _xdp(xdp: XdpStatus, paint: Paint) -> Iterator[tuple[str, str]]:
    program = printable(f"program {xdp.program}, ABI {xdp.abi}, {mebibytes(xdp.memory)} of tables")
    yield "xdp", program
    for each in xdp.interfaces:
        name = printable(each.name)
        if each.mode == "generic":
            yield "xdp", f"{name}: " + paint("GENERIC mode: several times slower", "yellow")
        elif each.mode:
            yield "xdp", f"{name}: {paint(printable(each.mode), 'green')} mode"
        if each.error or not each.mode:
            why = printable(each.error) or "no program is attached"
            yield "xdp", f"{name}: " + paint(why, "red")
    fill = [f"{each.name} {count(each.used)}/{count(each.size)}" for each in xdp.tables]
    yield "xdp", printable(", ".join(fill) + f"; half-open {count(xdp.half_open)}")
    for warning in xdp.warnings:
        yield "xdp", paint(printable(warning), "yellow")
    for server in xdp.unresolved:
        text = f"{server.server} of {server.service}: {server.reason}"
        yield "no hop", paint(printable(text), "red")


def _services(services: dict[str, int], paint: Paint) -> str:
    by_state = [
        paint(f"{number} {printable(state)}", STATE_COLOURS.get(state, ""))
        for state, number in services.items()
        if number
    ]
    return ", ".join(by_state) or "none"
