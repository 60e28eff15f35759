"""The page of a daemon that forwards, in a browser on the balancer itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernlb.lab.network import Lab
from tests.netns.page import ground
from tests.netns.traffic.daemon import Daemon, StartDaemon
from tests.netns.xdp.conftest import pins  # noqa: F401 (a fixture)
from tests.page.browser import Chromium
from tests.page.conftest import need_browser


@pytest.fixture(scope="module")
def daemon(lab: Lab, start_daemon: StartDaemon, pins: Path) -> Iterator[Daemon]:  # noqa: F811
    need_browser()
    lab.hold_vips()
    daemon = start_daemon(lab.topology.namespace("balancer"), ground.SETTINGS, "--pins", str(pins))
    ground.declare(lab, daemon)
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def browser(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    need_browser()
    namespace = lab.topology.namespace("balancer")
    with Chromium(tmp_path_factory.mktemp("chromium"), ("ip", "netns", "exec", namespace)) as each:
        yield each
