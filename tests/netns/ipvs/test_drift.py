"""Hands other than kernlb's on the kernel: what is kernlb's is put right, what is not is left."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kernlb.control.client import ControlError
from kernlb.control.protocol import ProblemKind, SyncState
from kernlb.lab.namespaces import inside
from tests.netns.ipvs.ipvsadm import Service, holdings, ipvsadm
from tests.netns.ipvs.views import asked, shown
from tests.netns.traffic.daemon import Daemon, StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.ipvs

AUDIT_INTERVAL = 2.0  # seconds
METRICS = ("127.0.0.1", 9117)
SLACK = 2.0  # seconds that an emulated guest may take for a repair beside the waiting
FOREIGN_KEY = "tcp/203.0.113.9:99"
FOREIGN = ("-t", "203.0.113.9:99")

WEB: dict[str, Any] = {
    "address": "192.0.2.10",
    "port": 80,
    "scheduler": "mh",
    "servers": [
        {"address": "10.0.0.1", "weight": 3, "upper_threshold": 100, "lower_threshold": 50},
        {"address": "10.0.0.2", "port": 8080},
    ],
}
EDGE: dict[str, Any] = {
    "fwmark": 7,
    "family": "ipv6",
    "scheduler": "wrr",
    "forwarding": "tunnel",
    "tunnel": {"type": "gue", "port": 6080},
    "persistence": {"timeout": 60, "prefix": 64},
    "servers": [{"address": "2001:db8:1::1", "weight": 2}],
}

CHANGES = {
    "a server removed": ["-d", "-t", "192.0.2.10:80", "-r", "10.0.0.1:80"],
    "a server added": ["-a", "-t", "192.0.2.10:80", "-r", "10.0.0.9:80", "-m", "-w", "5"],
    "a weight changed": ["-e", "-t", "192.0.2.10:80", "-r", "10.0.0.2:8080", "-m", "-w", "0"],
    "a threshold lost": ["-e", "-t", "192.0.2.10:80", "-r", "10.0.0.1:80", "-m", "-w", "3"],
    "a scheduler changed": ["-E", "-t", "192.0.2.10:80", "-s", "rr"],
    "persistence lost": ["-E", "-f", "7", "-6", "-s", "wrr"],
    "a tunnel changed": ["-e", "-f", "7", "-6", "-r", "[2001:db8:1::1]:0", "-i", "-w", "2"],
    "a service removed": ["-D", "-t", "192.0.2.10:80"],
    "everything removed": ["-C"],
}


@pytest.fixture(scope="module")
def daemon(namespace: str, start_daemon: StartDaemon) -> Daemon:
    listen = f"{METRICS[0]}:{METRICS[1]}"
    settings = {"audit_interval": AUDIT_INTERVAL, "metrics_listen": listen}
    daemon = start_daemon(namespace, settings)
    daemon.client.add_service("web", WEB)
    daemon.client.add_service("edge", EDGE)
    return daemon


@pytest.fixture
def foreign(namespace: str) -> Iterator[str]:
    """A service that somebody else made, as ipvsadm prints it."""
    ipvsadm(namespace, "-A", *FOREIGN, "-s", "sed", "-p", "77")
    ipvsadm(namespace, "-a", *FOREIGN, "-r", "10.0.0.1:99", "-g", "-w", "7")
    yield rules_of_foreign(namespace)
    if rules_of_foreign(namespace):
        ipvsadm(namespace, "-D", *FOREIGN)


@pytest.mark.parametrize("change", CHANGES)
def test_drift_is_repaired_within_the_audit_period(daemon: Daemon, change: str) -> None:
    wanted = {service.key: service for service in (asked(WEB), asked(EDGE))}
    assert holds(daemon, wanted)
    repaired = daemon.client.status().drift_repaired
    at = time.time()
    ipvsadm(daemon.namespace, *CHANGES[change])

    limit = AUDIT_INTERVAL + SLACK
    expected = repaired + (2 if change == "everything removed" else 1)
    wait_for(
        lambda: daemon.client.status().drift_repaired == expected, limit, f"{change}, which is seen"
    )
    assert holds(daemon, wanted)
    status = daemon.client.status()
    told = [event for event in status.events if event.time >= at and event.cause == "audit"]
    assert len(told) == expected - repaired
    assert all("drift repaired" in event.text for event in told), told
    assert status.services == {SyncState.SYNCED: 2}
    assert metric("kernlb_drift_repaired_total", daemon) == expected


def test_a_foreign_service_is_shown_and_left_alone(daemon: Daemon, foreign: str) -> None:
    def is_shown() -> bool:
        return daemon.client.status().foreign == [FOREIGN_KEY]

    wait_for(is_shown, AUDIT_INTERVAL + SLACK, "the foreign service is in the status")
    (listed,) = [each for each in daemon.client.services() if not each.name]
    assert (listed.key, listed.scheduler, listed.state) == (FOREIGN_KEY, "sed", SyncState.FOREIGN)
    ipvsadm(daemon.namespace, "-d", "-t", "192.0.2.10:80", "-r", "10.0.0.1:80")
    daemon.client.edit_server("web", "10.0.0.2:8080", {"weight": 4})
    daemon.client.edit_server("web", "10.0.0.2:8080", {"weight": 1})
    daemon.client.reload()
    audited = daemon.client.status().last_audit
    wait_for(
        lambda: daemon.client.status().last_audit > audited,
        AUDIT_INTERVAL * 2 + SLACK,
        "one more audit",
    )
    assert rules_of_foreign(daemon.namespace) == foreign
    assert metric('kernlb_services{state="foreign"}', daemon) == 1


def test_a_foreign_service_gives_a_conflict_until_it_is_adopted(
    daemon: Daemon, foreign: str
) -> None:
    mine = {
        "address": "203.0.113.9",
        "port": 99,
        "scheduler": "rr",
        "forwarding": "dsr",
        "servers": [{"address": "10.0.0.1", "weight": 7}, {"address": "10.0.0.2"}],
    }
    with pytest.raises(ControlError) as refused:
        daemon.client.add_service("mine", mine)
    assert refused.value.problem.type is ProblemKind.FOREIGN
    assert not (daemon.services / "mine.yaml").exists()

    (daemon.services / "mine.json").write_text(json.dumps(mine))
    assert daemon.client.reload().faults
    (listed,) = [each for each in daemon.client.services() if each.name == "mine"]
    assert listed.state is SyncState.CONFLICT
    assert rules_of_foreign(daemon.namespace) == foreign

    change = daemon.client.adopt_service("mine")
    assert [(op.action, op.what) for op in change.ops] == [("edit", "service"), ("add", "server")]
    assert holdings(daemon.namespace)[FOREIGN_KEY] == asked(mine)
    assert shown(daemon.client.service("mine")) == asked(mine)
    daemon.client.remove_service("mine")
    assert FOREIGN_KEY not in holdings(daemon.namespace)


def holds(daemon: Daemon, wanted: dict[str, Service]) -> bool:
    return holdings(daemon.namespace) == wanted


def rules_of_foreign(namespace: str) -> str:
    lines = ipvsadm(namespace, "-Sn").splitlines()
    return "\n".join(line for line in lines if " ".join(FOREIGN) in line)


def metric(name: str, daemon: Daemon) -> float:
    """One value of the metrics page, read as Prometheus would on the balancer."""
    connection = http.client.HTTPConnection(*METRICS, timeout=15)
    connection.sock = inside(daemon.namespace, lambda: socket.create_connection(METRICS, 15))
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    (line,) = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])
