"""``kernlb dump``: the maps of the XDP datapath as text."""

from __future__ import annotations

import click

from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import printable


@click.command(
    cls=Command,
    examples="""
        kernlb dump
        kernlb dump services servers
        kernlb dump conns4
    """,
)
@click.argument("maps", nargs=-1, metavar="[MAP]...")
@pass_console
def dump(console: Console, maps: tuple[str, ...]) -> int:
    """Print maps of the XDP datapath, an entry a line, as the program sees them.

    Without MAPs all but the tables of connections, conns4 and conns6, which may be large. For
    looking closely; programs are better served by stats and metrics: the text may change.
    """
    found = console.client().dump(maps)
    if console.json:
        console.print_json(found)
        return DONE
    for number, each in enumerate(found):
        if len(found) > 1:
            console.print(("\n" if number else "") + console.paint(f"{each.name}:", "bold"))
        for line in each.text.splitlines():
            console.print(printable(line))
    return DONE
