"""``kernlb service add`` and ``edit``: options become a document or a merge patch."""

from __future__ import annotations

from typing import Any

import click

from kernlb.cli.arguments import Endpoint, Server, ServiceName, dry_run
from kernlb.cli.console import Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.notation import Document
from kernlb.cli.settings import (
    edit_options,
    key_options,
    patch,
    service_document,
    service_options,
)


@click.command(
    cls=Command,
    examples="""
        kernlb service add web 192.0.2.10:80 --server 10.0.0.1:8080 --server 10.0.0.2:8080,weight=2
        kernlb service add web 192.0.2.10:80 --server 10.0.0.1 --check http --check-path /healthz
        kernlb service add dns 192.0.2.10:53 --protocol udp --scheduler mh --server 10.0.0.1
        kernlb service add edge --fwmark 7 --family ipv6 --forwarding dsr --server 2001:db8::1
    """,
)
@click.argument("name", type=ServiceName())
@click.argument("address", type=Endpoint(), required=False, metavar="[ADDRESS:PORT]")
@key_options
@click.option(
    "--server",
    "servers",
    type=Server(),
    multiple=True,
    metavar="SERVER",
    help="ADDR[:PORT][,weight=N][,forwarding=F][,tunnel=T][,upper=N][,lower=N]; may be repeated.",
)
@service_options
@click.option("--replace", is_flag=True, help="Replace the service if it exists.")
@click.option("--adopt", is_flag=True, help="Take over a service that the kernel has already.")
@dry_run
@pass_console
def add(
    console: Console,
    /,
    name: str,
    address: Document | None,
    servers: tuple[Document, ...],
    replace: bool,
    adopt: bool,
    dry_run: bool,
    **given: Any,
) -> int:
    """Add a service: writes its file and has the daemon apply it."""
    if address is None and given["fwmark"] is None:
        raise click.UsageError("give ADDRESS:PORT or --fwmark")
    document = {**(address or {}), **service_document(given)}
    _check_key(document)
    if servers:
        document["servers"] = list(servers)
    change = console.client().add_service(
        name, document, replace=replace, adopt=adopt, dry_run=dry_run
    )
    return console.report(change, dry_run)


@click.command(
    cls=Command,
    examples="""
        kernlb service edit web --scheduler mh --flag mh-fallback --flag mh-port
        kernlb service edit web --persistence 5m/24 --remove-label stage
        kernlb service edit web --check http --check-path /healthz --check-interval 2s
        kernlb service edit web --unset drain_timeout --dry-run
    """,
)
@click.argument("name", type=ServiceName())
@click.option("--address", type=Endpoint(), metavar="ADDRESS:PORT", help="What clients connect to.")
@key_options
@service_options
@edit_options
@dry_run
@pass_console
def edit(
    console: Console,
    /,
    name: str,
    address: Document | None,
    no_persistence: bool,
    no_sorry_server: bool,
    removed_labels: tuple[str, ...],
    unset: tuple[str, ...],
    dry_run: bool,
    **given: Any,
) -> int:
    """Change settings of a service; what is not named stays, comments in the file too."""
    document = {**(address or {}), **service_document(given)}
    _check_key(document)
    for key, gone in (("persistence", no_persistence), ("sorry_server", no_sorry_server)):
        if gone and key in document:
            option = key.replace("_", "-")
            raise click.UsageError(f"--{option} does not go with --no-{option}")
        if gone and key not in unset:
            unset = (*unset, key)
    changes = patch(document, removed_labels, unset)
    if address is not None:
        changes |= {"fwmark": None, "family": None}
    elif given["fwmark"] is not None:
        changes |= {"address": None, "port": None, "protocol": None}
    return console.report(console.client().edit_service(name, changes, dry_run=dry_run), dry_run)


def _check_key(document: Document) -> None:
    if "fwmark" in document:
        for key, said in (("address", "ADDRESS:PORT"), ("protocol", "--protocol")):
            if key in document:
                raise click.UsageError(f"--fwmark does not go with {said}")
    elif "address" in document and "family" in document:
        raise click.UsageError("--family goes with --fwmark only: an address tells its family")
