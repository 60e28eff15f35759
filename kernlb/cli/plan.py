"""``kernlb plan``, ``apply`` and ``reload``: documents as files, and what they would change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kernlb.cli.arguments import ServiceName, dry_run
from kernlb.cli.console import CHANGES, DONE, Console, pass_console
from kernlb.cli.lazy import Command

if TYPE_CHECKING:
    from kernlb.control.protocol import Documents

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE = 16 << 20  # bytes; far above what the daemon takes, far below what hurts

files_argument = click.argument(
    "files", nargs=-1, metavar="FILE|DIR...", type=click.Path(exists=True, allow_dash=True)
)
name_option = click.option(
    "--name", type=ServiceName(), help="The service that standard input (-) describes."
)


@click.command(
    cls=Command,
    examples="""
        kernlb plan
        kernlb plan web.yaml
        cat web.yaml | kernlb plan - --name web
    """,
)
@files_argument
@name_option
@pass_console
def plan(console: Console, files: tuple[str, ...], name: str | None) -> int:
    """Show what would change: with FILEs if they were applied, without by a reload.

    Exit code 3 when there would be changes, 0 when none, 1 when a file is bad.
    """
    change = console.client().plan(_documents(files, name))
    code = console.report(change, dry_run=True, note=False)
    return CHANGES if code == DONE and change.ops else code


@click.command(
    cls=Command,
    examples="""
        kernlb apply web.yaml dns.yaml
        kernlb apply ./services.d --dry-run
        cat web.yaml | kernlb apply - --name web
    """,
)
@files_argument
@name_option
@dry_run
@pass_console
def apply(console: Console, files: tuple[str, ...], name: str | None, dry_run: bool) -> int:
    """Put service documents in force, all of them or none; other services stay.

    A file's name without its suffix names the service. Of a DIR, its *.yaml, *.yml and *.json.
    """
    if not files:
        raise click.UsageError("give FILE or DIR, or - for standard input")
    documents = _documents(files, name)
    return console.report(console.client().apply(documents, dry_run=dry_run), dry_run)


@click.command(
    cls=Command,
    examples="""
        kernlb reload
        kernlb reload --dry-run -o json
    """,
)
@dry_run
@pass_console
def reload(console: Console, dry_run: bool) -> int:
    """Read the service files again and apply them.

    A bad file changes nothing: its last good version stays in force, its faults are printed,
    and the exit code is 1.
    """
    return console.report(console.client().reload(dry_run=dry_run), dry_run)


def _documents(files: tuple[str, ...], name: str | None) -> Documents:
    from kernlb.control.protocol import Documents

    if (name is not None) != ("-" in files):
        raise click.UsageError("--name and - go together: the service standard input describes")
    texts: dict[str, str] = {}
    for file in files:
        for path in _paths(file):
            service = name if path is None else path.stem
            assert service is not None  # held by the check above
            if service in texts:
                raise click.UsageError(f"service {service} is described twice")
            _check_name(service, path)
            texts[service] = _text(path)
    return Documents(texts)


def _paths(file: str) -> list[Path | None]:
    """The files of one argument; None for standard input."""
    if file == "-":
        return [None]
    path = Path(file)
    if not path.is_dir():
        return [path]
    found = sorted(
        each for each in path.iterdir() if each.suffix in SUFFIXES and not each.name.startswith(".")
    )
    if not found:
        raise click.UsageError(f"{file} holds no service documents ({', '.join(SUFFIXES)})")
    return list(found)


def _check_name(service: str, path: Path | None) -> None:
    if path is None:
        return
    try:
        ServiceName().convert(service, None, None)
    except click.UsageError as error:
        raise click.UsageError(f"{path}: {error.message}") from None


def _text(path: Path | None) -> str:
    where = "standard input" if path is None else str(path)
    try:
        if path is None:
            content = sys.stdin.buffer.read(MAX_FILE + 1)
        else:
            with path.open("rb") as stream:
                content = stream.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise click.ClickException(f"cannot read {where}: larger than {MAX_FILE >> 20} MiB")
        return content.decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise click.ClickException(f"cannot read {where}: line {line} is not UTF-8") from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise click.ClickException(f"cannot read {where}: {why}") from None
