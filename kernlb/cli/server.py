"""``kernlb server``: the real servers of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kernlb.cli.arguments import Duration, KnownServer, NewServer, ServiceName, dry_run
from kernlb.cli.console import DONE, FAILED, Console, pass_console
from kernlb.cli.lazy import group
from kernlb.cli.notation import Document, endpoint, seconds
from kernlb.cli.settings import (
    patch,
    server_document,
    server_edit_options,
    server_options,
)

if TYPE_CHECKING:
    from kernlb.control.client import Client
    from kernlb.control.protocol import ServerView

POLL = 0.5  # seconds between two looks at a draining server
WAIT_TIMEOUT = 600.0  # seconds, for a drain without a deadline

service_argument = click.argument("service", type=ServiceName())
server_argument = click.argument("server", type=KnownServer(), metavar="ADDRESS[:PORT]")


@group()
def server() -> None:
    """Real servers: the backends of a service.

    The port may be left out where only one server of the service has that address.
    """


@server.command(
    examples="""
        kernlb server add web 10.0.0.3:8080 --weight 2
        kernlb server add web [2001:db8::3] --forwarding tunnel --tunnel gue:6080+csum
    """
)
@service_argument
@click.argument("server", type=NewServer(), metavar="ADDRESS[:PORT]")
@server_options
@dry_run
@pass_console
def add(console: Console, /, service: str, server: Document, dry_run: bool, **given: Any) -> int:
    """Add a server; without a port it has the service's."""
    document = {**server, **server_document(given)}
    return console.report(console.client().add_server(service, document, dry_run=dry_run), dry_run)


@server.command(
    examples="""
        kernlb server edit web 10.0.0.3:8080 --weight 5
        kernlb server edit web 10.0.0.3 --unset weight --label rack=b
    """
)
@service_argument
@server_argument
@server_options
@server_edit_options
@dry_run
@pass_console
def edit(
    console: Console,
    /,
    service: str,
    server: Document,
    removed_labels: tuple[str, ...],
    unset: tuple[str, ...],
    dry_run: bool,
    **given: Any,
) -> int:
    """Change settings of a server; what is not named stays."""
    changes = patch(server_document(given), removed_labels, unset)
    change = console.client().edit_server(service, endpoint(server), changes, dry_run=dry_run)
    return console.report(change, dry_run)


@server.command(
    examples="""
        kernlb server rm web 10.0.0.3:8080
    """
)
@service_argument
@server_argument
@dry_run
@pass_console
def rm(console: Console, service: str, server: Document, dry_run: bool) -> int:
    """Remove a server at once; drain it first to keep its connections."""
    change = console.client().remove_server(service, endpoint(server), dry_run=dry_run)
    return console.report(change, dry_run)


@server.command(
    examples="""
        kernlb server enable web 10.0.0.3:8080
    """
)
@service_argument
@server_argument
@dry_run
@pass_console
def enable(console: Console, service: str, server: Document, dry_run: bool) -> int:
    """End a drain or a disable: the server takes connections again."""
    change = console.client().enable_server(service, endpoint(server), dry_run=dry_run)
    return console.report(change, dry_run)


@server.command(
    examples="""
        kernlb server disable web 10.0.0.3:8080
    """
)
@service_argument
@server_argument
@dry_run
@pass_console
def disable(console: Console, service: str, server: Document, dry_run: bool) -> int:
    """Take a server out of the kernel now, until it is enabled; its file keeps it."""
    change = console.client().disable_server(service, endpoint(server), dry_run=dry_run)
    return console.report(change, dry_run)


@server.command(
    examples="""
        kernlb server drain web 10.0.0.3:8080 --timeout 5m --wait
    """
)
@service_argument
@server_argument
@click.option(
    "--timeout",
    type=Duration(),
    metavar="DURATION",
    help="Drop its connections after this; 0: never. If not given: the service's drain_timeout.",
)
@click.option("--wait", is_flag=True, help="Wait until its connections have ended.")
@click.option(
    "--wait-timeout",
    type=Duration(),
    default=WAIT_TIMEOUT,
    metavar="DURATION",
    help="Give up waiting after this; exit code 1. 10m if not given.",
)
@dry_run
@pass_console
def drain(
    console: Console,
    service: str,
    server: Document,
    timeout: float | str | None,
    wait: bool,
    wait_timeout: float | str,
    dry_run: bool,
) -> int:
    """Send a server no new connections; those it has go on until they end.

    It stays drained until ``kernlb server enable``. Durations are in seconds or as 90s, 5m.
    """
    from kernlb.control.protocol import Drain

    client = console.client()
    wish = Drain(timeout=None if timeout is None else seconds(timeout))
    change = client.drain_server(service, endpoint(server), wish, dry_run=dry_run)
    code = console.report(change, dry_run)
    if not wait or dry_run or code != DONE:
        return code
    return _wait(console, client, service, server, seconds(wait_timeout))


def _wait(console: Console, client: Client, service: str, server: Document, limit: float) -> int:
    """Look until no connection is active, the deadline has passed or ``limit`` seconds are over."""
    from kernlb.control.protocol import ServerState

    name = f"{service}/{endpoint(server)}"
    last = -1
    active = 0
    for _ in range(max(1, round(limit / POLL))):
        view = _find(client.service(service).servers, server)
        if view is None:
            console.note(f"{name}: removed meanwhile")
            return DONE
        if view.state is ServerState.DRAINED:
            console.note(f"{name}: drained, its deadline has passed")
            return DONE
        if view.state is not ServerState.DRAINING:
            console.error(f"cannot wait for {name}: it is {view.state}, no longer draining")
            return FAILED
        active = _active(client, service, view)
        if active == 0:
            console.note(f"{name}: drained, no active connections")
            return DONE
        if active != last:
            console.note(f"{name}: {active} active connection{'s' * (active != 1)}")
            last = active
        console.sleep(POLL)
    console.error(f"cannot see {name} drained: {active} active after {limit:g} s; it goes on")
    return FAILED


def _find(servers: list[ServerView], wanted: Document) -> ServerView | None:
    for server in servers:
        if server.address == wanted["address"] and wanted.get("port", server.port) == server.port:
            return server
    return None


def _active(client: Client, service: str, server: ServerView) -> int:
    from kernlb.cli.render import endpoint_text

    name = endpoint_text(server.address, server.port)
    for stats in client.stats(service):
        for each in stats.servers:
            if each.server == name:
                return each.active
    return 0  # no longer in the kernel: none of its connections are either


@server.command(
    examples="""
        kernlb server ls
        kernlb server ls web -o json
    """
)
@click.argument("service", type=ServiceName(), required=False)
@pass_console
def ls(console: Console, service: str | None) -> int:
    """List servers: weight as declared, as it should be now, and as the kernel has it."""
    servers = list(_servers(console.client(), service))
    if console.json:
        from msgspec import to_builtins

        console.print_json([{"service": name, **to_builtins(each)} for name, each in servers])
    else:
        from kernlb.cli.render import servers_text

        console.print(servers_text(servers, console.clock(), console.paint))
    return DONE


def _servers(client: Client, only: str | None) -> list[tuple[str, ServerView]]:
    views = client.services_in_full() if only is None else [client.service(only)]
    return [(view.name, server) for view in views for server in view.servers]
