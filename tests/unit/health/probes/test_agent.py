"""The agent check: each word of HAProxy's, and agents that do not keep to the protocol."""

from __future__ import annotations

import pytest

from kernlb.health.check import AgentCheck
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes.agent import read
from tests.unit.health.probes.far_ends import (
    SHORT,
    Handler,
    ask,
    closed_port,
    full_backlog,
    resets,
    says,
    serving,
    target,
)

LINES = [
    ("up", Outcome.PASSED, None, ""),
    ("ready", Outcome.PASSED, None, ""),
    ("UP READY", Outcome.PASSED, None, ""),
    ("75%", Outcome.PASSED, 75, ""),
    ("0%", Outcome.PASSED, 0, ""),
    ("up 50%", Outcome.PASSED, 50, ""),
    ("up,50%\t# half a machine", Outcome.PASSED, 50, "half a machine"),
    ("ready up 100% maxconn:30", Outcome.PASSED, 100, ""),
    ("300%", Outcome.PASSED, 100, ""),
    ("drain", Outcome.AGENT_DRAIN, None, "drain"),
    ("up drain", Outcome.AGENT_DRAIN, None, "up drain"),
    ("drain 20%", Outcome.AGENT_DRAIN, 20, "drain 20%"),
    ("maint", Outcome.AGENT_DOWN, None, "maint"),
    ("down", Outcome.AGENT_DOWN, None, "down"),
    ("up down", Outcome.AGENT_DOWN, None, "up down"),
    ("down drain", Outcome.AGENT_DOWN, None, "down drain"),
    ("fail#disk full", Outcome.AGENT_DOWN, None, "fail: disk full"),
    ("failed # disk full # really", Outcome.AGENT_DOWN, None, "failed: disk full # really"),
    ("stopped", Outcome.AGENT_DOWN, None, "stopped"),
    ("sideways", Outcome.MALFORMED, None, 'unknown word "sideways"'),
    ("up sideways", Outcome.PASSED, None, 'unknown word "sideways"'),
    ("sideways,up upside-down", Outcome.PASSED, None, 'unknown word "sideways"'),
    ("load=3 50% # half a machine", Outcome.PASSED, 50, 'unknown word "load=3": half a machine'),
    ("up -5%", Outcome.PASSED, None, 'unknown word "-5%"'),
    ("up Maxconn:many", Outcome.PASSED, None, 'unknown word "maxconn:many"'),
    ("sideways drain", Outcome.AGENT_DRAIN, None, "sideways drain"),
    ("down sideways # disk full", Outcome.AGENT_DOWN, None, "down sideways: disk full"),
    ("sideways maxconn:30", Outcome.MALFORMED, None, 'unknown word "sideways"'),
    ("sideways upside-down", Outcome.MALFORMED, None, 'unknown word "sideways"'),
    ("-5%", Outcome.MALFORMED, None, 'unknown word "-5%"'),
    ("%", Outcome.MALFORMED, None, 'unknown word "%"'),
    ("\u0665%", Outcome.MALFORMED, None, 'unknown word "\u0665%"'),
    ("", Outcome.MALFORMED, None, "the line says nothing"),
    ("# fine, thank you", Outcome.MALFORMED, None, "the line says nothing"),
    ("maxconn:30", Outcome.MALFORMED, None, "the line says nothing"),
]


@pytest.mark.parametrize(("said", "outcome", "percent", "detail"), LINES)
def test_a_line_says(said: str, outcome: Outcome, percent: int | None, detail: str) -> None:
    assert read(said) == (outcome, detail, percent)


AGENTS: dict[str, tuple[Handler, Outcome]] = {
    "a line": (says(b"up 75%\n"), Outcome.PASSED),
    "a line ended by CR": (says(b"up 75%\r", then_hang=True), Outcome.PASSED),
    "a line ended by closing": (says(b"up 75%"), Outcome.PASSED),
    "a line in pieces": (says(b"u", b"p 7", b"5%", b"\n", then_hang=True), Outcome.PASSED),
    "two lines": (says(b"up 75%\ndown\n", then_hang=True), Outcome.PASSED),
    "drain": (says(b"drain\n"), Outcome.AGENT_DRAIN),
    "down": (says(b"down\n"), Outcome.AGENT_DOWN),
    "nothing": (says(), Outcome.CLOSED),
    "hang": (says(then_hang=True), Outcome.RESPONSE_TIMEOUT),
    "half a line": (says(b"u", then_hang=True), Outcome.STALLED),
    "an empty line": (says(b"\n"), Outcome.MALFORMED),
    "no UTF-8": (says(b"\xff\xfe\n"), Outcome.MALFORMED),
    "control characters": (says(b"\x1b[2Jup\n"), Outcome.MALFORMED),
    "HTTP": (says(b"HTTP/1.1 200 OK\r\n\r\n"), Outcome.MALFORMED),
    "a million bytes": (says(b"a" * 1_000_000, then_hang=True), Outcome.TOO_LONG),
    "a million bytes and a line": (says(b"a" * 1_000_000 + b"\n"), Outcome.TOO_LONG),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent(agent: str) -> None:
    handler, outcome = AGENTS[agent]
    slow = outcome in (Outcome.STALLED, Outcome.RESPONSE_TIMEOUT)
    with serving(handler) as port:
        result = ask(AgentCheck(port), target(1), *([SHORT] if slow else []))
    assert result.outcome is outcome, result
    assert result.percent == (75 if outcome is Outcome.PASSED else None)


def test_the_agent_hears_what_is_sent_first() -> None:
    heard: list[bytes] = []

    def echo(connection) -> None:  # type: ignore[no-untyped-def]
        heard.append(connection.recv(100))
        connection.sendall(b"up\n")

    with serving(echo) as port:
        assert ask(AgentCheck(port, send="web1\n"), target(1)).outcome is Outcome.PASSED
    assert set(heard) == {b"web1\n"}


def test_an_agent_that_resets() -> None:
    with serving(resets) as port:
        assert ask(AgentCheck(port, send="?"), target(1)).outcome is Outcome.RESET


def test_no_agent() -> None:
    assert ask(AgentCheck(closed_port()), target(1)).outcome is Outcome.REFUSED


def test_an_agent_that_accepts_nobody() -> None:
    with full_backlog() as port:
        result: Result = ask(AgentCheck(port), target(1), SHORT)
    assert result.outcome is Outcome.CONNECT_TIMEOUT
    assert result.duration >= SHORT - 0.01  # the loop's clock goes by milliseconds
