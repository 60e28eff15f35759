"""Names from the daemon for the shell to complete; quietly none where it does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernlb.cli.console import Console

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

PATIENCE = 1.0  # seconds; a person has pressed a key and waits


def complete_service(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Services by name, with their keys for shells that show help."""
    from click.shell_completion import CompletionItem

    from kernlb.control.client import ControlError, DaemonUnreachableError

    try:
        services = ctx.ensure_object(Console).client(PATIENCE).services()
    except (ControlError, DaemonUnreachableError):
        return []
    return [
        CompletionItem(service.name, help=service.key)
        for service in services
        if service.name and service.name.startswith(incomplete)
    ]


def complete_server(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Real servers of the service named earlier on the line, with their states."""
    from click.shell_completion import CompletionItem

    from kernlb.cli.render import endpoint_text
    from kernlb.control.client import ControlError, DaemonUnreachableError

    name = ctx.params.get("service")
    if not isinstance(name, str):
        return []
    try:
        service = ctx.ensure_object(Console).client(PATIENCE).service(name)
    except (ControlError, DaemonUnreachableError):
        return []
    endpoints = [(endpoint_text(s.address, s.port), s.state) for s in service.servers]
    return [
        CompletionItem(endpoint, help=state)
        for endpoint, state in endpoints
        if endpoint.startswith(incomplete)
    ]
