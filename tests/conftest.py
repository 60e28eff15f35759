"""Markers, time limits, and where each test runs.

A missing privilege or kernel feature is a named skip here and a failure where CI=true. Tests
marked `ipvs` run in this process when this kernel has IPVS, else in guests; those marked `machines`
run in a process beside (tests/vm/lanes.py).
"""

from __future__ import annotations

import os

import pytest

from kernlb.lab.kernels import running_kernel_has_ipvs
from tests.vm.lanes import DealtItems
from tests.vm.stream import ReportStream
from tests.vm.time_limit import TimeLimit
from tests.vm.whole_run import WholeRun

MARKERS = (
    "ipvs: needs root and a kernel with IPVS; runs in a guest where this kernel has none",
    "netns: needs root and network namespaces on this kernel",
    "bpf: needs root and bpf(2) on this kernel",
    "machines: needs root, and Debian machines in containers (systemd-nspawn, mmdebstrap)",
    "no_ipvs_kernel(why): set where neither this kernel nor a bootable one has IPVS",
    "timeout(seconds): how long each of setup, call and teardown may take",
)
PRIVILEGED = ("ipvs", "netns", "bpf", "machines")
IN_GUEST = "KERNLB_IN_GUEST" in os.environ
TIME_LIMIT = 300.0 if IN_GUEST else 120.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ipvs", "tests that need a kernel with IPVS")
    group.addoption("--vm", choices=("auto", "never", "always"), default="auto")
    group.addoption(
        "--vm-shards",
        type=int,
        default=int(os.environ.get("KERNLB_VM_SHARDS", "2")),
        help="guests to boot at once, each with one CPU (default: 2, or $KERNLB_VM_SHARDS)",
    )
    group.addoption(
        "--vm-timeout", type=float, default=4200.0, help="seconds a lane may take (4200)"
    )
    group.addoption(
        "--machines",
        choices=("container", "emulated"),
        default="container",
        help="what the stories of tests/install run on (container)",
    )
    group.addoption("--vm-stream", metavar="FILE", help="(in a lane) write every report here")
    group.addoption(
        "--run-timeout",
        type=float,
        metavar="SECONDS",
        help="end the run after the test that goes on then; failures are shown as they happen",
    )


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(TimeLimit(TIME_LIMIT), "time-limit")
    if limit := config.getoption("--run-timeout"):
        config.pluginmanager.register(WholeRun(config, limit), "whole-run")
    if stream := config.getoption("--vm-stream"):
        config.pluginmanager.register(ReportStream(config, stream), "report-stream")
    elif not config.option.collectonly:
        config.pluginmanager.register(DealtItems(config), "dealt-items")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := _missing(item):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI must run this test", pytrace=False)
        pytest.skip(reason)


def _missing(item: pytest.Item) -> str | None:
    """What this process lacks for the test, in words; None when it has everything."""
    privileged = [name for name in PRIVILEGED if item.get_closest_marker(name)]
    if privileged and os.geteuid() != 0:
        return f"{privileged[0]} tests need root"
    if unavailable := item.get_closest_marker("no_ipvs_kernel"):
        return str(unavailable.args[0])
    if "ipvs" in privileged and not running_kernel_has_ipvs():
        return f"kernel {os.uname().release} has no IPVS (and guests do not run under xdist)"
    return None
