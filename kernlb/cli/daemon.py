"""``kernlb daemon``: kernlbd under another name."""

from __future__ import annotations

import click

from kernlb.cli.console import Console, pass_console


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")
@pass_console
def daemon(console: Console, args: tuple[str, ...]) -> int:
    """Run the daemon in the foreground; options as of kernlbd (kernlb daemon --help)."""
    from kernlb.daemon import main

    socket = () if console.socket is None else ("--socket", console.socket)
    return main([*socket, *args])
