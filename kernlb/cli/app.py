"""The command ``kernlb``: its subcommands, and what each kind of failure exits with."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from kernlb import __version__
from kernlb.cli.console import DONE, FAILED, UNREACHABLE, USAGE, Console
from kernlb.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "service": Lazy("kernlb.cli.service:service", "Virtual services: add, edit, rm, ls, show."),
    "server": Lazy("kernlb.cli.server:server", "Real servers: add, edit, rm, drain, ls."),
    "apply": Lazy("kernlb.cli.plan:apply", "Put service documents in force, all or none."),
    "plan": Lazy("kernlb.cli.plan:plan", "Show what would change, and change nothing."),
    "reload": Lazy("kernlb.cli.plan:reload", "Read the service files again and apply them."),
    "status": Lazy("kernlb.cli.status:status", "The whole picture: daemon, services, servers."),
    "top": Lazy("kernlb.cli.top:top", "The same live, on a screen with keys."),
    "events": Lazy("kernlb.cli.events:events", "What changed, when and by whom."),
    "wait": Lazy("kernlb.cli.wait:wait", "Wait until a condition holds: for scripts."),
    "health": Lazy("kernlb.cli.health:health", "What health checks found of every server."),
    "stats": Lazy("kernlb.cli.stats:stats", "Connections, packets and bytes, from the kernel."),
    "explain": Lazy("kernlb.cli.explain:explain", "Where a packet would go in XDP, and why."),
    "doctor": Lazy("kernlb.cli.doctor:doctor", "What is wrong with this balancer, and the remedy."),
    "trace": Lazy("kernlb.cli.trace:trace", "Drops, scheduling, connections, latency: live."),
    "capture": Lazy("kernlb.cli.capture:capture", "Packets as XDP saw them, to a pcap file."),
    "dump": Lazy("kernlb.cli.dump:dump", "The maps of the XDP datapath as text."),
    "xdp": Lazy("kernlb.cli.xdp:xdp", "The XDP datapath apart from the daemon: size, unload."),
    "unload": Lazy(
        "kernlb.cli.unload:unload", "What kernlb left in the kernel: list it, remove it."
    ),
    "ipvsadm": Lazy("kernlb.cli.ipvsadm:ipvsadm", "Take ipvsadm's options, so that scripts go on."),
    "import": Lazy(
        "kernlb.cli.importing:import_", "Services of keepalived, ldirectord or ipvsadm."
    ),
    "export": Lazy("kernlb.cli.exporting:export", "Services as a keepalived.conf, or ipvsadm's."),
    "schema": Lazy("kernlb.cli.schema:schema", "JSON Schema of service documents or settings."),
    "version": Lazy("kernlb.cli.status:version", "Version of this program and of the daemon."),
    "daemon": Lazy("kernlb.cli.daemon:daemon", "Run the daemon, kernlbd, in the foreground."),
    "realserver": Lazy("kernlb.cli.realserver:realserver", "A real server: setup, check, remove."),
    "lab": Lazy("kernlb.cli.lab:lab", "A lab of network namespaces to try things in."),
    "completion": Lazy("kernlb.cli.completion:completion", "Completion script for a shell."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, top=True, context_settings={"max_content_width": 100})
@click.version_option(__version__, message="kernlb %(version)s")
def cli() -> None:
    """Declare virtual services; the kernel balances them.

    The files in /etc/kernlb/services.d are the truth, one service each. Commands edit them
    through the daemon, which programs the kernel.

    Units: durations in seconds or as 500ms, 90s, 5m, 1h, 1d; sizes in bytes; rates a second.

    Exit codes: 0 done, 1 refused or failed, 2 usage, 3 plan shows changes,
    4 daemon unreachable, 5 what was waited for did not come in time.
    """


def run(args: Sequence[str], console: Console | None = None) -> int:
    """Run one command line; its exit code. Prints one sentence for whatever went wrong."""
    console = console or Console()
    try:
        _check_text(args)
        code = cli.main(
            list(args),
            prog_name="kernlb",
            complete_var="_KERNLB_COMPLETE",
            standalone_mode=False,
            obj=console,
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except click.UsageError as error:
        return _usage(console, error)
    except click.ClickException as error:
        console.error(error.format_message())
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        return 130  # as a shell reports SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the exit's flush would complain
        return FAILED
    except Exception as error:
        return _of_the_daemon(console, error)


def _check_text(args: Sequence[str]) -> None:
    for number, arg in enumerate(args, 1):
        try:
            arg.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"argument {number} is not UTF-8 text") from None


def _usage(console: Console, error: click.UsageError) -> int:
    message = error.format_message().rstrip(".")
    console.error(message[:1].lower() + message[1:])
    command = error.ctx.command_path if error.ctx else "kernlb"
    console.note(f"try: {command} --help")
    return USAGE


def _of_the_daemon(console: Console, error: Exception) -> int:
    """What a call of the daemon failed with; any other error goes on as a traceback."""
    from kernlb.control.client import ControlError, DaemonUnreachableError  # slow: not for --help

    match error:
        case ControlError(problem=problem):
            if console.json:
                console.error_json(problem)
            else:
                from kernlb.cli.render import problem_text

                for sentence in problem_text(problem):
                    console.error(sentence)
            return FAILED
        case DaemonUnreachableError():
            if console.json:
                console.error_json({"type": "daemon-unreachable", "title": str(error)})
            else:
                console.error(str(error))
            return UNREACHABLE
    raise error
