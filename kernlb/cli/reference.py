"""The reference page of the command line, written from click's own knowledge of it.

``python -m kernlb.cli.reference > docs/reference/cli.md``; a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from kernlb.cli.app import cli

OPENING = """\
# Command line

<!-- Written by `python -m kernlb.cli.reference`. Change the commands, not this page. -->

`kernlb` talks to the daemon, `kernlbd`, over its control socket. `--socket`, `--output` and
`--no-color` go anywhere on the line. Errors are one sentence each on standard error; with
`-o json` those of the daemon are one problem document (RFC 9457 members), a line of JSON.

| exit code | means |
|---|---|
| 0 | done |
| 1 | refused or failed |
| 2 | the command line is wrong: nothing was sent |
| 3 | `plan` shows changes |
| 4 | the daemon cannot be reached |
| 5 | `wait`: the condition did not hold in time |

In JSON a member that has its default value (0, empty, false, null) may be left out.
"""

WIDTH = 96
ELSEWHERE = ("daemon", "lab")  # described on their own pages


def pages() -> Iterator[str]:
    """The page, a part at a time."""
    yield OPENING
    yield from _command(cli, click.Context(cli, info_name="kernlb", terminal_width=WIDTH), 2)


def _command(command: click.Command, ctx: click.Context, level: int) -> Iterator[str]:
    text = command.get_help(ctx)
    yield f"{'#' * level} {ctx.command_path}\n\n```text\n{text.rstrip()}\n```\n"
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(ctx):
        if ctx.parent is None and name in ELSEWHERE:
            continue
        child = command.get_command(ctx, name)
        assert child is not None  # it is in the list
        inner = click.Context(child, info_name=name, parent=ctx, terminal_width=WIDTH)
        yield from _command(child, inner, min(level + 1, 3))


def main() -> None:
    click.echo("\n".join(pages()), nl=False)


if __name__ == "__main__":
    main()
