"""``kernlb completion``: the script that makes a shell complete kernlb."""

from __future__ import annotations

import click

from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command


@click.command(
    cls=Command,
    examples="""
        kernlb completion bash > /etc/bash_completion.d/kernlb
        kernlb completion zsh > "${fpath[1]}/_kernlb"
        kernlb completion fish > ~/.config/fish/completions/kernlb.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_console
def completion(console: Console, shell: str) -> int:
    """Print the completion script for a shell.

    It completes commands, options, and the names of services and servers, which it asks the
    daemon for.
    """
    from click.shell_completion import get_completion_class

    from kernlb.cli.app import cli

    known = get_completion_class(shell)
    assert known is not None  # click ships all three
    script = known(cli, {}, "kernlb", "_KERNLB_COMPLETE")
    # Not source(): for bash it would run bash to learn its version.
    console.print(script.source_template % script.source_vars())
    return DONE
