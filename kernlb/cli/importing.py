"""``kernlb import``: configurations of keepalived, ldirectord and ipvsadm as service documents."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kernlb.cli.arguments import options
from kernlb.cli.console import DONE, FAILED, Console, pass_console
from kernlb.cli.lazy import group

if TYPE_CHECKING:
    from kernlb.migrate.report import Loss, Report

F = TypeVar("F", bound=Callable[..., Any])

MAX_TEXT = 64 << 20  # bytes on standard input

targets = options(
    click.option(
        "--output-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Write the documents there, one file each; none may be there yet.",
    ),
    click.option("--apply", "apply_", is_flag=True, help="Put them in force, all or none."),
    click.option(
        "--strict", is_flag=True, help="If anything is lost or changed, fail and do nothing."
    ),
    click.option("--dry-run", is_flag=True, help="Write nothing and change nothing; say what."),
)


@group(name="import")
def import_() -> None:
    """Take over services from keepalived, ldirectord or ipvsadm.

    Documents are printed, written (--output-dir) or put in force (--apply). What a document
    cannot say is listed on standard error with file, line and reason.
    """


@import_.command(
    examples="""
        kernlb import keepalived /etc/keepalived/keepalived.conf
        kernlb import keepalived /etc/keepalived/keepalived.conf --output-dir ./documents
        kernlb import keepalived /etc/keepalived/keepalived.conf --apply --dry-run
    """
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--config-id",
    metavar="ID",
    help="Lines that begin with @ID are meant; default: the name of this host, as keepalived's.",
)
@targets
@pass_console
def keepalived(console: Console, /, file: str, config_id: str | None, **how: Any) -> int:
    """Services of a keepalived.conf, with what it includes."""
    from kernlb.migrate.keepalived import read_keepalived

    identity = os.uname().nodename.partition(".")[0] if config_id is None else config_id
    return _carry_out(console, lambda: read_keepalived(file, config_id=identity), file, how)


@import_.command(
    examples="""
        kernlb import ldirectord /etc/ha.d/ldirectord.cf
    """
)
@click.argument("file", type=click.Path(dir_okay=False))
@targets
@pass_console
def ldirectord(console: Console, /, file: str, **how: Any) -> int:
    """Services of an ldirectord.cf."""
    from kernlb.migrate.ldirectord import read_ldirectord

    return _carry_out(console, lambda: read_ldirectord(file), file, how)


@import_.command(
    examples="""
        kernlb import ipvsadm --live
        kernlb import ipvsadm --live --apply --adopt
        ipvsadm-save -n | kernlb import ipvsadm -
    """
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), required=False)
@click.option("--live", is_flag=True, help="What the kernel holds now, instead of FILE.")
@click.option("--adopt", is_flag=True, help="With --apply: take over what the kernel has already.")
@targets
@pass_console
def ipvsadm(console: Console, /, file: str | None, live: bool, adopt: bool, **how: Any) -> int:
    """Services of text that ipvsadm-save made, or of the kernel."""
    if live == (file is not None):
        raise click.UsageError("give FILE (- for standard input), or --live")
    if adopt and not how["apply_"]:
        raise click.UsageError("--adopt goes with --apply")

    def read() -> Report:
        from kernlb.migrate import ipvsadm as module
        from kernlb.migrate.settle import settle

        source = "the kernel" if file is None else file
        report = module.read(_live() if file is None else _text(file), source)
        settle(report)
        return report

    return _carry_out(console, read, file or "the kernel", how, adopt=adopt)


def _live() -> str:
    from kernlb.migrate import ipvsadm as module

    try:
        return module.live()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise click.ClickException(f"cannot read IPVS: {why}") from None


def _text(file: str) -> str:
    where = "standard input" if file == "-" else file
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_TEXT + 1)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(MAX_TEXT + 1)
        if len(content) > MAX_TEXT:
            raise click.ClickException(f"cannot read {where}: larger than {MAX_TEXT >> 20} MiB")
        return content.decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise click.ClickException(f"cannot read {where}: line {line} is not UTF-8") from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise click.ClickException(f"cannot read {where}: {why}") from None


def _carry_out(
    console: Console,
    read: Callable[[], Report],
    source: str,
    how: dict[str, Any],
    *,
    adopt: bool = False,
) -> int:
    from kernlb.cli.render import printable
    from kernlb.migrate.report import Kind, MigrationError, texts

    if how["apply_"] and how["output_dir"] is not None:
        raise click.UsageError("--apply and --output-dir: give one of them")
    try:
        report = read()
        documents = texts(report)
        losses = report.losses
        if not console.json:
            _tell(console, losses)
        if not documents:
            raise click.ClickException(
                f"cannot import {printable(source)}: it has no service that can be carried over"
            )
        if how["strict"] and any(loss.kind is not Kind.NOTE for loss in losses):
            raise click.ClickException("nothing was done: not all of it can be carried over")
        return _deliver(console, documents, report, how, adopt)
    except MigrationError as error:
        place = f"{error.place}: " if error.place.line or error.place.file != source else ""
        message = f"cannot import {source}: {place}{error.why}"
        raise click.ClickException(printable(message)) from None


def _deliver(
    console: Console, documents: dict[str, str], report: Report, how: dict[str, Any], adopt: bool
) -> int:
    dry_run = how["dry_run"]
    answer: dict[str, Any] = {
        "services": {service.name: service.document for service in report.services},
        "losses": [_plain(loss) for loss in report.losses],
    }
    if how["apply_"]:
        return _apply(console, documents, report, adopt, dry_run)
    if how["output_dir"] is not None:
        from kernlb.migrate.writing import write_documents

        paths = write_documents(how["output_dir"], documents, dry_run=dry_run)
        if console.json:
            console.print_json({**answer, "files": [str(path) for path in paths]})
        else:
            console.print("\n".join(str(path) for path in paths))
            if dry_run:
                console.note("dry run: nothing was written")
        return DONE
    if console.json:
        console.print_json(answer)
    else:
        console.print("\n".join(f"--- # {name}.yaml\n{text}" for name, text in documents.items()))
    return DONE


def _apply(
    console: Console, documents: dict[str, str], report: Report, adopt: bool, dry_run: bool
) -> int:
    client = console.client()
    if not adopt:
        from kernlb.control.protocol import Documents

        if console.json:
            _tell(console, report.losses)
        change = client.apply(Documents(documents), dry_run=dry_run)
        return console.report(change, dry_run)
    code = DONE
    for service in report.services:
        change = client.add_service(service.name, service.document, adopt=True, dry_run=dry_run)
        code = max(code, console.report(change, dry_run))
        if code >= FAILED:
            break
    return code


def _tell(console: Console, losses: tuple[Loss, ...]) -> None:
    """What is not carried over, on standard error, and how much of it there is."""
    from kernlb.cli.render import printable

    counts: dict[str, int] = {}
    for loss in losses:
        console.note(printable(str(loss)))
        counts[loss.kind.value] = counts.get(loss.kind.value, 0) + 1
    if counts:
        console.note("in all: " + ", ".join(f"{number} {kind}" for kind, number in counts.items()))


def _plain(loss: Loss) -> dict[str, Any]:
    plain = {
        "kind": loss.kind.value,
        "what": loss.what,
        "why": loss.why,
        "file": loss.file,
        "line": loss.line,
        "service": loss.service,
    }
    return {key: value for key, value in plain.items() if value}
