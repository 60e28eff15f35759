"""Manual pages, written from what the commands know of themselves.

``python -m kernlb.cli.manual DIRECTORY`` writes kernlb.1, one page for each command
(kernlb-service.1, with its subcommands) and kernlbd.8. They are made when a package
is, and never kept: nothing can be out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from kernlb import __version__
from kernlb.cli.app import cli

FILES = (
    ("/etc/kernlb/kernlb.yaml", "settings of the daemon"),
    ("/etc/kernlb/services.d/*.yaml", "services, one a file"),
    ("/run/kernlb/control.sock", "the daemon's control socket"),
    ("/var/lib/kernlb", "what the daemon remembers over a restart"),
)


def roff(text: str) -> str:
    """Text as roff takes it: nothing in it is a request, and hyphens are ASCII."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", text)


def _head(name: str, section: int, what: str) -> Iterator[str]:
    yield f'.TH "{roff(name.upper())}" "{section}" "" "kernlb {__version__}" "kernlb"'
    yield ".SH NAME"
    yield f"{roff(name)} \\- {roff(what.rstrip('.'))}"


def _paragraphs(text: str) -> Iterator[str]:
    for number, part in enumerate(re.split(r"\n\s*\n", text.replace("\b", "").strip())):
        if number:
            yield ".PP"
        yield roff(" ".join(part.split()))


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    """Those of the command itself; what every command takes is in kernlb(1)."""
    for param in command.params:
        record = param.get_help_record(ctx)
        if record is None or (ctx.parent is not None and not param.expose_value):
            continue
        yield ".TP"
        yield f".B {roff(record[0])}"
        yield roff(" ".join(record[1].split())) or "."


def _body(command: click.Command, ctx: click.Context, heading: str) -> Iterator[str]:
    yield f'{heading} "{roff(ctx.command_path)}"' if heading == ".SS" else ".SH SYNOPSIS"
    yield f".B {roff(ctx.command_path)}"
    yield roff(" ".join(command.collect_usage_pieces(ctx)))
    if heading != ".SS":
        yield ".SH DESCRIPTION"
    else:
        yield ".PP"
    yield from _paragraphs(command.help or "")
    options = list(_options(command, ctx))
    if options:
        yield ".SH OPTIONS" if heading != ".SS" else ".PP"
        yield from options
    if examples := getattr(command, "examples", ""):
        yield ".SH EXAMPLES" if heading != ".SS" else ".PP"
        yield ".nf"
        yield from (roff(line.strip()) for line in examples.splitlines())
        yield ".fi"


def page(command: click.Command, ctx: click.Context) -> str:
    """The page of a command, those below it included."""
    name = ctx.command_path.replace(" ", "-")
    lines = [*_head(name, 1, command.get_short_help_str(200)), *_body(command, ctx, ".SH")]
    if isinstance(command, click.Group) and ctx.parent is not None:
        lines.append(".SH COMMANDS")
        for child, inner in _below(command, ctx):
            lines += _body(child, inner, ".SS")
    elif isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for child, inner in _children(command, ctx):
            page_name = inner.command_path.replace(" ", "-")
            lines += [".TP", f".BR {roff(page_name)} (1)", roff(child.get_short_help_str(200))]
    return _closed(lines)


def _children(
    group: click.Group, ctx: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    for name in group.list_commands(ctx):
        child = group.get_command(ctx, name)
        assert child is not None  # it is in the list
        yield child, click.Context(child, info_name=name, parent=ctx)


def _below(group: click.Group, ctx: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Children, and theirs."""
    for child, inner in _children(group, ctx):
        yield child, inner
        if isinstance(child, click.Group):
            yield from _below(child, inner)


def _closed(lines: list[str]) -> str:
    lines.append(".SH FILES")
    for path, what in FILES:
        lines += [".TP", f".I {roff(path)}", roff(what)]
    lines += [".SH SEE ALSO", ".BR kernlb (1),", ".BR kernlbd (8),", ".BR ipvsadm (8)"]
    return "\n".join(line for line in lines if line) + "\n"


def daemon_page(parser: argparse.ArgumentParser) -> str:
    what = "the daemon that programs the kernel's load balancers"
    lines = [*_head("kernlbd", 8, what), ".SH SYNOPSIS", ".B kernlbd", "[OPTIONS]"]
    lines += [".SH DESCRIPTION", *_paragraphs(parser.description or what), ".SH OPTIONS"]
    for action in parser._actions:
        metavar = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
        lines += [".TP", f".B {roff(', '.join(action.option_strings) + metavar)}"]
        lines.append(roff((action.help or ".") % {"default": action.default}))
    return _closed(lines)


def pages(daemon: argparse.ArgumentParser) -> dict[str, str]:
    """Text by file name."""
    top = click.Context(cli, info_name="kernlb")
    found = {"kernlb.1": page(cli, top), "kernlbd.8": daemon_page(daemon)}
    for command, ctx in _children(cli, top):
        found[f"{ctx.command_path.replace(' ', '-')}.1"] = page(command, ctx)
    return found


def main() -> None:
    from kernlb.daemon import _parser

    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages(_parser()).items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
