"""What kernlb_server waits for, with real servers behind XDP: connections, health, a new daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kernlb.datapath.xdp.loading import unload
from kernlb.lab.load import Answer
from kernlb.lab.network import Lab
from kernlb.lab.servers import nginx_command
from tests.ansible.modules_play import Ansible, Result
from tests.ansible.modules_tap import Tap
from tests.netns.traffic.daemon import Daemon
from tests.netns.traffic.wait import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

SETTINGS = {
    "defaults": {"datapath": "xdp", "forwarding": "dsr", "scheduler": "rr"},
    "xdp": {"interfaces": ["front", "back"], "connections": 131072, "connections6": 1024},
}
CHECK = {"type": "http", "path": "/health", "interval": 1, "timeout": 1, "fall": 2}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(f"kmodw{os.getpid()}", servers=2) as lab:
        yield lab


@pytest.fixture(scope="module")
def daemon(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    pins = Path(f"/sys/fs/bpf/{lab.topology.name}")
    namespace = lab.topology.namespace("balancer")
    daemon = Daemon(tmp_path_factory.mktemp("kernlb"), namespace, SETTINGS)
    daemon.start("--pins", str(pins))
    yield daemon
    daemon.stop()
    unload(pins)


@pytest.fixture(scope="module")
def ansible(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return Ansible(tmp_path_factory.mktemp("ansible"), daemon.socket)


def declare(lab: Lab, daemon: Daemon, name: str, vip: int, port: int, **more: Any) -> None:
    document = {
        "address": str(lab.topology.vips(4)[vip]),
        "port": port,
        "vip": {"interface": "lo"},
        "servers": [{"address": str(server.v4)} for server in lab.topology.servers],
        **more,
    }
    daemon.client.add_service(name, document)
    wait_for(lambda: all_up(daemon, name), 30, f"{name} is up")


def all_up(daemon: Daemon, name: str) -> bool:
    return all(each.state == "up" for each in daemon.client.service(name).servers)


def one(ansible: Ansible, *words: str, **wish: Any) -> Result:
    (result,) = ansible.run([ansible.server(*words, **wish)])
    return result


def sessions(lab: Lab, vip: int, count: int) -> list[Answer]:
    opened = lab.load.open(lab.topology.vips(4)[vip], port=7, count=count)
    assert [each.error for each in opened] == [None] * count
    return opened


def active(daemon: Daemon, name: str) -> list[int]:
    return [each.active for each in daemon.client.stats(name)[0].servers]


def test_a_drain_waits_for_connections_to_end(lab: Lab, daemon: Daemon, ansible: Ansible) -> None:
    declare(lab, daemon, "echo", 0, 7)
    first = str(lab.topology.servers[0].v4)
    opened = sessions(lab, 0, 6)
    wait_for(lambda: active(daemon, "echo") == [3, 3], 10, "three on each")
    late = one(ansible, "echo", first, state="drained", wait=True, wait_timeout=2)
    assert late["failed"] and late["changed"]
    assert late["connections"]["active"] == 3 and late["state"] == "draining"
    assert late["msg"].startswith(
        f"cannot see echo/{first}:7 drained: 3 active connections; the drain goes on (waited "
    )
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(one, ansible, "echo", first, state="drained", wait=True)
        mine = [each for each in opened if each.server == "server1"]
        lab.load.close_sessions(mine)
        done = waiting.result(60)
    assert not done["failed"] and not done["changed"]
    assert done["connections"]["active"] == 0 and done["waited"] >= 1
    others = [each for each in opened if each.server == "server2"]
    assert [each.error for each in lab.load.echo(others)] == [None] * 3
    assert {each.server for each in sessions(lab, 0, 4)} == {"server2"}


def test_a_drain_ends_at_its_deadline(lab: Lab, daemon: Daemon, ansible: Ansible) -> None:
    declare(lab, daemon, "short", 1, 7)
    first = str(lab.topology.servers[0].v4)
    sessions(lab, 1, 4)
    wait_for(lambda: active(daemon, "short") == [2, 2], 10, "two on each")
    done = one(ansible, "short", first, state="drained", drain_timeout=2, wait=True)
    assert not done["failed"] and done["state"] == "drained"
    assert 2 <= done["waited"] < 20
    again = one(ansible, "short", first, state="drained", drain_timeout=2, wait=True)
    assert not again["changed"] and again["waited"] < 1


def test_a_server_is_enabled_only_when_found_healthy_anew(
    lab: Lab, daemon: Daemon, ansible: Ansible
) -> None:
    declare(lab, daemon, "web", 2, 80, check=CHECK)
    first = str(lab.topology.servers[0].v4)
    assert one(ansible, "web", first, state="drained", wait=True)["state"] == "draining"
    nginx = nginx_command(lab.folder, "server1")
    lab.exec("server1", [*nginx, "-s", "stop"])  # nobody has noticed yet: it counts as up
    bad = one(ansible, "web", first, state="enabled", wait=True, wait_timeout=6)
    assert bad["failed"] and not bad["changed"] and bad["state"] == "draining"
    why = "connection refused; drained by an operator"
    assert bad["msg"].startswith(f"cannot find web/{first}:80 healthy: it is down: {why}")
    assert bad["reason"] == why
    assert bad["health"]["condition"] == "down" and bad["health"]["failures"] >= 2
    with ThreadPoolExecutor() as pool:
        wish = {"state": "enabled", "good_probes": 2, "wait": True, "wait_timeout": 60}
        waiting = pool.submit(one, ansible, "web", first, **wish)
        lab.exec("server1", nginx)
        good = waiting.result(90)
    assert not good["failed"] and good["changed"] and good["state"] == "up", good
    assert good["reason"] == "" and good["effective_weight"] == 1
    answers = lab.load.http(lab.topology.vips(4)[2], count=8)
    assert {each.server for each in answers} == {"server1", "server2"}


def test_a_new_server_is_waited_for_until_it_answers(
    lab: Lab, daemon: Daemon, ansible: Ansible
) -> None:
    server = str(lab.topology.servers[0].v4)
    new = {"address": str(lab.topology.vips(4)[3]), "port": 9, "servers": []}
    daemon.client.add_service("new", {**new, "vip": {"interface": "lo"}, "check": CHECK})
    bad = one(ansible, "new", server, wait=True, wait_timeout=3)
    assert bad["failed"] and bad["changed"] and bad["state"] == "down"
    assert f"cannot see new/{server}:9 up: it is down: connection refused" in bad["msg"]
    good = one(ansible, "new", server, settings={"check": {**CHECK, "port": 80}}, wait=True)
    assert not good["failed"] and good["changed"] and good["state"] == "up"


def test_a_daemon_that_is_replaced_meanwhile_is_waited_for(
    lab: Lab, daemon: Daemon, ansible: Ansible, tmp_path: Path
) -> None:
    declare(lab, daemon, "last", 4, 7)
    first = str(lab.topology.servers[0].v4)
    opened = sessions(lab, 4, 2)
    with Tap(tmp_path / "tap", daemon.socket) as tap, ThreadPoolExecutor() as pool:
        wish = {"state": "drained", "wait": True, "socket": str(tap.path)}
        waiting = pool.submit(one, ansible, "last", first, **wish)
        wait_for(lambda: looks(tap) > 1, 60, "it looks again and again")
        daemon.kill()
        before = looks(tap)
        daemon.start(*daemon.options)
        wait_for(lambda: looks(tap) > before, 60, "it goes on looking")
        assert not waiting.done(), waiting.result()
        lab.load.close_sessions(opened)
        done = waiting.result(90)
    assert not done["failed"] and done["state"] == "draining", done
    daemon.stop()
    gone = one(ansible, "last", first, state="enabled", wait=True)
    assert gone["failed"] and "cannot reach kernlbd" in gone["msg"]


def looks(tap: Tap) -> int:
    """How often its connections were asked for."""
    return sum("/v1/stats" in each for each in tap.asked)
