"""What comes out: tables for people, JSON for programs, and nothing that steers a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from textwrap import dedent

import pytest

from kernlb.cli.app import run
from kernlb.cli.console import Console
from kernlb.cli.render import count, span
from kernlb.control.protocol import Change, Fault, Moved, OpView, ServerState, Version
from tests.unit.cli import boards, views


def lines(text):
    return dedent(text).lstrip("\n").rstrip(" ")


@pytest.fixture
def full(daemon):
    daemon.says("GET /v1/services", views.SUMMARIES)
    daemon.says("GET /v1/services?full=true", [views.WEB, views.service()])
    daemon.says("GET /v1/services/web", views.WEB)
    daemon.says("GET /v1/services/dns", views.service())
    daemon.says("GET /v1/stats", views.STATS)
    daemon.says("GET /v1/stats?service=web", views.STATS)
    daemon.says("GET /v1/overview?history=0", boards.overview())
    daemon.says("GET /v1/version", Version("9.9", "/v1", 42))
    return daemon


def test_service_ls_is_a_line_a_service(full, kernlb):
    assert kernlb("service", "ls") == (0, lines("""
        NAME  KEY                DATAPATH  SCHEDULER  FORWARDING  SERVING  STATE
        web   tcp/192.0.2.10:80  ipvs      wlc        nat         2/3      synced
        dns   udp/192.0.2.10:53  ipvs      mh         mixed       0/2      failed: no such device
        -     tcp/192.0.2.99:1   ipvs      rr         dsr         1/1      foreign
    """), "")  # fmt: skip


@pytest.mark.parametrize(
    ("selectors", "names"),
    [(["team"], ["web", "dns"]), (["team=net"], ["dns"]), (["team", "team=x"], []), ([], ["web",
     "dns", ""])],
)  # fmt: skip
def test_labels_select(full, kernlb, selectors, names):
    options = [word for selector in selectors for word in ("--label", selector)]
    out = kernlb("service", "ls", "-o", "json", *options).out
    assert [each["name"] for each in json.loads(out)] == names


def test_service_show_is_a_block(full, kernlb):
    assert kernlb("service", "show", "web") == (0, lines("""
        web  tcp/192.0.2.10:80
          state        synced
          datapath     ipvs
          scheduler    mh mh-fallback mh-port
          persistence  300 s for a /24
          vip          on eth0
          labels       team=web
          file         /etc/kernlb/services.d/web.yaml

        SERVER            FORWARDING            WEIGHT  EFFECTIVE  KERNEL  STATE     SINCE
        10.0.0.1:80       tunnel gue:6080+csum       1          1       1  up
        10.0.0.2:80       nat                        5          0       0  draining  1m 30s ago (drops in 30s)
        [2001:db8::3]:80  nat                        1          0       -  disabled  2h 1m ago
    """), "")  # fmt: skip  # noqa: E501


def test_server_ls_names_the_service_of_each(full, kernlb):
    out = kernlb("server", "ls").out.splitlines()
    assert out[0].split()[:2] == ["SERVICE", "SERVER"]
    assert [line.split()[:2] for line in out[1:]] == [
        ["web", "10.0.0.1:80"],
        ["web", "10.0.0.2:80"],
        ["web", "[2001:db8::3]:80"],
    ]


def test_stats_are_rounded_for_people(full, kernlb):
    out = kernlb("stats", "web").out
    numbers = "1.23k 56.8k 999 12.3M 0"
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "SERVICE SERVER WEIGHT ACTIVE INACTIVE PERSISTENT"
        " CONNS PKTS-IN PKTS-OUT BYTES-IN BYTES-OUT",
        f"web 4 4 5 {numbers}",
        f"10.0.0.1:80 1 3 4 5 {numbers}",
        f"10.0.0.2:80 0 1 0 0 {numbers}",
    ]
    rates = kernlb("stats", "--rate").out.splitlines()[1]
    assert " ".join(rates.split()) == "web 4 4 5 1 2 3 4 5.00M"


def test_stats_are_exact_for_programs(full, kernlb):
    (view,) = json.loads(kernlb("stats", "-o", "json").out)
    assert view["counters"]["bytes_in"] == 12_345_678
    assert view["servers"][0]["active"] == 3


READERS = ["service ls", "service show web", "server ls", "server ls web", "stats", "stats web",
           "status", "version", "plan", "schema service", "schema settings"]  # fmt: skip


@pytest.mark.parametrize("line", READERS)
def test_every_reader_has_json(full, kernlb, line):
    before, after = kernlb("-o", "json", *line.split()), kernlb(*line.split(), "-o", "json")
    assert before.code == after.code == 0
    assert json.loads(before.out) == json.loads(after.out)


@pytest.mark.parametrize("line", READERS)
def test_a_pipe_gets_neither_colours_nor_boxes(full, kernlb, line):
    assert not re.search(r"[\x1b\u2500-\u257f]", kernlb(*line.split()).out)


def test_versions_are_those_of_both_ends(full, kernlb, kernlb_at, tmp_path):
    assert kernlb("version").out.splitlines()[1] == "kernlbd 9.9 (api /v1, pid 42)"
    alone = kernlb_at(tmp_path / "nowhere")("version", "-o", "json")
    assert alone.code == 0
    assert json.loads(alone.out)["daemon"] is None


PLAN = Change(
    ops=[
        OpView("add", "server", "web", "+ server  tcp/192.0.2.10:80 10.0.0.3:80 weight 1 nat"),
        OpView("edit", "server", "web", "~ server  tcp/192.0.2.10:80 10.0.0.2:80 weight 1 -> 2"),
        OpView("remove", "server", "web", "- server  tcp/192.0.2.10:80 10.0.0.1:80"),
    ],
    applied=False,
    moved=[Moved("web", "mh", 0.3333)],
)


def test_a_plan_with_changes_exits_3_and_says_which_flows_move(daemon, kernlb):
    daemon.change = PLAN
    assert kernlb("plan") == (3, lines("""
        + server  tcp/192.0.2.10:80 10.0.0.3:80 weight 1 nat
        ~ server  tcp/192.0.2.10:80 10.0.0.2:80 weight 1 -> 2
        - server  tcp/192.0.2.10:80 10.0.0.1:80
        33.3 % of new flows of web (mh) would move
    """), "")  # fmt: skip


def test_a_plan_without_changes_exits_0(daemon, kernlb):
    assert kernlb("plan") == (0, "no changes\n", "")


def test_a_reload_tells_bad_files_and_exits_1(daemon, kernlb):
    fault = Fault("weight -1 is not within 0..65535", "services.d/web.yaml", 4, "servers[1].weight")
    daemon.change = Change([OpView("add", "service", "dns", "+ service x")], True, faults=[fault])
    outcome = kernlb("reload")
    assert (outcome.code, outcome.out) == (1, "+ service x\n")
    assert outcome.err.splitlines() == [
        "error: weight -1 is not within 0..65535 (services.d/web.yaml:4: servers[1].weight)",
        "of a bad file the last good version, if there is one, stays in force",
    ]


def test_a_change_that_was_not_carried_out_is_no_success(daemon, kernlb):
    daemon.change = PLAN
    assert kernlb("reload").code == 1


def test_warnings_go_beside_the_answer(daemon, kernlb):
    daemon.change = Change([], True, warnings=["the address is not local"])
    assert kernlb("reload") == (0, "no changes\n", "warning: the address is not local\n")


def test_a_drain_is_watched_until_the_last_connection_ends(daemon, kernlb):
    draining = views.service(views.server(ServerState.DRAINING))
    daemon.says("GET /v1/services/web", draining)
    daemon.says("GET /v1/stats?service=web", *[views.stats(n) for n in (2, 2, 1, 0)])
    outcome = kernlb("server", "drain", "web", "10.0.0.1", "--wait")
    assert outcome.code == 0
    assert outcome.err.splitlines() == [
        "web/10.0.0.1: 2 active connections",
        "web/10.0.0.1: 1 active connection",
        "web/10.0.0.1: drained, no active connections",
    ]


def test_a_drain_ends_at_its_deadline(daemon, kernlb):
    daemon.says(
        "GET /v1/services/web",
        views.service(views.server(ServerState.DRAINING)),
        views.service(views.server(ServerState.DRAINED)),
    )
    daemon.says("GET /v1/stats?service=web", views.stats(2))
    outcome = kernlb("server", "drain", "web", "10.0.0.1:80", "--wait")
    assert outcome.code == 0
    assert outcome.err.endswith("web/10.0.0.1:80: drained, its deadline has passed\n")


def test_waiting_for_a_drain_has_an_end(daemon, kernlb):
    daemon.says("GET /v1/services/web", views.service(views.server(ServerState.DRAINING)))
    daemon.says("GET /v1/stats?service=web", views.stats(2))
    outcome = kernlb("server", "drain", "web", "10.0.0.1", "--wait", "--wait-timeout", "2s")
    assert outcome.code == 1
    assert outcome.err.endswith(
        "error: cannot see web/10.0.0.1 drained: 2 active after 2 s; it goes on\n"
    )


def test_a_server_enabled_meanwhile_is_not_drained(daemon, kernlb):
    daemon.says("GET /v1/services/web", views.service(views.server(ServerState.UP)))
    assert kernlb("server", "drain", "web", "10.0.0.1", "--wait").code == 1


def test_a_reader_that_has_seen_enough_gets_no_traceback(full):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "kernlb.cli", "--socket", full.path, "service", "ls"],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("options", "environment", "coloured"),
    [
        ([], {}, True),
        (["--no-color"], {}, False),
        ([], {"NO_COLOR": ""}, False),
        ([], {"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_gets_colours_unless_it_declines(
    daemon, monkeypatch, options, environment, coloured
):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    daemon.change = PLAN
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert run(["--socket", str(daemon.path), "plan", *options], Console()) == 3
    assert ("\x1b[32m+ server" in terminal.getvalue()) is coloured
    assert ("\x1b" in terminal.getvalue()) is coloured


def test_text_from_elsewhere_cannot_steer_the_terminal(daemon, kernlb):
    daemon.change = Change([OpView("add", "service", "web", "+ \x1b[2Jgone\nnew line")], True)
    assert kernlb("reload").out == "+ \\x1b[2Jgone\\nnew line\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00k"), (9994, "9.99k"), (9996, "10.0k"), (99_960, "100k"),
     (999_499, "999k"), (999_500, "1.00M"), (123_456_789, "123M"), (2**63, "9223P")],
)  # fmt: skip
def test_counts_have_three_digits(number, text):
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0s"), (0.4, "0s"), (59.6, "1m"), (3600, "1h"), (90061, "1d 1h")]
)
def test_spans_have_two_units(seconds, text):
    assert span(seconds) == text
