"""``kernlb events``: what was, and what comes; from a stub, and from a real daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import msgspec
import pytest

from kernlb.control.protocol import Event, ProblemKind
from kernlb.control.protocol_overview import Events
from tests.unit.cli.daemon_process import DaemonProcess
from tests.unit.cli.views import NOW

OLD = Event(NOW - 900, "service web: added", "api by alice", 1, "web")
NEW = Event(NOW - 30, "real server web/10.0.0.1:80 up -> down", "health", 2, "web", "10.0.0.1:80")


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_events_are_a_line_each_with_who_caused_them(daemon, kernlb):
    daemon.says("GET /v1/events?limit=50", Events([OLD, NEW], 2))
    assert kernlb("events") == (
        0,
        "1970-01-12 13:31:40  service web: added (api by alice)\n"
        "1970-01-12 13:46:10  real server web/10.0.0.1:80 up -> down (health)\n",
        "",
    )


def test_the_latest_few_of_one_service(daemon, kernlb):
    daemon.says("GET /v1/events?limit=1&service=web", Events([NEW], 2))
    found = kernlb("events", "-n", "1", "--service", "web", "-o", "json")
    assert msgspec.json.decode(found.out, type=list[Event]) == [NEW]


def test_no_older_than_asked_is_as_many_as_there_are(daemon, kernlb):
    daemon.says("GET /v1/events?limit=5000", Events([OLD, NEW], 2))
    assert kernlb("events", "--since", "10m").out.count("\n") == 1
    assert kernlb("events", "--since", "1h").out.count("\n") == 2


def test_none_of_what_was_is_none(daemon, kernlb):
    daemon.says("GET /v1/events?limit=1", Events([NEW], 2))
    assert kernlb("events", "-n", "0") == (0, "", "")


def test_text_from_elsewhere_cannot_steer_the_terminal(daemon, kernlb):
    daemon.says("GET /v1/events?limit=50", Events([Event(NOW, "\x1b[2J", "\x1b[2J")], 1))
    assert "\x1b" not in kernlb("events").out


def test_following_goes_on_from_what_was_shown_and_misses_nothing(daemon, kernlb):
    burst = [Event(NOW, f"event {number}", "api", number) for number in range(3, 6)]
    daemon.says("GET /v1/events?limit=50", Events([OLD, NEW], 2))
    daemon.says("GET /v1/events?since=2&wait=25.0", Events([], 2), Events(burst, 9))
    daemon.says("GET /v1/events?since=5&wait=25.0", Events([Event(NOW, "event 6", "", 6)], 9))
    daemon.refuses(ProblemKind.INTERNAL, "enough")  # what is asked next
    outcome = kernlb("events", "--follow", "-o", "json")
    assert outcome.code == 1
    assert [json.loads(line)["number"] for line in outcome.out.splitlines()] == [1, 2, 3, 4, 5, 6]


def test_a_daemon_that_counts_from_the_start_again_is_followed_from_there(daemon, kernlb):
    daemon.says("GET /v1/events?limit=1", Events([NEW], 2))
    daemon.says("GET /v1/events?since=2&wait=25.0", Events([], 1))
    daemon.says("GET /v1/events?since=0&wait=25.0", Events([Event(NOW, "anew", "start", 1)], 1))
    daemon.refuses(ProblemKind.INTERNAL, "enough")
    assert kernlb("events", "-f", "-n", "0").out == "1970-01-12 13:46:40  anew (start)\n"


@contextmanager
def following(socket, *options):
    argv = [sys.executable, "-m", "kernlb.cli", "--socket", str(socket), "events", "--follow"]
    process = subprocess.Popen(
        [*argv, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_changes_are_told_as_they_come_over_a_restart_too(tmp_path):
    """The first line says that it follows: from then on nothing is missed."""
    daemon = DaemonProcess(tmp_path)
    daemon.start()
    try:
        daemon.declare("web")
        with following(daemon.socket, "-n", "1", "-o", "json") as follower:
            assert "service web" in json.loads(follower.stdout.readline())["text"]
            daemon.declare("dns", protocol="udp", port=53)
            event = json.loads(follower.stdout.readline())
            assert event["service"] == "dns"
            assert event["cause"].startswith("api")
            daemon.stop()
            assert "cannot reach kernlbd" in follower.stderr.readline()
            daemon.start()
            daemon.declare("ftp", port=21)
            assert follower.stderr.readline() == "kernlbd is back\n"
            while (later := json.loads(follower.stdout.readline()))["service"] != "ftp":
                assert later["number"] > event["number"]
    finally:
        daemon.stop()


def test_a_reader_that_has_seen_enough_gets_no_traceback(daemon):
    daemon.says("GET /v1/events?limit=50", Events([OLD, NEW] * 1000, 2))
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", "kernlb.cli", "--socket", str(daemon.path), "events"]
    done = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
