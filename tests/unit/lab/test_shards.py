"""How tests go to guests and their reports come back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm.lanes import deal
from tests.vm.stream import ReportStream, StreamReader


@dataclass
class Item:
    nodeid: str


def items(*nodeids: str) -> list[pytest.Item]:
    return [Item(nodeid) for nodeid in nodeids]  # type: ignore[misc]


def test_a_module_stays_whole_and_in_its_order() -> None:
    dealt = items("a.py::one", "b.py::one", "a.py::two")
    hands = deal(dealt, 2, {})
    assert [[item.nodeid for item in hand] for hand in hands] == [
        ["a.py::one", "a.py::two"],
        ["b.py::one"],
    ]


def test_the_longest_module_has_a_guest_to_itself() -> None:
    hands = deal(items("a.py::x", "b.py::x", "c.py::x"), 2, {"b.py": 100.0})
    assert [[item.nodeid for item in hand] for hand in hands] == [
        ["b.py::x"],
        ["a.py::x", "c.py::x"],
    ]


def test_there_are_never_more_guests_than_modules() -> None:
    assert len(deal(items("a.py::one", "a.py::two"), 8, {})) == 1


def test_reports_survive_the_stream(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    failed = pytest.TestReport("a.py::x", ("a.py", 1, "x"), {}, "failed", "assert 0", "call")
    stream = ReportStream(pytestconfig, str(tmp_path / "stream"))
    stream.pytest_runtest_logreport(failed)
    reader = StreamReader(pytestconfig, tmp_path / "stream")
    assert reader.read() and not reader.finished("a.py::x")
    stream.pytest_runtest_logfinish("a.py::x")
    assert reader.read() and reader.finished("a.py::x")
    (report,) = reader.reports("a.py::x")
    assert (report.outcome, report.longrepr, report.when) == ("failed", "assert 0", "call")


def test_half_a_line_waits_for_its_other_half(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    line = json.dumps({"finished": "a.py::x"})
    path = tmp_path / "stream"
    path.write_text(line[:9])
    reader = StreamReader(pytestconfig, path)
    assert not reader.read()
    path.write_text(line + "\n")
    assert reader.read() and reader.finished("a.py::x")
