"""A lane that cannot say how a test ends fails it, with what it said last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.beside import Beside
from tests.vm.lane import Lane


def _lane(request: pytest.FixtureRequest, folder: Path, script: str) -> Lane:
    def start(argv: list[str], nodeids: str) -> Beside:
        (folder / "nodeids").write_text(nodeids)
        return Beside(["sh", "-c", script, "lane", *argv], folder, folder, {})

    return Lane(request.config, start, [request.node], str(folder))


def test_a_lane_that_ends_early_fails_its_tests_with_its_last_words(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    lane = _lane(request, tmp_path, "cat nodeids; echo no such machine >&2; exit 7")
    (report,) = lane.await_reports(request.node)
    assert report.failed
    assert "exit code 7" in report.longreprtext
    assert "no such machine" in report.longreprtext
    assert request.node.nodeid in report.longreprtext


def test_a_lane_that_goes_on_is_ended_with_all_it_started(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.vm.beside.PATIENCE", 0.2)
    lane = _lane(request, tmp_path, "trap '' INT; sleep 300")
    assert lane.runner.running
    lane.runner.stop()
    assert lane.runner.exit_code == -9
    assert not tmp_path.exists()
