"""Manual pages: roff has nothing to say against them, and they say what --help says."""

from __future__ import annotations

import shutil
import subprocess

import click
import pytest

from kernlb.cli.app import cli
from kernlb.cli.manual import page, pages, roff
from kernlb.daemon import _parser

PAGES = pages(_parser())


def read(text: str) -> str:
    """As `man` shows it; whatever groff warns of fails."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-ww", "-Tutf8", "-rLL=500n", "-P-cbou"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30)
    assert not done.stderr and done.returncode == 0, done.stderr
    return done.stdout.replace("\u2010", "-").replace("\u2212", "-").replace("\u2019", "'")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_roff_without_a_warning(name: str) -> None:
    shown = read(PAGES[name])
    assert "SYNOPSIS" in shown and "FILES" in shown


def test_every_command_has_a_page_with_its_options_and_examples() -> None:
    top = click.Context(cli, info_name="kernlb")
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        assert command is not None
        shown = read(PAGES[f"kernlb-{name}.1"])
        for each in _leaves(command):
            for line in getattr(each, "examples", "").splitlines():
                assert line.strip() in shown, f"{name}: {line}"
            for param in each.params:
                if isinstance(param, click.Option) and param.expose_value and not param.hidden:
                    assert param.opts[0] in shown, f"{name}: {param.opts[0]}"


def _leaves(command: click.Command) -> list[click.Command]:
    if not isinstance(command, click.Group):
        return [command]
    context = click.Context(command)
    found = [command.get_command(context, name) for name in command.list_commands(context)]
    return [leaf for each in found if each is not None for leaf in _leaves(each)]


def test_text_cannot_become_a_request() -> None:
    @click.command(help="First.\n\n.SH EVIL\n'quoted' \\fBbold")
    def evil() -> None: ...

    shown = read(page(evil, click.Context(evil, info_name="evil")))
    assert ".SH EVIL 'quoted' \\fBbold" in shown
    assert roff(".a\n'b") == "\\&.a\n\\&'b"
