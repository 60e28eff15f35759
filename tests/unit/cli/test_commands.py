"""The tree of commands as a whole: help, imports, and agreement with the model."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb import model
from kernlb.cli import notation, reference
from kernlb.cli.app import cli
from kernlb.cli.lazy import Command, LazyGroup
from kernlb.config.duration import seconds

HEAVY = (
    *("aiohttp", "pyroute2", "prometheus_client", "rich", "yaml", "ruamel", "uvloop", "asyncio"),
    *("http.client", "ssl", "subprocess", "ipaddress", "kernlb.model", "kernlb.config"),
)
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def commands(group=cli, path=("kernlb",)):
    context = click.Context(group)
    for name in group.list_commands(context):
        if (*path, name) in (("kernlb", "lab"), ("kernlb", "daemon")):
            continue
        command = group.get_command(context, name)
        yield " ".join((*path, name)), command, path
        if isinstance(command, LazyGroup):
            yield from commands(command, (*path, name))


ALL = [(name, command) for name, command, _ in commands()]
LEAVES = [(name, command) for name, command in ALL if not isinstance(command, click.Group)]


@pytest.mark.parametrize("args", [["--help"], ["service", "ls"], ["service", "--help"]])
def test_the_quick_commands_load_nothing_heavy(args, tmp_path):
    script = f"""
import sys
sys.argv[1:] = {["--socket", str(tmp_path / "nowhere"), *args]!r}
from kernlb.cli import main
try:
    main()
except SystemExit:
    print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize(("name", "command"), LEAVES)
def test_every_command_has_a_summary_and_an_example(name, command):
    assert isinstance(command, Command)
    assert command.help.partition("\n")[0].endswith((".", ":"))
    assert any(line.strip().startswith(name) or f"| {name}" in line
               for line in command.examples.splitlines())  # fmt: skip


@pytest.mark.parametrize(("name", "command"), ALL)
def test_every_help_prints(name, command, kernlb, daemon):
    outcome = kernlb(*name.split()[1:], "--help")
    assert (outcome.code, outcome.err, daemon.requests) == (0, "", [])
    assert outcome.out.startswith(f"Usage: {name}")


def test_every_example_is_a_line_that_parses():
    for name, command in LEAVES:
        for line in command.examples.splitlines():
            piped = line.partition(" > ")[0].split("| ")
            words = next(each for each in piped if each.strip().startswith("kernlb")).split()
            ours = words[len(name.split()) :]
            paths = [word for word in ours if word.endswith((".yaml", "services.d"))]
            words = [word for word in ours if word not in paths]
            if words or not paths:
                command.make_context(name, words or [], resilient_parsing=False)


def test_the_notations_know_every_word_of_the_model():
    assert tuple(model.Scheduler) == notation.SCHEDULERS
    assert tuple(model.SchedulerFlag) == notation.SCHEDULER_FLAGS
    assert tuple(model.Forwarding) == notation.FORWARDING
    assert set(notation.TUNNELS) == set(model.TunnelType)
    assert tuple(model.L4Protocol) == notation.PROTOCOLS
    assert tuple(model.Family) == notation.FAMILIES
    assert tuple(model.DatapathKind) == notation.DATAPATHS
    assert (notation.MAX_PORT, notation.MAX_WEIGHT) == (model.MAX_PORT, model.MAX_WEIGHT)
    assert notation.MAX_FWMARK == model.MAX_FWMARK


@settings(deadline=None)  # a busy machine is no failure
@given(st.ip_addresses().filter(lambda a: "%" not in str(a)), st.integers(0, 65535))
def test_endpoints_are_written_as_the_model_writes_them(address, port):
    text = model.endpoint(address, port)
    where = notation.parse_endpoint(text, bare=True)
    assert (ip_address(where["address"]), where["port"]) == (address, port)
    assert notation.endpoint(where) == text
    alone = notation.parse_endpoint(str(address), bare=True)
    assert notation.endpoint(alone) == str(address)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_a_notation(text):
    for parse in (
        notation.parse_server,
        notation.parse_tunnel,
        notation.parse_persistence,
        notation.parse_label,
        notation.parse_name,
    ):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)  # refused in words, and by nothing else than ValueError


@pytest.mark.parametrize("text", ["0", "1.5", "500ms", "90s", "5m", "1h", "2d", "0.125h"])
def test_durations_last_as_long_as_in_documents(text):
    parsed = notation.parse_duration(text)
    assert notation.seconds(parsed) == seconds(parsed)


def test_the_reference_page_is_up_to_date():
    """Write it anew with: python -m kernlb.cli.reference > docs/reference/cli.md"""
    assert REFERENCE.read_text() == "\n".join(reference.pages())
