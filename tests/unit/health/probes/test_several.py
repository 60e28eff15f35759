"""Several checks as one: decided as early as may be, by real checks too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import permutations

import pytest

from kernlb.health.check import AgentCheck, Check, ExecCheck, HttpCheck, Several, TcpCheck, UdpCheck
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import Done
from kernlb.health.probes.several import Finding, SeveralProbe, decide, names
from tests.unit.health.probes.far_ends import (
    answering,
    ask,
    ask_probe,
    closed_port,
    run,
    says,
    serving,
    target,
)

GOOD = Result(Outcome.PASSED, 0.1)
WARNS = Result(Outcome.EXIT_WARNING, 0.1, "disk is filling")
DRAINS = Result(Outcome.AGENT_DRAIN, 0.1, "drain")
HALF = Result(Outcome.PASSED, 0.1, "", 50)
BAD = Result(Outcome.REFUSED, 0.1)
WORSE = Result(Outcome.WRONG_STATUS, 0.1, "500, expected 200-399")
NONE = Result(Outcome.NOT_ASKED, 0.1, "no descriptor")

FEW = Outcome.TOO_FEW_PASSED
CASES: list[tuple[int, Sequence[Result], Outcome, str]] = [
    (1, [GOOD], Outcome.PASSED, ""),
    (1, [BAD], FEW, "0: connection refused"),
    (2, [GOOD, GOOD], Outcome.PASSED, ""),
    (2, [GOOD, WORSE], FEW, "1: wrong status: 500, expected 200-399"),
    (1, [GOOD, BAD], Outcome.PASSED, ""),
    (1, [BAD, WORSE], FEW, "0: connection refused; 1: wrong status: 500, expected 200-399"),
    (2, [GOOD, GOOD, BAD], Outcome.PASSED, ""),
    (2, [GOOD, BAD, BAD], FEW, "1: connection refused; 2: connection refused"),
    (1, [NONE], Outcome.NOT_ASKED, "0: could not ask: no descriptor"),
    (2, [GOOD, NONE], Outcome.NOT_ASKED, "1: could not ask: no descriptor"),
    (1, [BAD, NONE], Outcome.NOT_ASKED, "1: could not ask: no descriptor"),
    (1, [GOOD, NONE], Outcome.PASSED, ""),
    (2, [BAD, NONE], FEW, "0: connection refused"),
    (2, [GOOD, BAD, NONE], Outcome.NOT_ASKED, "2: could not ask: no descriptor"),
    (3, [GOOD, WARNS, HALF], Outcome.EXIT_WARNING, "disk is filling"),
    (3, [WARNS, DRAINS, GOOD], Outcome.AGENT_DRAIN, "drain"),
]


@pytest.mark.parametrize(("need", "results", "outcome", "detail"), CASES)
def test_all_together(need: int, results: Sequence[Result], outcome: Outcome, detail: str) -> None:
    findings = [Finding(str(n), result) for n, result in enumerate(results)]
    decided = decide(need, len(findings), findings)
    assert decided is not None
    assert (decided.outcome, decided.detail) == (outcome, detail)


def test_the_least_weight_that_is_asked_for_counts() -> None:
    quarter = HALF._replace(percent=25)
    findings = [Finding(str(n), each) for n, each in enumerate((HALF, GOOD, quarter))]
    decided = decide(3, 3, findings)
    assert decided is not None
    assert decided.percent == 25


@pytest.mark.parametrize(("need", "results", "outcome", "detail"), CASES)
def test_what_is_decided_early_stays_decided(
    need: int, results: Sequence[Result], outcome: Outcome, detail: str
) -> None:
    for order in permutations(results):
        findings = [Finding(str(n), result) for n, result in enumerate(order)]
        opinions = [
            decided.outcome.opinion
            for n in range(1, len(findings) + 1)
            if (decided := decide(need, len(findings), findings[:n])) is not None
        ]
        assert opinions
        assert set(opinions) == {outcome.opinion}


def test_checks_are_called_by_kind_and_port() -> None:
    checks = [TcpCheck(), TcpCheck(), HttpCheck(port=8080), AgentCheck(9), ExecCheck(("/x",))]
    assert names(checks) == ["tcp (1)", "tcp (2)", "http 8080", "agent 9", "exec"]


class Scripted:
    """Ends when it is told to."""

    def __init__(self) -> None:
        self.done: Done | None = None
        self.cancelled = 0

    def start(self, done: Done) -> Scripted:
        self.done = done
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def scripted(need: int, of: int) -> tuple[list[Scripted], SeveralProbe]:
    parts: list[Scripted] = []

    def make(check: Check, timeout: float, to: object, loop: object) -> Scripted:
        parts.append(Scripted())
        return parts[-1]

    check = Several(tuple(TcpCheck(n) for n in range(of)), need)
    loop = asyncio.new_event_loop()
    loop.close()
    return parts, SeveralProbe(check, 1.0, target(80), loop, make)


@pytest.mark.parametrize(("need", "result"), [(1, GOOD), (3, BAD)])
def test_it_ends_as_soon_as_it_is_decided_and_cancels_the_rest(need: int, result: Result) -> None:
    parts, probe = scripted(need, 3)
    heard: list[Result] = []
    probe.start(heard.append)
    assert parts[1].done is not None
    parts[1].done(result)
    assert [each.outcome.opinion for each in heard] == [result.outcome.opinion]
    assert parts[0].cancelled
    assert parts[2].cancelled
    assert parts[0].done is not None
    parts[0].done(GOOD)  # too late
    assert len(heard) == 1


def test_one_that_is_cancelled_cancels_all() -> None:
    parts, probe = scripted(2, 2)
    heard: list[Result] = []
    running = probe.start(heard.append)
    running.cancel()
    running.cancel()
    assert all(each.cancelled for each in parts)
    for each in parts:
        assert each.done is not None
        each.done(GOOD)
    assert not heard


@pytest.mark.parametrize(
    ("need", "outcome", "detail"),
    [
        (1, Outcome.PASSED, ""),
        (2, Outcome.PASSED, ""),
        (3, Outcome.TOO_FEW_PASSED, "tcp {closed}: connection refused"),
    ],
)
def test_real_checks(need: int, outcome: Outcome, detail: str) -> None:
    closed = closed_port()
    with serving(says(b"up 50%\n")) as agent, answering(lambda _: [b"pong"]) as echo:
        udp = UdpCheck(b"ping", reply=b"pong", port=echo)
        check = Several((TcpCheck(closed), AgentCheck(agent), udp), need)
        result = ask(check, target(1), timeout=10)
    assert result.outcome is outcome
    assert result.detail == detail.format(closed=closed)
    assert 0 < result.duration < 5


def test_the_same_probe_runs_again() -> None:
    async def main() -> None:
        from kernlb.health.probes.making import make_probe

        with answering(lambda _: [b"pong"]) as port:
            check = Several((UdpCheck(b"ping", reply=b"pong", port=port),) * 2, 2)
            probe = make_probe(check, 10, target(1), asyncio.get_running_loop())
            for _ in range(3):
                assert (await ask_probe(probe)).outcome is Outcome.PASSED

    run(main)
