"""``kernlb service``: read, remove and adopt virtual services; add and edit load when called."""

from __future__ import annotations

import click

from kernlb.cli.arguments import ServiceName, dry_run
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Lazy, group

LATE = {
    "add": Lazy("kernlb.cli.service_edit:add", "Add a service, with its servers."),
    "edit": Lazy("kernlb.cli.service_edit:edit", "Change settings of a service."),
}


@group(lazy=LATE)
def service() -> None:
    """Virtual services: what clients connect to."""


@service.command(
    examples="""
        kernlb service ls
        kernlb service ls --label team=web -o json
    """
)
@click.option(
    "--label",
    "selectors",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Only services with this label; repeated: with all of them.",
)
@pass_console
def ls(console: Console, selectors: tuple[str, ...]) -> int:
    """List the services: servers that serve of all, and how the kernel agrees."""
    services = [each for each in console.client().services() if _selected(each.labels, selectors)]
    if console.json:
        console.print_json(services)
    else:
        from kernlb.cli.render import services_text

        console.print(services_text(services, console.paint))
    return DONE


def _selected(labels: dict[str, str], selectors: tuple[str, ...]) -> bool:
    for selector in selectors:
        key, equals, value = selector.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


@service.command(
    examples="""
        kernlb service show web
        kernlb service show web -o json
    """
)
@click.argument("name", type=ServiceName())
@pass_console
def show(console: Console, name: str) -> int:
    """Show one service and its servers, freshly read from the kernel."""
    view = console.client().service(name)
    if console.json:
        console.print_json(view)
    else:
        from kernlb.cli.render import service_text

        console.print(service_text(view, console.clock(), console.paint))
    return DONE


@service.command(
    examples="""
        kernlb service rm web
        kernlb service rm web dns --dry-run
    """
)
@click.argument("names", type=ServiceName(), nargs=-1, required=True, metavar="NAME...")
@dry_run
@pass_console
def rm(console: Console, names: tuple[str, ...], dry_run: bool) -> int:
    """Remove services, their files included. Stops at the first that is refused."""
    if len(set(names)) < len(names):
        raise click.UsageError("a service is named twice")
    client = console.client()
    code = DONE
    for name in names:
        code = max(code, console.report(client.remove_service(name, dry_run=dry_run), dry_run))
    return code


@service.command(
    examples="""
        kernlb service adopt web --dry-run
    """
)
@click.argument("name", type=ServiceName())
@dry_run
@pass_console
def adopt(console: Console, name: str, dry_run: bool) -> int:
    """Take over the kernel's service that is in conflict with a declared one.

    From then on it is kernlb's: made as its file says, and removed with it.
    """
    return console.report(console.client().adopt_service(name, dry_run=dry_run), dry_run)
