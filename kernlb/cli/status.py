"""``kernlb status`` and ``kernlb version``."""

from __future__ import annotations

import click

from kernlb import __version__
from kernlb.cli.arguments import ServiceName
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import printable
from kernlb.cli.screen import terminal_size

ROOM = 48  # lines of a page that no terminal measures


@click.command(
    cls=Command,
    examples="""
        kernlb status
        kernlb status web dns
        kernlb status --all
        kernlb status -o json
    """,
)
@click.argument("services", type=ServiceName(), nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Every service in full, however many.")
@pass_console
def status(console: Console, services: tuple[str, ...], every: bool) -> int:
    """Show the whole picture: warnings, the daemon, its services and servers, latest events.

    With names, these services and nothing else. Where there are more than the screen takes, those
    that need somebody are shown, and the rest in numbers.

    PROMISED is a server's share of new connections by weight, RECEIVED the share it had of those
    that began lately. SINCE is how long it is in its state. WEIGHT 0 of 5: declared 5, and 0 now.
    CHECKS are the latest results of its check, newest last: + good, - bad, . neither. Rates are a
    second.

    JSON is the overview that this page is made of; what is said of the daemon is its "status".
    """
    from kernlb.cli.status_services import services_text
    from kernlb.cli.status_text import status_text

    overview = console.client().overview(services, history=0)
    if console.json:
        console.print_json(overview)
        return DONE
    width, lines = terminal_size()
    now, paint = console.clock(), console.paint
    if services:
        parts = services_text(overview.services, now, paint, width=width, room=0, every=True)
        console.print("\n\n".join(parts))
        return DONE
    room = ROOM if lines is None else lines - 1  # the prompt
    console.print(status_text(overview, now, paint, width=width, room=room, every=every))
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
