"""``kernlb top``: the services live, on a screen with keys."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kernlb.cli.arguments import Duration, ServiceName
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.notation import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernlb.cli.top_model import State
    from kernlb.control.protocol_overview import Overview

    Ask = Callable[[], Overview]

SORTS = ("trouble", "name", "active", "conns", "in", "out")
WIDTH = 100  # columns where no terminal says how many there are
MOMENTS = 60  # readings of each service
LEAST = 0.2  # seconds between two answers


@click.command(
    cls=Command,
    examples="""
        kernlb top
        kernlb top --sort conns --filter team=web
        kernlb top web --expand --once
        kernlb top -o json --interval 5s
    """,
)
@click.argument("services", type=ServiceName(), nargs=-1, metavar="[NAME]...")
@click.option("--once", is_flag=True, help="Print the screen once and end; no terminal is needed.")
@click.option(
    "--interval",
    type=Duration(),
    default=2,
    metavar="DURATION",
    help="Ask the daemon so often; 2s if not given.",
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default="trouble",
    show_default=True,
    help="Of two lines that are alike the name decides.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option(
    "--filter",
    "words",
    default="",
    metavar="WORDS",
    help="Only what has all these words: names, addresses, states, labels.",
)
@click.option("--trouble", is_flag=True, help="Only services that need somebody.")
@click.option("--expand", is_flag=True, help="Begin with the servers of all services shown.")
@click.option(
    "--svg",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="With --once: a picture of the screen as well.",
)
@pass_console
def top(
    console: Console,
    services: tuple[str, ...],
    once: bool,
    interval: float | str,
    sort: str,
    reverse: bool,
    words: str,
    trouble: bool,
    expand: bool,
    svg: str | None,
) -> int:
    """Show services and servers live: health, promised and received shares, rates.

    Keys: arrows move, Enter shows a service's servers, s sorts, / filters, p stands still,
    ? lists the rest, q leaves. WEIGHT of a service is its servers that serve, of all; of a server
    that has another weight now than was declared, both. TREND is connections a second.

    JSON is the overview, on a line of its own each interval until interrupted; with --once it is
    printed once. Sorting and filters choose and order its services.
    """
    from kernlb.cli.top_model import State

    pause = seconds(interval)
    if pause < LEAST:
        raise click.UsageError(f"--interval {interval} is shorter than {LEAST:g} s")
    if svg is not None and not once:
        raise click.UsageError("--svg goes with --once")
    state = State(sort, reverse, words, trouble=trouble, every=expand, interval=pause)
    client = console.client()

    def ask() -> Overview:
        return client.overview(services, history=MOMENTS)

    overview = ask()
    if console.json:
        return _json(console, state, overview, None if once else ask)
    if once:
        _print(console, state, overview, svg)
        return DONE
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("this is no terminal: --once prints the screen, -o json the data")
    from kernlb.cli.render import plain
    from kernlb.cli.top_terminal import run

    run(ask, overview, state, console.clock, colours=console.paint is not plain)
    return DONE


def _json(console: Console, state: State, overview: Overview, ask: Ask | None) -> int:
    """One overview, or one a line for as long as somebody reads."""
    from kernlb.cli.top_model import chosen

    if ask is None:
        console.print_json(chosen(state, overview))
        return DONE
    import msgspec

    from kernlb.control.client import DaemonUnreachableError

    while True:
        console.print(msgspec.json.encode(chosen(state, overview)).decode())
        answer = None
        while answer is None:
            console.sleep(state.interval)
            try:
                answer = ask()
            except DaemonUnreachableError as error:
                console.note(f"{error}; trying again")
        overview = answer


def _print(console: Console, state: State, overview: Overview, svg: str | None) -> None:
    """The screen as high as it gets."""
    from shutil import get_terminal_size

    from kernlb.cli.columns import painted
    from kernlb.cli.screen import glyphs
    from kernlb.cli.sparkline import ASCII, UNICODE
    from kernlb.cli.top_model import Trails
    from kernlb.cli.top_view import Surroundings, frame

    width = get_terminal_size((WIDTH, 24)).columns
    marks = glyphs() if sys.stdout.isatty() else ASCII
    around = Surroundings(console.clock(), width, None, marks, Trails(), selected=False)
    lines = frame(state, overview, around).lines
    console.print("\n".join(painted(line, console.paint).rstrip() for line in lines))
    if svg is not None:
        from kernlb.cli.top_picture import write

        write(svg, frame(state, overview, around._replace(glyphs=UNICODE)).lines, width)
