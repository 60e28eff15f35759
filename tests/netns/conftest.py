"""One lab for each module of tests, under a name of its own so that runs do not meet; daemons."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kernlb.lab.network import Lab
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.daemon import Daemon, StartDaemon


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(f"test{os.getpid()}") as lab:
        yield lab


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


@pytest.fixture
def vip(balancer: Balancer) -> IPAddress:
    """An IPv4 address for one test; `balancer` is each datapath's own."""
    return balancer.fresh_vip(4)
