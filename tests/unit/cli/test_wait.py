"""``kernlb wait``: what holds, what will, what never does; with a real daemon at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from msgspec.structs import replace

from kernlb.cli import wait_condition
from kernlb.cli.app import run
from kernlb.cli.console import Console
from kernlb.control.protocol import ProblemKind, ServerStatsView, ServiceStatsView
from kernlb.control.protocol_health import (
    Health,
    Lateness,
    MonitorView,
    ServerHealth,
    ServiceHealth,
)
from kernlb.control.protocol_overview import Events
from tests.unit.cli import boards
from tests.unit.cli.daemon_process import DaemonProcess
from tests.unit.cli.views import COUNTERS, NOW

UP, TWO, THREE = boards.server(1), boards.server(2), boards.server(3)
WAITING = boards.server(2, state="waiting", condition="waiting")
UNCONFIRMED = boards.server(2, condition="unconfirmed")
DRAINING = boards.server(2, state="draining")


def stats(server, active):
    line = ServerStatsView(server.server, 0, active, 3, 0, COUNTERS)
    return [ServiceStatsView("web", "tcp/192.0.2.10:80", COUNTERS, [line])]


@pytest.mark.parametrize(
    ("service", "met"),
    [
        (boards.service("web", UP, TWO), True),
        (boards.service("web", UP, DRAINING), True),  # an operator wants it so
        (boards.service("web", UP, boards.server(2, state="disabled")), True),
        (boards.service("web", UP, boards.server(2, state="standby")), True),
        (boards.service("web", UP, replace(TWO, condition="", check="")), True),
        (boards.service("web", UP, boards.DOWN), False),
        (boards.service("web", UP, WAITING), False),
        (boards.service("web", UP, UNCONFIRMED), False),
        (boards.service("web", UP, replace(TWO, condition="held")), False),
        (boards.service("web", DRAINING), False),
        (boards.service("web", UP, state="failed", error="no such device"), False),
    ],
)
def test_healthy_is_every_server_up_that_is_to_serve(service, met):
    assert wait_condition.healthy(service).met is met


@pytest.mark.parametrize(
    ("service", "met"),
    [
        (boards.service("web", UP, boards.DOWN), True),
        (boards.service("web", UP, phase=""), True),
        (boards.service("web", UP, boards.DOWN, phase="below quorum"), False),
        (boards.service("web", boards.DOWN, phase="all down"), False),
        (boards.service("web", boards.DOWN, phase=""), False),
        (boards.service("web", UP, phase="waiting"), False),
    ],
)
def test_a_quorum_is_enough_good_servers(service, met):
    assert wait_condition.quorum(service).met is met


@pytest.mark.parametrize(
    ("server", "up", "down"),
    [
        (TWO, True, False),
        (UNCONFIRMED, True, False),
        (WAITING, False, False),
        (boards.DOWN, False, True),
        (boards.server(2, state="inhibited"), False, True),
        (boards.server(2, state="kept"), False, True),
        (DRAINING, False, False),
    ],
)
def test_a_server_is_up_or_down_or_neither(server, up, down):
    service = boards.service("web", UP, server)
    for address in ("10.1.0.12", "10.1.0.12:80"):
        assert wait_condition.server_is("up", address)(service).met is up
        assert wait_condition.server_is("down", address)(service).met is down
        assert not wait_condition.server_is("gone", address)(service).met


def test_a_server_that_is_not_there_is_gone_and_never_up():
    service = boards.service("web", UP)
    assert wait_condition.server_is("gone", "10.1.0.12")(service).met
    found = wait_condition.server_is("up", "10.1.0.12")(service)
    assert found == (False, "web has no server 10.1.0.12", True)


def test_an_address_alone_is_a_server_where_one_has_it():
    six = replace(UP, server="[2001:db8::1]:80")
    other = replace(UP, server="10.1.0.11:8080")
    service = boards.service("web", UP, other, six)
    assert wait_condition.find(service, "10.1.0.11") is None
    assert wait_condition.find(service, "10.1.0.11:8080") is other
    assert wait_condition.find(service, "2001:db8::1") is six
    assert wait_condition.find(service, "[2001:db8::1]:80") is six


@pytest.mark.parametrize(
    ("server", "active", "found"),
    [
        (DRAINING, 2, (False, "draining, 2 active connections", False)),
        (DRAINING, 1, (False, "draining, 1 active connection", False)),
        (DRAINING, 0, (True, "draining, no active connections", False)),
        (boards.DOWN, 0, (True, "down, no active connections", False)),
        (boards.server(2, state="drained"), 5, (True, "its deadline has passed", False)),
        (TWO, 0, (False, "it is up, and not to be drained", True)),
        (boards.server(2, state="kept"), 0, (False, "it is kept, and not to be drained", True)),
    ],
)
def test_drained_is_nobody_left_and_nobody_new(server, active, found):
    service = boards.service("web", UP, server)
    assert wait_condition.drained(service, "10.1.0.12", stats(server, active)) == found


def verdicts(*conditions):
    servers = [ServerHealth(f"10.0.0.{at}:80", "tcp", condition, "up", NOW, 1.0)
               for at, condition in enumerate(conditions)]  # fmt: skip
    monitor = MonitorView(len(servers), 0, 0, Lateness(0, 0, 0))
    return Health(monitor, [ServiceHealth("web", "serving", 1, servers)])


@pytest.mark.parametrize(
    ("services", "conditions", "now"),
    [
        ({"synced": 2}, ["up", "down"], None),
        ({"synced": 1, "failed": 1}, [], None),
        ({"synced": 1, "pending": 1}, ["up"], "1 services pending"),
        ({"synced": 1}, ["up", "waiting", "unconfirmed"], "2 of 3 servers without a verdict"),
    ],
)
def test_ready_is_carried_out_and_judged(services, conditions, now):
    status = replace(boards.STATUS, services=services)
    found = wait_condition.ready(status, verdicts(*conditions))
    assert found.met is (now is None)
    assert now in (None, found.now)


# The command, against a stub.

ONE = "GET /v1/overview?service=web&history=0"


@pytest.fixture
def stub(daemon):
    daemon.says("GET /v1/events?limit=1&service=web", Events([], 7))
    daemon.says("GET /v1/events?since=7&limit=1&service=web&wait=0.25", Events([], 8))
    return daemon


def test_it_waits_by_the_daemons_events_and_says_what_is_new(stub, kernlb):
    bad = boards.overview(boards.service("web", UP, boards.DOWN))
    stub.says(ONE, bad, bad, boards.overview())
    outcome = kernlb("wait", "healthy", "web")
    assert outcome.code == 0
    assert outcome.out.endswith(": 3 of 3 servers up\n")
    said = outcome.err.splitlines()
    assert said[0] == "waiting for web to be healthy, 60 s at most"
    assert [line.split("s  ")[1] for line in said[1:]] == [
        "10.1.0.12:80 is down (wrong status: 503)"
    ]
    asked = [request.path for request in stub.requests]
    assert asked.count("/v1/events?since=7&limit=1&service=web&wait=0.25") == 2


def test_what_did_not_come_in_time_exits_5_with_the_last_state(stub, kernlb):
    stub.says(ONE, boards.overview(boards.service("web", state="failed", error="no such device")))
    outcome = kernlb("wait", "service", "web", "synced", "--timeout", "0")
    assert outcome.code == 5
    why = "cannot see service web to be synced within 0 s: failed: no such device"
    assert outcome.err.endswith(f"error: {why}\n")
    outcome = kernlb("wait", "service", "web", "synced", "--timeout", "0", "-o", "json")
    assert (outcome.code, outcome.err) == (5, "")
    found = json.loads(outcome.out)
    assert (found["met"], found["now"]) == (False, "failed: no such device")


def test_what_never_will_be_exits_1_at_once(stub, kernlb):
    stub.says(ONE, boards.overview())
    stub.says("GET /v1/stats?service=web", stats(TWO, 2))
    outcome = kernlb("wait", "drained", "web", "10.1.0.12")
    assert outcome.code == 1
    assert "it is up, and not to be drained" in outcome.err
    stub.says(ONE, boards.overview())
    assert kernlb("wait", "server", "web", "10.9.9.9", "up").code == 1


def test_a_service_that_is_not_there_is_refused_or_gone(stub, kernlb):
    stub.refuses(ProblemKind.NOT_FOUND, "there is no service web")
    assert kernlb("wait", "healthy", "web").code == 1
    for words in (["service", "web", "gone"], ["server", "web", "10.1.0.12", "gone"]):
        outcome = kernlb("wait", *words)
        assert outcome.code == 0
        assert outcome.out.endswith(": there is no service web\n")


def test_drained_counts_again_without_events(stub, kernlb):
    stub.says(ONE, boards.overview(boards.service("web", UP, DRAINING)))
    again = "GET /v1/events?since=7&limit=1&service=web&wait=0.25"
    stub.says(again, Events([], 7))
    stub.says("GET /v1/stats?service=web", stats(TWO, 2), stats(TWO, 2), stats(TWO, 0))
    for words in (["drained", "web", "10.1.0.12"], ["server", "web", "10.1.0.12", "drained"]):
        outcome = kernlb("wait", *words)
        assert outcome.code == 0
        assert outcome.out.endswith("draining, no active connections\n")


def test_a_daemon_that_is_away_exits_4_but_ready_waits_for_it(kernlb_at, tmp_path):
    kernlb = kernlb_at(tmp_path / "nowhere")
    assert kernlb("wait", "healthy", "web").code == 4
    outcome = kernlb("wait", "ready", "--timeout", "0")
    assert outcome.code == 5
    assert "no such socket" in outcome.err


# And with a real daemon, whose servers are probed for real.


class Backend(BaseHTTPRequestHandler):
    """Good until it is told otherwise."""

    status = 200

    def do_GET(self):
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def backend():
    class Own(Backend):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Own, server.server_port
        server.shutdown()


def waiting(daemon, *words):
    argv = [sys.executable, "-m", "kernlb.cli", "--socket", str(daemon.socket), "wait", *words]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stderr.readline()  # it has begun
    return process


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def test_scripts_wait_for_verdicts_and_for_the_daemon(tmp_path, backend):
    kind, port = backend
    daemon = DaemonProcess(tmp_path)
    kernlb = lambda *words: run(["--socket", str(daemon.socket), *words], Console())  # noqa: E731
    ready = waiting(daemon, "ready")
    daemon.start()
    try:
        assert ended(ready)[0] == 0
        check = {"type": "http", "interval": 0.5, "timeout": 0.5, "rise": 1, "fall": 1}
        daemon.declare("web", port=port, servers=0, check=check)
        assert kernlb("server", "add", "web", "127.0.0.1") == 0
        assert kernlb("wait", "server", "web", "127.0.0.1", "up") == 0
        assert kernlb("wait", "healthy", "web") == 0
        down = waiting(daemon, "server", "web", "127.0.0.1", "down")
        kind.status = 503
        code, said = ended(down)
        assert (code, "503" in said) == (0, True)
        assert kernlb("wait", "healthy", "web", "--timeout", "300ms") == 5
        quorum = waiting(daemon, "quorum", "web")
        assert "0 of 1 servers serving" in quorum.stderr.readline()
        daemon.stop()  # the one who waits does so through this, too
        kind.status = 200
        daemon.start()
        assert ended(quorum)[0] == 0
        gone = waiting(daemon, "service", "web", "gone")
        daemon.client.remove_service("web")
        assert ended(gone)[0] == 0
    finally:
        daemon.stop()
