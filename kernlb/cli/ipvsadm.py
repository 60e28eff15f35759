"""``kernlb ipvsadm``: ipvsadm's own options, carried out by the daemon.

Nothing of click's own reading is used: ``-o`` and ``-h`` are ipvsadm's here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernlb.migrate.ipvsadm.options import Command as Asked

NOT_HERE = {
    "set": "kernlb.yaml says them: ipvs.timeouts.tcp, .tcp_fin and .udp, then kernlb reload",
    "start-daemon": "kernlb.yaml says it: ipvs.sync, then kernlb reload",
    "stop-daemon": "kernlb.yaml says it: ipvs.sync, then kernlb reload",
    "zero": "counters of kernlb only rise, or rates in its metrics would be wrong: subtract",
    "connection": "kernlb stats counts connections by server; ipvsadm -Lc lists them",
}


class Front(Command):
    """A command that takes its words as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.clear()  # --socket and its like go in front of the word ipvsadm

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = tuple(args)
        return []

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in (("Commands", COMMANDS), ("Options", OPTIONS)):
            with formatter.section(title):
                formatter.write_dl(rows)


COMMANDS = [
    ("-A, -E, -D SERVICE", "Add, edit, delete a virtual service."),
    ("-a, -e, -d SERVICE -r SERVER", "Add, edit, delete a real server."),
    ("-L, -l [SERVICE]", "List; so does no command at all."),
    ("-S [-n]", "Save: print the lines that -R takes."),
    ("-R", "Restore: read lines from standard input."),
    ("-C", "Clear: remove every service of kernlb's with datapath ipvs, documents included."),
    ("-h, -v", "This help; the version."),
]
OPTIONS = [
    ("-t, -u, --sctp-service HOST[:PORT]", "The service, by protocol and address."),
    ("-f MARK [-6]", "The service, by firewall mark."),
    ("-s SCHEDULER, -b FLAG,...", "Scheduler (wlc) and its flags (none)."),
    ("-p [SECONDS], -M NETMASK, --pe sip", "Persistence (360 s, one client, by address)."),
    ("-o, --ops", "One packet at a time."),
    ("-r HOST[:PORT]", "The real server."),
    ("-g, -i, -m", "Forwarding: direct routing (default), tunnel, masquerading."),
    ("--tun-type ipip|gue|gre, --tun-port N", "How to tunnel."),
    ("--tun-csum, --tun-nocsum", "With a checksum or without."),
    ("-w N, -x N, -y N", "Weight (1), upper and lower connection threshold (0)."),
    ("-n, -X", "List numbers: of addresses and ports; not rounded."),
    ("--stats, --rate, --thresholds", "What to list of servers."),
    ("--persistent-conn, --tun-info", "What else."),
    ("--timeout, --daemon", "List IPVS's timeouts, its sync daemons."),
    ("--sort, --nosort", "Lists are sorted, always."),
]


@click.command(
    cls=Front,
    add_help_option=False,
    options_metavar="[COMMAND] [OPTIONS]",
    examples="""
        kernlb ipvsadm -A -t 192.0.2.10:80 -s wrr
        kernlb ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.1 -w 3
        kernlb ipvsadm -Ln --stats
        ipvsadm-save -n | kernlb ipvsadm -R
    """,
)
@click.pass_context
@pass_console
def ipvsadm(console: Console, ctx: click.Context, words: tuple[str, ...]) -> int:
    """Take ipvsadm's options, so that scripts go on: services become documents.

    Writes go through the daemon. Lists show what kernlb has in IPVS, as ipvsadm would print it.

    Exit codes are ipvsadm's: 0 done, 2 for a line that makes no sense, 255 refused; and 4 if the
    daemon cannot be reached.
    """
    from kernlb.cli.render import printable
    from kernlb.migrate.ipvsadm.grammar import RefusedError, Verb
    from kernlb.migrate.ipvsadm.names import Resolver
    from kernlb.migrate.ipvsadm.options import parse

    try:
        command = parse(words or ("-L",), Resolver())
        if command.verb is Verb.HELP:
            click.echo(ctx.get_help())
            return DONE
        return _run(console, command)
    except RefusedError as error:
        console.error(printable(str(error)))
        return error.code


def _run(console: Console, command: Asked) -> int:
    from kernlb import __version__
    from kernlb.control.client import ControlError
    from kernlb.migrate.ipvsadm.grammar import FAILED, RefusedError, Verb

    match command.verb:
        case Verb.VERSION:
            console.print(f"kernlb {__version__}, with the options of ipvsadm v1.31")
            return DONE
        case Verb.SET | Verb.START_DAEMON | Verb.STOP_DAEMON | Verb.ZERO as verb:
            raise RefusedError(f"cannot do --{verb} here: {NOT_HERE[verb]}", FAILED)
        case Verb.LIST | Verb.SAVE:
            if "connection" in command.parts:
                why = f"cannot list connections here: {NOT_HERE['connection']}"
                raise RefusedError(why, FAILED)
            from kernlb.cli.ipvsadm_listing import show

            return show(console, command)
    from kernlb.cli.ipvsadm_table import Table

    table = Table(console.client())
    if command.verb is Verb.RESTORE:
        return _restore(console, table)
    try:
        table.run(command)
    except ControlError as error:
        _decline(console, error.problem)
        return FAILED
    if command.verb is Verb.CLEAR:
        _tell_left(console, table)
    return DONE


def _restore(console: Console, table: Any) -> int:
    """Each line of standard input. The first that makes no sense ends it, as with ipvsadm; one
    that is refused does not, but the exit code tells."""
    from kernlb.cli.render import printable
    from kernlb.migrate.ipvsadm.grammar import FAILED, RefusedError

    code = DONE
    senseless: list[tuple[int, str]] = []

    def lines() -> Iterator[tuple[int, Asked]]:
        nonlocal code
        for number, line in enumerate(sys.stdin, 1):
            try:
                command = _line(line)
            except RefusedError as error:
                senseless.append((number, str(error)))
                code = error.code
                if error.fatal:
                    return
            else:
                if command is not None:
                    yield number, command

    table.restore(lines())
    for number, why in sorted([*senseless, *table.errors]):
        console.error(f"line {number}: {printable(why)}")
    return code or (FAILED if table.errors else DONE)


def _line(line: str) -> Asked | None:
    """None: nothing is on it."""
    from kernlb.migrate.ipvsadm.grammar import FAILED, RefusedError, Verb
    from kernlb.migrate.ipvsadm.names import Resolver
    from kernlb.migrate.ipvsadm.options import parse
    from kernlb.migrate.ipvsadm.saved import split

    words = split(line)
    if not words:
        return None
    command = parse(words, Resolver())
    if (why := NOT_HERE.get(command.verb)) is not None:
        raise RefusedError(f"cannot do --{command.verb} here: {why}", FAILED, fatal=False)
    if command.verb in (Verb.LIST, Verb.SAVE, Verb.RESTORE, Verb.HELP, Verb.VERSION):
        raise RefusedError(f"--{command.verb} does not go into a restore", FAILED)
    return command


def _decline(console: Console, problem: Any) -> None:
    if console.json:
        console.error_json(problem)
        return
    from kernlb.cli.render import problem_text

    for sentence in problem_text(problem):
        console.error(sentence)


def _tell_left(console: Console, table: Any) -> None:
    from kernlb.cli.render import printable

    for each in table.left():
        console.note(f"stays, for it is none of kernlb's in IPVS: {printable(each)}")
