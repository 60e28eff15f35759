"""What operators see of real traffic, forwarded by XDP: shares, rates, ends of connections."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kernlb.lab.load import share_by_server
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import WEIGHTS, Balancer
from tests.netns.traffic.breaking import silent
from tests.netns.traffic.health import CHECK
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import ECHO, web

pytestmark = pytest.mark.netns

FOUND = "service web: 1 of 3 servers down"


@pytest.fixture(scope="module", autouse=True)
def quick(balancer: Balancer) -> Iterator[None]:
    """Counters are read each second."""
    balancer.daemon.settle({"overview_interval": 1})
    balancer.daemon.client.reload()
    yield
    balancer.daemon.settle({})
    balancer.daemon.client.reload()


def waiting(balancer: Balancer, *words: str) -> subprocess.Popen[str]:
    """A ``kernlb wait`` under way."""
    argv = [sys.executable, "-m", "kernlb.cli", "--socket", str(balancer.daemon.socket), "wait"]
    process = subprocess.Popen(
        [*argv, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for")
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err


def shown(text: str, column: str) -> dict[str, str]:
    """A column of the servers' lines by address, as ``status`` and ``top`` lay them out."""
    lines = text.splitlines()
    (heading,) = [line for line in lines if f" {column}" in line and "PROMISED" in line]
    end = heading.index(column) + len(column)
    found = {}
    for line in lines:
        if match := re.match(r" +([\d.]+):\d+ ", line):
            cell = re.search(r"(\S+(?: %)?)$", line[:end])
            assert cell is not None
            found[match[1]] = cell[1]
    return found


def test_received_shares_come_near_the_promised_ones(balancer: Balancer, vip: IPAddress) -> None:
    servers = balancer.servers(4, WEIGHTS)
    web(balancer, vip, scheduler="wrr", servers=servers)
    promised = {balancer.address(role, 4): weight / 6 for role, weight in WEIGHTS.items()}
    stream = balancer.load.stream(vip, rate=60)

    def near() -> dict[str, Any]:
        (line,) = balancer.daemon.client.overview(["web"]).services
        shares = {each.server.rpartition(":")[0]: each.received or 0.0 for each in line.servers}
        begun = line.rates.connections
        close = all(abs(shares[at] - share) < 0.02 for at, share in promised.items())
        enough = close and 45 < begun < 75 and len(line.history) > 3
        return {"line": line} if enough else {}

    line = wait_for(near, 40, "shares and rates settle")["line"]
    for words in (("status", "web"), ("top", "--once", "--expand", "web")):
        page = balancer.daemon.cli(*words)
        assert shown(page, "PROMISED") == {
            at: f"{share * 100:.1f} %" for at, share in promised.items()
        }
        received = shown(page, "RECEIVED")
        for at, share in promised.items():
            assert abs(float(received[at].removesuffix(" %")) / 100 - share) < 0.03, page
    assert line.rates.bytes_in > 1000
    record = stream.stop()
    assert record.failures == ()
    view = json.loads(balancer.daemon.cli("top", "--once", "-o", "json", "web"))
    assert max(each["connections"] for each in view["services"][0]["history"]) > 45


def test_a_drained_server_is_waited_for_until_its_last_connection_ends(
    balancer: Balancer, vip: IPAddress
) -> None:
    document = {"address": str(vip), "port": ECHO, "scheduler": "rr"}
    balancer.declare("echo", {**document, "servers": balancer.servers(4)})
    sessions = balancer.load.open(vip, count=6)
    mine = [each for each in sessions if each.server == "server2"]
    assert len(mine) == 2
    address = balancer.address("server2", 4)
    balancer.daemon.cli("server", "drain", "echo", address)
    process = waiting(balancer, "drained", "echo", address)
    assert process.stderr is not None
    assert "draining, 2 active connections" in process.stderr.readline()
    balancer.load.close_sessions(mine[:1])
    assert "draining, 1 active connection" in process.stderr.readline()
    assert balancer.daemon.cli("wait", "drained", "echo", address, "--timeout", "1s", code=5) == ""
    assert process.poll() is None
    balancer.load.close_sessions(mine[1:])
    code, said = ended(process)
    assert (code, "draining, no active connections" in said) == (0, True)
    balancer.load.close_sessions(each for each in sessions if each not in mine)
    balancer.daemon.client.remove_service("echo")


def test_a_server_that_falls_silent_is_seen_with_its_reason(
    balancer: Balancer, vip: IPAddress
) -> None:
    web(balancer, vip, check=CHECK)
    balancer.daemon.cli("wait", "healthy", "web", "--timeout", "20s")
    address = balancer.address("server2", 4)
    down = waiting(balancer, "server", "web", address, "down")
    with silent(balancer.lab, "server2"):
        code, said = ended(down)
        assert code == 0, said
        page = balancer.daemon.cli("status")
        assert f"WARNING   {FOUND}" in page.splitlines()
        (line,) = [line for line in page.splitlines() if line.startswith(f"  {address}:80")]
        assert line.split()[1] == "down"
        (service,) = balancer.daemon.client.overview(["web"]).services
        (server,) = [each for each in service.servers if each.server == f"{address}:80"]
        assert server.why and line.endswith(server.why)
        events = balancer.daemon.cli("events", "--service", "web", "--since", "1m")
        assert re.search(rf"{re.escape(address)}:80 up -> down: .*\(health\)", events), events
        back = waiting(balancer, "server", "web", address, "up")
    code, said = ended(back)
    assert code == 0, said
    assert share_by_server(balancer.load.http(vip, count=6))["server2"] == 2
    assert FOUND not in balancer.daemon.cli("status")
