"""Reports of tests, one JSON object a line, written in a guest and read on the host meanwhile.

`{"report": …}` is one phase of one test; `{"finished": nodeid}` says that no more will come for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


class ReportStream:
    """In the guest: every report goes to the file as soon as it exists."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        self._config = config
        self._file = Path(path).open("a", buffering=1)  # noqa: SIM115 (lives as long as pytest)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        to_data = self._config.hook.pytest_report_to_serializable
        self._write({"report": to_data(config=self._config, report=report)})

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._write({"finished": nodeid})

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, default=str) + "\n")


class StreamReader:
    """On the host: collects what has arrived. A last line without its end is left for later."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path
        self._offset = 0
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._finished: set[str] = set()

    def read(self) -> bool:
        """Take in what is new; True when there was any."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return False
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))
        return bool(whole)

    def finished(self, nodeid: str) -> bool:
        return nodeid in self._finished

    def reports(self, nodeid: str) -> list[pytest.TestReport]:
        return self._reports.get(nodeid, [])

    def _goes_on(self, nodeid: str) -> bool:
        """A failed attempt that is repeated (`--reruns`) finishes too, but the test goes on."""
        attempts = [(getattr(report, "rerun", 0), report) for report in self.reports(nodeid)]
        last = max((number for number, _ in attempts), default=0)
        outcomes = [str(each.outcome) for number, each in attempts if number == last]
        return "rerun" in outcomes

    def _take(self, entry: dict[str, Any]) -> None:
        if "finished" in entry:
            if not self._goes_on(entry["finished"]):
                self._finished.add(entry["finished"])
            return
        from_data = self._config.hook.pytest_report_from_serializable
        report = from_data(config=self._config, data=entry["report"])
        if isinstance(report.longrepr, list):  # of a skip: JSON knows no tuples
            report.longrepr = tuple(report.longrepr)
        self._reports.setdefault(report.nodeid, []).append(report)
