"""``kernlb export``: the services as a keepalived.conf, or as ipvsadm saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from kernlb.cli.arguments import options
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import group

if TYPE_CHECKING:
    from kernlb.declaration import Declaration
    from kernlb.migrate.report import Loss

CONFIG_DIR = Path("/etc/kernlb")

F = TypeVar("F", bound=Callable[..., Any])

sources = options(
    click.argument(
        "files", nargs=-1, metavar="[FILE|DIR...]", type=click.Path(exists=True, path_type=Path)
    ),
    click.option(
        "--config-dir",
        type=click.Path(path_type=Path),
        default=CONFIG_DIR,
        show_default=True,
        metavar="DIR",
        help="Of kernlb.yaml, and of services.d where no FILE is given.",
    ),
)


class _Written(Protocol):
    @property
    def text(self) -> str: ...

    @property
    def losses(self) -> tuple[Loss, ...]: ...


@group()
def export() -> None:
    """Write the services as another program reads them.

    Reads the service files; no daemon is needed. What the other program cannot say is listed
    on standard error.
    """


@export.command(
    examples="""
        kernlb export keepalived > keepalived.conf
        kernlb export keepalived web.yaml
    """
)
@sources
@pass_console
def keepalived(console: Console, files: tuple[Path, ...], config_dir: Path) -> int:
    """As virtual_server blocks of a keepalived.conf."""

    def write(declarations: dict[str, Declaration]) -> _Written:
        from kernlb.migrate.export_keepalived import write_keepalived

        return write_keepalived(declarations)

    return _export(console, files, config_dir, write)


@export.command(
    examples="""
        kernlb export ipvsadm > rules
        kernlb export ipvsadm web.yaml
    """
)
@sources
@pass_console
def ipvsadm(console: Console, files: tuple[Path, ...], config_dir: Path) -> int:
    """As text that ipvsadm -R restores."""

    def write(declarations: dict[str, Declaration]) -> _Written:
        from kernlb.migrate import ipvsadm as module

        return module.write(declarations)

    return _export(console, files, config_dir, write)


def _export(
    console: Console,
    files: tuple[Path, ...],
    config_dir: Path,
    write: Callable[[dict[str, Declaration]], _Written],
) -> int:
    from kernlb.cli.render import printable
    from kernlb.migrate.current import read_declarations
    from kernlb.migrate.report import MigrationError

    try:
        declarations = read_declarations(
            files or (config_dir / "services.d",), config_dir / "kernlb.yaml"
        )
    except MigrationError as error:
        message = "\n".join(map(printable, str(error).splitlines()))
        raise click.ClickException(f"cannot export: {message}") from None
    written = write(declarations)
    if console.json:
        losses = [
            {
                "kind": loss.kind.value,
                "what": loss.what,
                "why": loss.why,
                "file": loss.file,
                "service": loss.service,
            }
            for loss in written.losses
        ]
        console.print_json({"text": written.text, "losses": losses})
        return DONE
    console.print(written.text.removesuffix("\n"))
    for loss in written.losses:
        console.note(printable(str(loss)))
    return DONE
