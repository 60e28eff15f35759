"""``kernlb doctor``: what is wrong with this balancer. Works without the daemon too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kernlb.cli.arguments import options
from kernlb.cli.console import Console, pass_console
from kernlb.cli.examining import Asked, examine_host, examining_options
from kernlb.cli.lazy import Command

if TYPE_CHECKING:
    from kernlb.doctor.daemon import Daemon
    from kernlb.doctor.facts import Facts
    from kernlb.doctor.services import Declared

FOLDER = click.Path(path_type=Path)

folders = options(
    click.option(
        "--config-dir",
        type=FOLDER,
        default="/etc/kernlb",
        show_default=True,
        help="kernlb.yaml and services.d, as kernlbd has them.",
    ),
    click.option(
        "--state-dir",
        type=FOLDER,
        default="/var/lib/kernlb",
        show_default=True,
        help="What kernlbd keeps over a restart.",
    ),
    click.option(
        "--pins",
        type=FOLDER,
        default="/sys/fs/bpf/kernlb",
        show_default=True,
        help="What XDP keeps in the kernel.",
    ),
)


@click.command(
    cls=Command,
    examples="""
        kernlb doctor
        kernlb doctor --fix
        kernlb doctor --explain ip-forward-off
        kernlb doctor --list
        kernlb doctor -o json
    """,
)
@examining_options
@folders
@pass_console
def doctor(
    console: Console,
    fix: bool,
    yes: bool,
    persist: bool,
    strict: bool,
    explain: str | None,
    list_all: bool,
    config_dir: Path,
    state_dir: Path,
    pins: Path,
) -> int:
    """Find what is wrong with this balancer: evidence, why it matters, and the remedy.

    It looks, and changes nothing unless --fix tells it to. To look is: to read, to ask links for
    the addresses of services by ARP, and to have the kernel look for neighbours. What could not
    be looked at is listed as not checked. Works with and without a running daemon.

    Exit codes: 0 no errors (there may be warnings and notes), 1 errors, 2 usage.
    """
    from kernlb.doctor.balancer import CHECKS

    asked = Asked(fix, yes, persist, strict, explain, list_all)
    return examine_host(console, CHECKS, lambda: read(console, config_dir, state_dir, pins), asked)


def read(console: Console, config: Path, state: Path, pins: Path) -> Facts:
    """Everything that is looked at."""
    from kernlb.doctor.balancer.reading import readers
    from kernlb.doctor.doors import declarations
    from kernlb.doctor.facts import Facts, gather
    from kernlb.doctor.services import Declared

    daemon, declared = _ask(console, config)
    facts = Facts().having(daemon)
    if declared is not None:
        facts = facts.having(declared)
    else:
        facts = gather([(Declared, lambda _: declarations.from_files(config))], facts)
    return gather(readers(config, state, pins), facts)


def _ask(console: Console, config: Path) -> tuple[Daemon, Declared | None]:
    """What the daemon says of itself and of the services; None where it says nothing."""
    from kernlb.cli.render import fault_text
    from kernlb.control.client import ControlError, DaemonUnreachableError
    from kernlb.doctor.doors import daemon, declarations

    client = console.client()
    try:
        status = client.status()
        seen = daemon.answered(status, client.services(), client.path)
        faults = tuple(map(fault_text, status.faults))
        views = client.services_in_full()
    except ControlError as error:
        return daemon.silent(error.problem.title, client.path), None
    except DaemonUnreachableError as error:
        return daemon.silent(str(error), client.path, error.__cause__), None
    return seen, declarations.from_daemon(views, seen.withdrawn, faults, config)
