"""`kernlb unload` on a balancer that forwards by IPVS: kernlb's services go, others' stay."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from kernlb.lab.namespaces import enter
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.daemon import Daemon, fork_into
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import assert_answered

pytestmark = pytest.mark.ipvs

PROBES = "probes  3 services of IPVS that carry probes at VIPs"


def unload(daemon: Daemon, *words: str, code: int = 0) -> str:
    """`kernlb unload` in the daemon's network namespace; what it printed."""
    said = daemon.socket.with_name("unload.out")
    said.unlink(missing_ok=True)
    state = daemon.socket.with_name("state")
    argv = ["--socket", str(daemon.socket), "unload", "--state-dir", str(state)]

    def run() -> int:
        enter(daemon.namespace)
        from kernlb.cli.app import run

        return run([*argv, "--pins", str(state / "none"), *words])

    _, status = os.waitpid(fork_into(run, said), 0)
    assert os.waitstatus_to_exitcode(status) == code, said.read_text()
    return said.read_text()


def ipvsadm(balancer: Balancer, *words: str) -> str:
    argv = ["ip", "netns", "exec", balancer.namespace, "ipvsadm", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def test_services_addresses_and_probes_go_and_what_others_made_stays(balancer: Balancer) -> None:
    daemon, vip = balancer.daemon, balancer.fresh_vip(4)
    own = balancer.topology.front_vip(4)
    servers = balancer.servers(4)
    document = {"address": str(vip), "port": 80, "scheduler": "rr", "servers": servers}
    balancer.declare("web", document)
    balancer.declare("own", {**document, "address": str(own), "vip": {"interface": "front"}})
    at_vip = {"type": "tcp", "via": "vip", "interval": "1s"}
    balancer.declare("dsr", {**document, "port": 81, "forwarding": "dsr", "check": at_vip})
    ipvsadm(balancer, "-A", "-t", f"{vip}:443", "-s", "rr")
    wait_for(lambda: PROBES in unload(daemon, "--list"), 30, "probes are carried")
    assert "stop it first" in unload(daemon, code=1)

    daemon.stop()
    assert_answered(balancer.load.http(vip, count=3))
    lines = unload(daemon, "--list").splitlines()
    assert f"service web tcp/{vip}:80 by ipvs, 3 servers" in lines
    assert f"service own tcp/{own}:80 by ipvs, 3 servers" in lines
    assert f"vip     {own} on front" in lines
    assert PROBES in lines

    assert unload(daemon).splitlines() == [f"- {line}" for line in lines]
    left = [line.split() for line in ipvsadm(balancer, "-S", "-n").splitlines()]
    assert left == [["-A", "-t", f"{vip}:443", "-s", "rr"]]
    assert json.loads(unload(daemon, "--list", "-o", "json"))["services"] == []
    assert unload(daemon) == "nothing of kernlb's is in the kernel\n"

    daemon.start()
    assert_answered(balancer.load.http(vip, count=3))
