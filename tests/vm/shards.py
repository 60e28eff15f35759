"""Runs the tests marked `ipvs` in guests, and shows each as an item of this pytest run.

After collection the selected `ipvs` items are dealt to a few guests, whole modules together so
that a lab is set up once, and the guests start booting while host tests run. When an item's turn
comes, its reports are awaited in the guest's stream and logged as if the test had run here.
Every wait is bounded, and a guest that dies fails its remaining items with its last words.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import pytest

from kernlb.lab.rung import NoKernel, Rung, choose
from kernlb.lab.vm import EXCHANGE_IN_GUEST, Guest, GuestSize, Task, guest_environ
from tests.vm.stream import StreamReader

DURATIONS = "kernlb/ipvs-module-seconds"
GUESSED_SECONDS = 30.0
SILENCE = 1000.0  # longer than the longest a single phase of a test may take in the guest
PLUGINS_OFF = ("cacheprovider", "terminalprogress")


class Shard:
    """One guest, the items it runs in order, and what has been heard of them."""

    def __init__(self, config: pytest.Config, rung: Rung, items: Sequence[pytest.Item]) -> None:
        self.items = items
        argv = [sys.executable, "-m", "pytest", "-q", "--vm-stream", f"{EXCHANGE_IN_GUEST}/stream"]
        argv += [word for plugin in PLUGINS_OFF for word in ("-p", f"no:{plugin}")]
        argv += [f"--maxfail={config.option.maxfail or 0}", f"--tb={config.option.tbstyle}"]
        if reruns := config.getoption("reruns", None):
            most = config.getoption("max_suite_reruns")
            argv += ["-p", "pytest_rerunfailures", f"--reruns={reruns}"]
            argv += [f"--max-suite-reruns={most}"] if most is not None else []
        argv += ["--rootdir", str(config.rootpath), f"@{EXCHANGE_IN_GUEST}/nodeids"]
        environ = guest_environ(os.environ) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        nodeids = "".join(item.nodeid + "\n" for item in items)
        task = Task(argv, config.rootpath, environ, files={"nodeids": nodeids})
        self.guest: Guest = rung.start(task, GuestSize(cpus=1))
        self._reader = StreamReader(config, self.guest.exchange / "stream")
        self._dies_at = time.monotonic() + config.getoption("--vm-timeout")
        self._trouble: str | None = None

    def await_reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        """The item's reports, once all have come; a failed one in their place if they do not."""
        silent_at = time.monotonic() + SILENCE
        while not self._reader.finished(item.nodeid):
            running = self.guest.running
            if self._reader.read():
                silent_at = time.monotonic() + SILENCE
                continue
            if trouble := self._find_trouble(running, silent_at):
                return [*self._reader.reports(item.nodeid), _failure(item, trouble)]
            time.sleep(0.05)
        return self._reader.reports(item.nodeid)

    def _find_trouble(self, running: bool, silent_at: float) -> str | None:
        if self._trouble is None:
            now = time.monotonic()
            if not running:
                self._trouble = f"the guest ended first (exit code {self.guest.exit_code})"
            elif now > self._dies_at:
                self._trouble = "the guest's time was over (--vm-timeout)"
            elif now > silent_at:
                self._trouble = f"the guest said nothing for {SILENCE:.0f} s"
            else:
                return None
            self._trouble += f"\n{self._last_words()}"
        return self._trouble

    def _last_words(self) -> str:
        said = [self.guest.last_words()]
        for name in ("stdout", "stderr"):
            path = self.guest.exchange / name
            if path.exists():
                said += path.read_text(errors="replace").splitlines()[-40:]
        return "\n".join(said)


class GuestItems:
    """The plugin on the host. Does nothing while this kernel has IPVS itself."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shards: list[Shard] = []
        self._shard_of: dict[str, Shard] = {}
        self._seconds: dict[str, float] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        items = [item for item in session.items if item.get_closest_marker("ipvs")]
        if not items or os.geteuid() != 0 or _is_xdist(self._config):
            return
        try:
            rung = choose(self._config.getoption("--vm"))
        except NoKernel as missing:
            for item in items:
                item.add_marker(pytest.mark.no_ipvs_kernel(str(missing)))
            return
        if not rung.in_vm:
            return
        session.items[:] = [item for item in session.items if item not in set(items)]
        known = self._cache.get(DURATIONS, {}) if self._cache else {}
        for dealt in deal(items, self._config.getoption("--vm-shards"), known):
            shard = Shard(self._config, rung, dealt)
            self._shards.append(shard)
            self._shard_of.update((item.nodeid, shard) for item in dealt)
            session.items += dealt
        self._announce(rung)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        shard = self._shard_of.get(item.nodeid)
        if shard is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in shard.await_reports(item):
            item.ihook.pytest_runtest_logreport(report=report)
            module = _module(item)
            self._seconds[module] = self._seconds.get(module, 0.0) + report.duration
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        for shard in self._shards:
            shard.guest.stop()
        if self._cache and self._seconds:
            self._cache.set(DURATIONS, self._cache.get(DURATIONS, {}) | self._seconds)

    @property
    def _cache(self) -> pytest.Cache | None:
        """None under `-p no:cacheprovider`."""
        return getattr(self._config, "cache", None)

    def _announce(self, rung: Rung) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and rung.kernel is not None:
            reporter.write_line(
                f"ipvs: this kernel has none; {len(self._shard_of)} tests run in "
                f"{len(self._shards)} guest(s) booting {rung.kernel.release} under QEMU"
            )


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


def _failure(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=f"cannot tell how this test ends: {why}",
        when="call",
    )
