"""Namespaces and a balancer for the tests of kernlb with IPVS as a whole."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from kernlb.datapath.ipvs import IPVSDatapath
from kernlb.lab.namespaces import inside
from kernlb.lab.network import Lab
from kernlb.model import DatapathKind
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.daemon import StartDaemon


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty network namespace with its loopback up, and so an IPVS of its own."""
    name = "klbt-" + request.module.__name__.rpartition("test_")[2][:8]
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture(scope="module")
def sysctls() -> dict[str, bool]:
    """Of IPVS, for the module's daemon; a module may say otherwise."""
    return {}


@pytest.fixture(scope="module")
def balancer(lab: Lab, start_daemon: StartDaemon, sysctls: dict[str, bool]) -> Iterator[Balancer]:
    """kernlbd on a lab's balancer, with the lab's VIPs local there."""
    lab.hold_vips()
    namespace = lab.topology.namespace("balancer")
    settings = {"audit_interval": 3600, "ipvs": {"sysctls": sysctls}}
    daemon = start_daemon(namespace, settings)
    kernel = inside(namespace, IPVSDatapath)
    yield Balancer(lab, daemon, DatapathKind.IPVS, lambda key: kernel.read([key])[key])
    kernel.close()
    daemon.stop()
