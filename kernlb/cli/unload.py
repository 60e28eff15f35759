"""``kernlb unload``: what kernlb left in the kernel, and taking it out, with no daemon at work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernlb.cli.console import DONE, FAILED, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import mebibytes, printable

if TYPE_CHECKING:
    from kernlb.daemon.unloading import Left, Unloading

STATE = "/var/lib/kernlb"
PINS = "/sys/fs/bpf/kernlb"
NOTHING = "nothing of kernlb's is in the kernel"


@click.command(
    cls=Command,
    examples="""
        kernlb unload --list
        kernlb unload
        kernlb unload --list -o json
    """,
)
@click.option("--list", "only_list", is_flag=True, help="Print what is there, and change nothing.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=STATE,
    metavar="DIR",
    help=f"What kernlbd wrote down of what it made; {STATE} if not given.",
)
@click.option(
    "--pins",
    type=click.Path(path_type=Path),
    default=PINS,
    metavar="DIR",
    help=f"What XDP keeps in the kernel; {PINS} if not given.",
)
@pass_console
def unload(console: Console, only_list: bool, state_dir: Path, pins: Path) -> int:
    """Take out of the kernel what kernlb made there, and only that.

    Services, VIPs, the XDP program with its tables, and what probes needed. For a host whose
    daemon has stopped: a stop leaves all of it forwarding. Services that others made stay, and
    so do the declared services in their files: the next start makes them again.
    """
    from kernlb.daemon.runtime import RuntimeStateError
    from kernlb.daemon.unloading import prepare

    try:
        work = prepare(state_dir, pins)
        left = asyncio.run(work.look()) if only_list else _unload(console, work)
    except RuntimeStateError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        why = error.strerror or str(error)
        if error.filename is not None:
            why = f"cannot look at {error.filename}: {why.lower()}"
        raise click.ClickException(why) from None
    return _report(console, left, work, "" if only_list else "- ")


def _unload(console: Console, work: Unloading) -> Left:
    from kernlb.control.client import DaemonUnreachableError
    from kernlb.control.protocol import SOCKET
    from kernlb.daemon.unloading import alone

    try:
        running = console.client().version()
    except DaemonUnreachableError:
        pass
    else:
        raise click.ClickException(
            f"cannot unload: kernlbd (pid {running.pid}) runs; stop it first"
        )
    with alone(Path(console.socket or SOCKET)):
        return asyncio.run(work.run())


def _report(console: Console, left: Left, work: Unloading, mark: str) -> int:
    if console.json:
        console.print_json(_view(left) | {"errors": work.errors})
    else:
        for line in _lines(left):
            console.print(printable(f"{mark}{line}"))
        if left.nothing:
            console.print(NOTHING)
        for error in work.errors:
            console.error(printable(error))
    return FAILED if work.errors else DONE


def _lines(left: Left) -> Iterator[str]:
    for each in left.services:
        servers = {-1: "of another version of kernlb", 1: "1 server"}
        many = servers.get(each.servers, f"{each.servers} servers")
        name = f"{each.name} " if each.name else ""
        yield f"service {name}{each.ref.key} by {each.ref.datapath}, {many}"
    for vip in left.vips:
        yield f"vip     {vip}"
    if left.xdp is not None:
        for one in left.xdp.interfaces:
            yield f"xdp     on {one.interface}, {one.mode} mode"
        yield f"xdp     program and tables, {mebibytes(left.xdp.memory)}"
    if left.probes:
        yield f"probes  {left.probes} services of IPVS that carry probes at VIPs"
    for name, now, before in left.sysctls:
        yield f"sysctl  {name} {now}, {before} before"


def _view(left: Left) -> dict[str, Any]:
    xdp = left.xdp
    return {
        "services": [
            {
                "name": each.name,
                "key": str(each.ref.key),
                "datapath": each.ref.datapath,
                "servers": each.servers if each.servers >= 0 else None,
            }
            for each in left.services
        ],
        "vips": [{"address": str(vip.address), "interface": vip.interface} for vip in left.vips],
        "xdp": None
        if xdp is None
        else {
            "interfaces": [{"name": one.interface, "mode": one.mode} for one in xdp.interfaces],
            "memory": xdp.memory,
        },
        "probes": left.probes,
        "sysctls": [{"name": n, "now": now, "before": then} for n, now, then in left.sysctls],
    }
