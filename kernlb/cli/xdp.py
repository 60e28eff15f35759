"""``kernlb xdp``: the XDP datapath of this host, apart from any daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command, group
from kernlb.cli.render import mebibytes, table

SETTINGS = Path("/etc/kernlb/kernlb.yaml")
PINS = "/sys/fs/bpf/kernlb"
SIZES = ("connections", "connections6", "services", "servers", "slots")
ENTRIES = click.IntRange(1, 2**30)


@group()
def xdp() -> None:
    """The XDP datapath of this host: what its tables cost, and taking it out."""


def _size_options(function: Any) -> Any:
    for name in reversed(SIZES):
        option = click.option(
            f"--{name}", type=ENTRIES, metavar="N", help=f"Instead of xdp.{name} in FILE."
        )
        function = option(function)
    return function


@xdp.command(
    cls=Command,
    examples="""
        kernlb xdp size
        kernlb xdp size --connections 16000000 --servers 100000
        kernlb xdp size -o json
    """,
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=SETTINGS,
    metavar="FILE",
    help=f"Settings of the host; {SETTINGS} if not given.",
)
@_size_options
@pass_console
def size(console: Console, /, config: Path, **given: int | None) -> int:
    """Show the kernel memory that the tables take, before they are made.

    Sizes are those of FILE, or the defaults without it. Connection tables are rounded up to a
    power of two. Needs libbpf and no daemon; makes nothing.
    """
    from kernlb.config import ConfigError, load_settings

    try:
        settings = load_settings(config).xdp
    except ConfigError as error:
        raise click.ClickException("\n".join(map(str, error.faults))) from None
    wanted = {name: given[name] or getattr(settings, name) for name in SIZES}
    by_map = _memory(wanted)
    total = sum(by_map.values())
    if console.json:
        console.print_json({"sizes": wanted, "bytes": by_map, "total": total})
        return DONE
    rows = [[name, mebibytes(taken)] for name, taken in sorted(by_map.items(), key=_largest)]
    rows.append(["total", mebibytes(total)])
    console.print(table(("MAP", "MEMORY>"), rows, console.paint, right=">"))
    return DONE


def _memory(wanted: dict[str, int]) -> dict[str, int]:
    from kernlb.datapath.xdp.loading import object_path
    from kernlb.datapath.xdp.memory import Sizes, memory

    try:
        sizes = Sizes(
            services=wanted["services"],
            servers=wanted["servers"],
            slots=wanted["slots"],
            conns4=wanted["connections"],
            conns6=wanted["connections6"],
        )
        return memory(sizes, object_path())
    except (OSError, ValueError) as error:
        raise click.ClickException(getattr(error, "strerror", None) or str(error)) from None


def _largest(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


@xdp.command(
    cls=Command,
    examples="""
        kernlb xdp unload
    """,
)
@click.option(
    "--pins",
    type=click.Path(path_type=Path),
    default=PINS,
    metavar="DIR",
    help=f"{PINS} if not given.",
)
@pass_console
def unload(console: Console, pins: Path) -> int:
    """Take the program off every interface and remove its maps, connections and all.

    Packets then reach the kernel's network stack. For a host whose daemon has stopped; a daemon
    that runs is asked to by kernlbd --flush-on-stop. Unloading what is not loaded succeeds.
    """
    from kernlb.control.client import DaemonUnreachableError

    try:
        running = console.client().status()
    except DaemonUnreachableError:
        running = None
    if running is not None and running.xdp is not None:
        raise click.ClickException(
            f"cannot unload: kernlbd (pid {running.pid}) uses it; stop it first"
        )
    from kernlb.datapath.xdp.loading import unload as unload_pinned

    try:
        unload_pinned(pins)
    except OSError as error:
        raise click.ClickException(getattr(error, "strerror", None) or str(error)) from None
    return DONE
