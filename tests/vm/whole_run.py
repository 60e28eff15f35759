"""For runs that somebody watches from far: a failure is told when it happens, and the whole run
has a limit, so that it ends with its own closing line and not with the watcher's patience."""

from __future__ import annotations

import time

import pytest

SHOWN = 3000  # characters of a failure, its end


class WholeRun:
    def __init__(self, config: pytest.Config, seconds: float) -> None:
        self._config = config
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome: str = report.outcome  # "rerun" too
        if outcome in ("passed", "skipped"):
            return
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(
                f"{outcome}: {report.nodeid} ({report.when}, {report.duration:.0f} s)"
            )
            reporter.write_line(report.longreprtext[-SHOWN:])

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        session = self._config.pluginmanager.get_plugin("session")
        if time.monotonic() > self._ends_at and session is not None:
            session.shouldstop = f"this run's time is over: {self._seconds:g} s (--run-timeout)"
