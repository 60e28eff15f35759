"""`kernlb unload` on a balancer that forwards by XDP: lists what a stop left, and takes it away."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kernlb.lab.namespaces import enter
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.daemon import Daemon, fork_into
from tests.netns.traffic.web import assert_answered

pytestmark = pytest.mark.netns


def unload(daemon: Daemon, pins: Path, *words: str, code: int = 0) -> str:
    """`kernlb unload` in the daemon's network namespace; what it printed."""
    said = daemon.socket.with_name("unload.out")
    said.unlink(missing_ok=True)
    state = daemon.socket.with_name("state")
    argv = ["--socket", str(daemon.socket), "unload", "--state-dir", str(state)]

    def run() -> int:
        enter(daemon.namespace)
        from kernlb.cli.app import run

        return run([*argv, "--pins", str(pins), *words])

    _, status = os.waitpid(fork_into(run, said), 0)
    assert os.waitstatus_to_exitcode(status) == code, said.read_text()
    return said.read_text()


def test_what_a_stop_left_forwarding_is_listed_and_taken_away(
    balancer: Balancer, pins: Path, vip: IPAddress
) -> None:
    daemon = balancer.daemon
    servers = balancer.servers(4)
    document = {"address": str(vip), "port": 80, "scheduler": "rr", "servers": servers}
    own = balancer.topology.front_vip(4)
    balancer.declare("web", document)
    balancer.declare("own", {**document, "address": str(own), "vip": {"interface": "front"}})
    assert "kernlbd (pid " in unload(daemon, pins, code=1)

    daemon.stop()
    assert_answered(balancer.load.http(vip, count=3))
    lines = unload(daemon, pins, "--list").splitlines()
    assert lines[:3] == [
        f"service own tcp/{own}:80 by xdp, 3 servers",
        f"service web tcp/{vip}:80 by xdp, 3 servers",
        f"vip     {own} on front",
    ]
    assert lines[3:5] == ["xdp     on back, native mode", "xdp     on front, native mode"]
    assert lines[5].startswith("xdp     program and tables, ")
    assert_answered(balancer.load.http(vip, count=3))

    assert unload(daemon, pins).splitlines() == [f"- {line}" for line in lines]
    assert not pins.exists()
    # the address that others hold stays, and the kernel itself answers there now: nobody listens
    (refused,) = balancer.load.http(vip, count=1)
    assert refused.error == "ECONNREFUSED"
    nothing = json.loads(unload(daemon, pins, "--list", "-o", "json"))
    assert (nothing["services"], nothing["vips"], nothing["xdp"]) == ([], [], None)
    assert unload(daemon, pins) == "nothing of kernlb's is in the kernel\n"

    daemon.start()
    assert_answered(balancer.load.http(vip, count=3))
