"""``kernlb doctor``: what is wrong with this balancer. Works without the daemon too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kernlb.cli.console import Console, pass_console
from kernlb.cli.examining import Asked, examine_host, examining_options
from kernlb.cli.lazy import Command

if TYPE_CHECKING:
    from kernlb.doctor.facts import Facts


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
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    default="/etc/kernlb",
    show_default=True,
    help="kernlb.yaml and services.d, read where no daemon answers.",
)
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
) -> int:
    """Find what is wrong with this balancer: evidence, why it matters, and the remedy.

    Looks and changes nothing, unless told to by --fix. What could not be looked at is listed as
    not checked. Exit codes: 0 no errors (there may be warnings), 1 errors, 2 usage.
    """
    from kernlb.doctor.balancer import CHECKS

    asked = Asked(fix, yes, persist, strict, explain, list_all)
    return examine_host(console, CHECKS, lambda: _read(console, config_dir), asked)


def _read(console: Console, config_dir: Path) -> Facts:
    from kernlb.doctor.balancer.reading import READERS
    from kernlb.doctor.doors import declarations
    from kernlb.doctor.facts import gather
    from kernlb.doctor.services import Declared

    known = gather([(Declared, lambda _: declarations.from_files(config_dir))])
    return gather(READERS, known)
