"""Namespaces and daemons for the tests of kernlb as a whole."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kernlb.lab.network import Lab
from tests.netns.ipvs.balancer import Balancer
from tests.netns.ipvs.daemon import Daemon

StartDaemon = Callable[..., Daemon]


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty network namespace with its loopback up, and so an IPVS of its own."""
    name = "klbt-" + request.module.__name__.rpartition("test_")[2][:8]
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture(scope="module")
def start_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDaemon]:
    """Starts daemons in namespaces, and ends them with the module."""
    daemons: list[Daemon] = []

    def start(namespace: str, settings: Mapping[str, Any] | None = None, *options: str) -> Daemon:
        folder: Path = tmp_path_factory.mktemp("kernlb")
        daemon = Daemon(folder, namespace, settings or {})
        daemons.append(daemon)
        daemon.start(*options)
        return daemon

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture(scope="module")
def balancer(lab: Lab, start_daemon: StartDaemon) -> Iterator[Balancer]:
    """kernlbd on a lab's balancer, with the lab's VIPs local there."""
    lab.hold_vips()
    daemon = start_daemon(lab.topology.namespace("balancer"), {"audit_interval": 3600})
    balancer = Balancer(lab, daemon)
    yield balancer
    balancer.close()
    daemon.stop()
