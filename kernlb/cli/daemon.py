"""``kernlb daemon``: kernlbd under another name."""

from __future__ import annotations

import click


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")
def daemon(args: tuple[str, ...]) -> int:
    """Run the daemon in the foreground; options as of kernlbd (kernlb daemon --help)."""
    from kernlb.daemon import main

    return main(list(args)) or 0
