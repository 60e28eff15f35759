"""What may stand on the command line: the notations as click types, with completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kernlb.cli import notation
from kernlb.cli.completing import complete_server, complete_service

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]  # generic in newer versions of click only
else:
    ParamType = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])

WEIGHT = click.IntRange(0, notation.MAX_WEIGHT)
THRESHOLD = click.IntRange(0, notation.MAX_THRESHOLD)
FWMARK = click.IntRange(1, notation.MAX_FWMARK)

dry_run = click.option(
    "--dry-run", is_flag=True, help="Print the plan and change nothing; exit code 0."
)


def options(*declared: Callable[[F], F]) -> Callable[[F], F]:
    """Several click options as one decorator, shown in the order given."""

    def decorate(function: F) -> F:
        for option in reversed(declared):
            function = option(function)
        return function

    return decorate


class _Parsed(ParamType):
    """A notation; what its parser refuses is a usage error."""

    def parse(self, text: str) -> Any:
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value  # a default, parsed already
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ServiceName(_Parsed):
    name = "name"

    def parse(self, text: str) -> str:
        return notation.parse_name(text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return complete_service(ctx, incomplete)


class Endpoint(_Parsed):
    name = "address:port"

    def parse(self, text: str) -> notation.Document:
        return notation.parse_endpoint(text, bare=False)


class NewServer(_Parsed):
    """The address of a server, its port where it has one of its own."""

    name = "address[:port]"

    def parse(self, text: str) -> notation.Document:
        return notation.parse_endpoint(text, bare=True)


class KnownServer(NewServer):
    """The same for a server that the service has: completed from the daemon."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return complete_server(ctx, incomplete)


class Server(_Parsed):
    name = "server"

    def parse(self, text: str) -> notation.Document:
        return notation.parse_server(text)


class TunnelSpec(_Parsed):
    name = "tunnel"

    def parse(self, text: str) -> notation.Document:
        return notation.parse_tunnel(text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(each) for each in notation.TUNNELS if each.startswith(incomplete)]


class Persistence(_Parsed):
    name = "duration[/prefix]"

    def parse(self, text: str) -> notation.Document:
        return notation.parse_persistence(text)


class Duration(_Parsed):
    name = "duration"

    def parse(self, text: str) -> int | float | str:
        return notation.parse_duration(text)


class Label(_Parsed):
    name = "key=value"

    def parse(self, text: str) -> tuple[str, str]:
        return notation.parse_label(text)
