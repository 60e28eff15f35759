"""``kernlb events``: what changed, when and by whom; the latest, and what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kernlb.cli.arguments import Duration, ServiceName
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.notation import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kernlb.control.client import Client
    from kernlb.control.protocol import Event

LATEST = 50
KEPT = 5000  # what a daemon keeps
WAIT = 25.0  # seconds that the daemon holds an answer back while nothing happens
RETRY = 1.0  # seconds until a daemon that is gone is asked again


@click.command(
    cls=Command,
    examples="""
        kernlb events
        kernlb events --service web --since 10m
        kernlb events --follow -n 0 -o json
    """,
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until interrupted.")
@click.option("--service", type=ServiceName(), metavar="NAME", help="Of this service alone.")
@click.option(
    "--since", type=Duration(), metavar="DURATION", help="Not older than this; all of them."
)
@click.option(
    "-n", "--number", type=click.IntRange(0, KEPT), metavar="N",
    help=f"The latest N; {LATEST} if neither this nor --since is given.",
)  # fmt: skip
@pass_console
def events(
    console: Console,
    follow: bool,
    service: str | None,
    since: float | str | None,
    number: int | None,
) -> int:
    """Show what changed: one line an event with its cause in brackets, newest last.

    They outlive restarts of the daemon, which keeps a bounded number. JSON is a list of events,
    and with --follow a line an event. While the daemon is away, --follow says so and goes on
    with it when it is back.
    """
    client = console.client()
    if number is None:
        number = LATEST if since is None else KEPT
    found = client.events(limit=max(number, 1), service=service or "")
    latest = found.events[-number:] if number else []
    if since is not None:
        oldest = console.clock() - seconds(since)
        latest = [event for event in latest if event.time >= oldest]
    if console.json and not follow:
        console.print_json(latest)
        return DONE
    _print(console, latest)
    if follow:
        for more in _following(console, client, found.latest, service or ""):
            _print(console, more)
    return DONE


def _print(console: Console, events: Sequence[Event]) -> None:
    if console.json:
        import msgspec

        for event in events:
            console.print(msgspec.json.encode(event).decode())
        return
    from kernlb.cli.board_text import event_text

    for event in events:
        console.print(event_text(event, console.paint))


def _following(
    console: Console, client: Client, number: int, service: str
) -> Iterator[Sequence[Event]]:
    """Events after ``number`` as they come, without end."""
    from kernlb.control.client import DaemonUnreachableError

    away = False
    while True:
        try:
            found = client.events(since=number, service=service, wait=WAIT)
        except DaemonUnreachableError as error:
            if not away:
                console.note(f"{error}; trying again")
            away = True
            console.sleep(RETRY)
            continue
        if away:
            console.note("kernlbd is back")
        away = False
        if found.events:
            number = found.events[-1].number
            yield found.events
        elif found.latest < number:
            number = 0  # it lost what it had, and counts from the start again
