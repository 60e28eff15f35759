"""Click commands that load late, and the options that every one of them has.

LazyGroup knows its subcommands by module and one-line summary, so that ``--help`` and a run of
one command import none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from kernlb.cli.console import Console


class Lazy(NamedTuple):
    """A subcommand not loaded yet: ``module:attribute``, and what ``--help`` says of it."""

    where: str
    summary: str


def _take_socket(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Console).socket = value


def _take_output(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Console).output = value


def _take_no_color(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).no_color = True


def _everywhere(top: bool) -> list[click.Parameter]:
    """Options that go before or after the subcommand alike."""
    common: dict[str, Any] = {"expose_value": False, "is_eager": True}
    return [
        click.Option(
            ["--socket"],
            metavar="PATH",
            envvar="KERNLB_SOCKET" if top else None,
            callback=_take_socket,
            help="The daemon's control socket.",
            **common,
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["table", "json"]),
            callback=_take_output,
            help="table, or json for programs.",
            **common,
        ),
        click.Option(
            ["--no-color"],
            is_flag=True,
            callback=_take_no_color,
            help="No colours on a terminal either.",
            **common,
        ),
    ]


_PLAIN_LINES = "\b\n"  # click: leave the line breaks of this paragraph alone


class Command(click.Command):
    """A command that takes the options of the whole program too, and shows examples."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_everywhere(top=False))
        self.examples = examples.strip()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


class LazyGroup(click.Group):
    """A group whose subcommands are loaded when called, listed in the order given."""

    command_class = Command

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, Lazy] | None = None,
        top: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})
        self.no_args_is_help = False  # parse_args says it in one way for every version of click
        if top:
            self.params.extend(_everywhere(top=True))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *(name for name in self.commands if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.lazy and cmd_name not in self.commands:
            module, _, attribute = self.lazy[cmd_name].where.partition(":")
            self.commands[cmd_name] = getattr(import_module(module), attribute)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self._summary(name)) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def _summary(self, name: str) -> str:
        if name in self.lazy:
            return self.lazy[name].summary
        return self.commands[name].get_short_help_str(limit=80)


def group(
    lazy: Mapping[str, Lazy] | None = None, **kwargs: Any
) -> Callable[[Callable[..., Any]], LazyGroup]:
    """Decorator: a LazyGroup."""
    return click.group(cls=LazyGroup, lazy=lazy, **kwargs)
