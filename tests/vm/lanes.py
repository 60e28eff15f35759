"""Deals tests to lanes that run while this pytest runs the rest.

Tests marked `ipvs` go to a few guests where this kernel has no IPVS, whole modules together so
that a lab is set up once. Tests marked `machines` mostly wait for machines to boot: they go to one
process beside this one, unless they are all there is. The lanes start right after collection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from kernlb.lab.rung import NoKernel, Rung, choose
from kernlb.lab.vm import EXCHANGE_IN_GUEST, Guest, GuestSize, Task, guest_environ
from tests.vm.beside import Beside, new_exchange
from tests.vm.lane import ENVIRON, Lane

DURATIONS = "kernlb/ipvs-module-seconds"
MEASURED = Path(__file__).with_name(
    "seconds.json"
)  # once, for a checkout that has measured nothing
GUESSED_SECONDS = 30.0


class DealtItems:
    """The plugin of the pytest that was called."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lane_of: dict[str, Lane] = {}
        self._seconds: dict[str, float] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if os.geteuid() != 0 or _is_xdist(self._config) or self._config.option.usepdb:
            return
        self._deal_to_guests(session)
        self._deal_beside(session)

    def _deal_to_guests(self, session: pytest.Session) -> None:
        items = [item for item in session.items if item.get_closest_marker("ipvs")]
        if not items:
            return
        try:
            rung = choose(self._config.getoption("--vm"))
        except NoKernel as missing:
            for item in items:
                item.add_marker(pytest.mark.no_ipvs_kernel(str(missing)))
            return
        if not rung.in_vm:
            return
        known = json.loads(MEASURED.read_text())
        known |= self._cache.get(DURATIONS, {}) if self._cache else {}
        hands = deal(items, self._config.getoption("--vm-shards"), known)
        for dealt in hands:
            start = partial(_start_guest, self._config, rung)
            self._give(session, dealt, Lane(self._config, start, dealt, EXCHANGE_IN_GUEST))
        if rung.kernel is not None:
            self._announce(
                f"ipvs: this kernel has none; {len(items)} tests run in "
                f"{len(hands)} guest(s) booting {rung.kernel.release} under QEMU"
            )

    def _deal_beside(self, session: pytest.Session) -> None:
        items = [item for item in session.items if item.get_closest_marker("machines")]
        if not items or len(items) == len(session.items):
            return
        exchange = new_exchange()

        def start(argv: list[str], nodeids: str) -> Beside:
            (exchange / "nodeids").write_text(nodeids)
            return Beside(argv, exchange, self._config.rootpath, ENVIRON)

        self._give(session, items, Lane(self._config, start, items, str(exchange)))
        self._announce(f"machines: {len(items)} tests run in a process beside")

    def _give(self, session: pytest.Session, items: Sequence[pytest.Item], lane: Lane) -> None:
        given = set(items)
        session.items[:] = [item for item in session.items if item not in given] + [*items]
        self._lane_of.update((item.nodeid, lane) for item in items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        lane = self._lane_of.get(item.nodeid)
        if lane is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in lane.await_reports(item):
            item.ihook.pytest_runtest_logreport(report=report)
            module = _module(item)
            self._seconds[module] = self._seconds.get(module, 0.0) + report.duration
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        for lane in dict.fromkeys(self._lane_of.values()):
            lane.runner.stop()
        if self._cache and self._seconds:
            self._cache.set(DURATIONS, self._cache.get(DURATIONS, {}) | self._seconds)

    @property
    def _cache(self) -> pytest.Cache | None:
        """None under `-p no:cacheprovider`."""
        return getattr(self._config, "cache", None)

    def _announce(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(line)


def _start_guest(config: pytest.Config, rung: Rung, argv: list[str], nodeids: str) -> Guest:
    environ = guest_environ(os.environ) | ENVIRON
    task = Task(argv, config.rootpath, environ, files={"nodeids": nodeids})
    return rung.start(task, GuestSize(cpus=1))


def deal(
    items: Sequence[pytest.Item], shards: int, seconds: dict[str, float]
) -> list[list[pytest.Item]]:
    """Whole modules to at most `shards` hands, the longest first, each to the emptiest hand."""
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(_module(item), []).append(item)

    def cost(module: str) -> float:
        return seconds.get(module, GUESSED_SECONDS)

    hands: list[list[pytest.Item]] = [[] for _ in range(max(1, min(shards, len(modules))))]
    filled = [0.0] * len(hands)
    for module in sorted(modules, key=cost, reverse=True):
        emptiest = filled.index(min(filled))
        hands[emptiest] += modules[module]
        filled[emptiest] += cost(module)
    return hands


def _module(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


def _is_xdist(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput") or bool(config.getoption("numprocesses", None))
