"""``kernlb health`` as people and programs read it, and the line of it in ``kernlb status``."""

from __future__ import annotations

import json
from textwrap import dedent

import msgspec
import pytest

from kernlb.control.protocol import ProblemKind
from kernlb.control.protocol_health import (
    Health,
    Lateness,
    MonitorView,
    ProbeView,
    ServerHealth,
    ServiceHealth,
)
from tests.unit.cli import boards, views

NOW = views.NOW
MONITOR = MonitorView(12, 1, 2, Lateness(0.0004, 0.0021, 0.0123), suspensions=2)
GOOD = [ProbeView(NOW - age, "passed", "good", 0.0012) for age in (2, 7, 12)]
BAD = [
    ProbeView(NOW - 1, "wrong status", "bad", 0.031, "500, expected 200-399"),
    ProbeView(NOW - 3, "prober was late", "none", 2.0, "no reply"),
    ProbeView(NOW - 9, "passed", "good", 0.004),
]
WEB = ServiceHealth(
    "web",
    "below quorum",
    2,
    [
        ServerHealth("10.0.0.1:80", "http", "up", "up", NOW - 4000, 3.04, sharing=3, probes=GOOD),
        ServerHealth(
            "10.0.0.2:80", "http", "down", "kept", NOW - 65, 0.0, 4, probes=BAD,
            why="wrong status: 500, expected 200-399; kept all the same: too few would be left",
        ),
    ],
    withdrawn=True,
)  # fmt: skip
DNS = ServiceHealth(
    "dns",
    "waiting",
    1,
    [ServerHealth("10.0.0.9:53", "agent", "waiting", "waiting", NOW, 0.4, 0, 75)],
)
SUMMARY = "12 targets, 1 down, 2 waiting"


def text(said: str) -> str:
    return dedent(said).lstrip("\n").rstrip(" ")


def test_health_says_of_every_server_how_it_is_and_why(daemon, kernlb):
    daemon.says("GET /v1/health", Health(MONITOR, [DNS, WEB]))
    assert kernlb("health") == (0, text("""
        12 targets, 1 down, 2 waiting
        probes start late by 0.4 ms (median), 2.1 ms (99 %), 12 ms (worst); suspended 2 times since it started

        dns  waiting
        SERVER       CHECK  CONDITION  STATE    SINCE   RESULTS  TOOK  NEXT  SHARED  WHY
        10.0.0.9:53  agent  waiting    waiting  0s ago  -           -  0.4s       1  asks for 75 % of its weight

        web  below quorum, quorum 2, VIP withdrawn
        SERVER       CHECK  CONDITION  STATE  SINCE      RESULTS    TOOK  NEXT  SHARED  WHY
        10.0.0.1:80  http   up         up     1h 6m ago  +++      1.2 ms  3.0s       3
        10.0.0.2:80  http   down       kept   1m 5s ago  -?+       31 ms   now       1  wrong status: 500, expected 200-399; kept all the same: too few would be left
    """), "")  # fmt: skip  # noqa: E501


def test_health_of_one_service_lists_its_probes(daemon, kernlb):
    daemon.says("GET /v1/health?service=web", Health(MONITOR, [WEB]))
    out = kernlb("health", "web").out
    assert out.endswith(text("""
        10.0.0.2:80
               1s ago  wrong status: 500, expected 200-399 (31 ms)
               3s ago  prober was late: no reply (2000 ms)
               9s ago  passed (4.0 ms)
    """))  # fmt: skip


def test_programs_get_it_whole(daemon, kernlb):
    daemon.says("GET /v1/health", Health(MONITOR, [WEB]))
    view = json.loads(kernlb("health", "-o", "json").out)
    assert msgspec.convert(view, Health) == Health(MONITOR, [WEB])


def test_without_checks_it_says_so(daemon, kernlb):
    daemon.says("GET /v1/health", Health(MonitorView(0, 0, 0, Lateness(0, 0, 0)), []))
    assert kernlb("health").out.endswith("no server has a check\n")


def test_a_service_that_is_not_there_is_refused(daemon, kernlb):
    daemon.refuses(ProblemKind.NOT_FOUND, "there is no service nowhere")
    assert kernlb("health", "nowhere") == (1, "", "error: there is no service nowhere\n")


def test_text_of_servers_cannot_steer_the_terminal(daemon, kernlb):
    evil = ProbeView(NOW, "wrong body", "bad", 0.0, "\x1b[2J")
    server = ServerHealth(
        "10.0.0.1:80", "http", "up", "up", NOW, 1.0, 1, why="\x1b[2J", probes=[evil]
    )
    daemon.says(
        "GET /v1/health?service=w", Health(MONITOR, [ServiceHealth("w", "serving", 1, [server])])
    )
    out = kernlb("health", "w").out
    assert "\x1b" not in out
    assert out.count("\\x1b[2J") == 2


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, SUMMARY),
        ({"waiting": 0}, "12 targets, 1 down"),
        (
            {"suspended": True},
            f"{SUMMARY}; SUSPENDED: the prober is late, bad results do not count",
        ),
        ({"partition_held": True}, f"{SUMMARY}; HELD: everything fails at once, verdicts wait"),
    ],
)
def test_status_has_a_line_of_it(daemon, kernlb, changed, line):
    monitor = msgspec.structs.replace(MONITOR, **changed)
    status = msgspec.structs.replace(boards.STATUS, health=monitor)
    daemon.says("GET /v1/overview?history=0", boards.overview(status=status))
    assert f"health    {line}" in kernlb("status").out.splitlines()
