"""Tests of this run that another pytest runs meanwhile, and how their reports get here.

That other pytest is in a guest, or a process beside this one (`Runner`). When an item's turn comes
here, its reports are awaited in the lane's stream and logged as if the test had run here. Every
wait is bounded, and a lane that dies fails its remaining items with its last words.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.vm.stream import StreamReader

SILENCE = 1000.0  # longer than the longest a single phase of a test may take in a guest
PLUGINS_OFF = ("cacheprovider", "terminalprogress")
ENVIRON = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


class Runner(Protocol):
    """What runs the other pytest."""

    exchange: Path
    """A folder that both can write: nodeids in, the stream out."""

    @property
    def running(self) -> bool: ...

    @property
    def exit_code(self) -> int | None: ...

    def stop(self) -> None: ...

    def last_words(self) -> str: ...


Start = Callable[[list[str], str], Runner]
"""Starts ``argv``; the text is to be the file ``nodeids`` of the exchange folder."""


class Lane:
    """A runner of some items, and what has been heard of them."""

    def __init__(
        self, config: pytest.Config, start: Start, items: Sequence[pytest.Item], exchange: str
    ) -> None:
        """``exchange`` is the runner's folder as it is called there."""
        nodeids = "".join(item.nodeid + "\n" for item in items)
        self.runner = start(_argv(config, exchange), nodeids)
        self._reader = StreamReader(config, self.runner.exchange / "stream")
        self._dies_at = time.monotonic() + config.getoption("--vm-timeout")
        self._trouble: str | None = None

    def await_reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        """The item's reports, once all have come; a failed one in their place if they do not."""
        silent_at = time.monotonic() + SILENCE
        while not self._reader.finished(item.nodeid):
            running = self.runner.running
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
                self._trouble = f"what ran it ended first (exit code {self.runner.exit_code})"
            elif now > self._dies_at:
                self._trouble = "the time of what ran it was over (--vm-timeout)"
            elif now > silent_at:
                self._trouble = f"what runs it said nothing for {SILENCE:.0f} s"
            else:
                return None
            self._trouble += f"\n{self._last_words()}"
        return self._trouble

    def _last_words(self) -> str:
        said = [self.runner.last_words()]
        for name in ("stdout", "stderr"):
            path = self.runner.exchange / name
            if path.exists():
                said += path.read_text(errors="replace").splitlines()[-40:]
        return "\n".join(said)


def _argv(config: pytest.Config, exchange: str) -> list[str]:
    argv = [sys.executable, "-m", "pytest", "-q", "--vm-stream", f"{exchange}/stream"]
    argv += [word for plugin in PLUGINS_OFF for word in ("-p", f"no:{plugin}")]
    argv += [f"--maxfail={config.option.maxfail or 0}", f"--tb={config.option.tbstyle}"]
    argv += [f"--machines={config.getoption('--machines')}"]
    if reruns := config.getoption("reruns", None):
        most = config.getoption("max_suite_reruns")
        argv += ["-p", "pytest_rerunfailures", f"--reruns={reruns}"]
        argv += [f"--max-suite-reruns={most}"] if most is not None else []
    return [*argv, "--rootdir", str(config.rootpath), f"@{exchange}/nodeids"]


def _failure(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=f"cannot tell how this test ends: {why}",
        when="call",
    )
