"""Events: numbered, kept, told to who waits, and with who asked for what they tell."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernlb.control.protocol import Event
from kernlb.daemon.event_log import FILE, EventLog
from kernlb.daemon.events import Events, caller
from tests.unit.daemon.world import story


def events_over(directory: Path, size: int = 2**20) -> Events:
    """Those of a daemon that has just started."""
    events = Events(lambda: 1000.0)
    events.keep(EventLog(directory, size))
    return events


def texts(events: Events) -> list[str]:
    return [event.text for event in events]


def test_numbers_go_on_over_a_restart(tmp_path: Path) -> None:
    before = events_over(tmp_path)
    before.add("one", "start")
    before.add("two", "api", "web", "10.0.0.1:80")
    after = events_over(tmp_path)
    assert list(after) == list(before)
    after.add("three", "start")
    assert [event.number for event in after] == [1, 2, 3]
    assert texts(events_over(tmp_path)) == ["one", "two", "three"]


def test_names_that_are_no_text_are_told_as_far_as_they_go(tmp_path: Path) -> None:
    """As of files: a byte that is no UTF-8 is a lone surrogate in Python."""
    events = events_over(tmp_path)
    events.add("cannot read \udcff.yaml", "start")
    events.add("größer", "start")
    assert texts(events_over(tmp_path)) == ["cannot read \\udcff.yaml", "größer"]


def test_what_is_new_since_a_number_is_told_oldest_first() -> None:
    events = Events(lambda: 0.0, kept=4)
    for number in range(1, 8):
        events.add(f"event {number}", "api", "web" if number % 2 else "db")
    assert [e.number for e in events.since(5, 10)] == [6, 7]
    assert [e.number for e in events.since(0, 2)] == [4, 5]  # older ones are forgotten
    assert [e.number for e in events.since(0, 10, "web")] == [5, 7]
    assert events.since(7, 10) == events.since(99, 10) == []
    assert [e.number for e in events.latest(2)] == [6, 7]
    assert [e.number for e in events.latest(9, "db")] == [4, 6]
    assert events.latest_number == 7


def test_who_asked_is_part_of_the_cause_where_somebody_asked() -> None:
    events = Events(lambda: 0.0)
    token = caller.set("root (kernlb server drain)")
    events.add("weight 1 -> 0", "drain")
    events.add("a server died meanwhile", "health")
    caller.reset(token)
    events.add("weight 0 -> 1", "enable")
    causes = [event.cause for event in events]
    assert causes == ["drain by root (kernlb server drain)", "health", "enable"]


@story
async def test_who_waits_hears_of_the_next_event_and_else_waits_no_longer_than_asked() -> None:
    events = Events(lambda: 0.0)
    await asyncio.wait_for(events.news(0.001), 5)
    waiting = [asyncio.create_task(events.news(60)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    events.add("something", "api")
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    waiting = [asyncio.create_task(events.news(60))]
    await asyncio.sleep(0)
    events.release()
    await asyncio.wait_for(asyncio.gather(*waiting), 5)


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    before = events_over(tmp_path)
    for word in ("one", "two", "three"):
        before.add(word, "api")
    path = tmp_path / FILE
    whole = path.read_bytes()
    for end in range(len(whole) - 1, whole.rindex(b'"three"'), -1):
        path.write_bytes(whole[:end] if end < len(whole) - 1 else whole + b"\xff{}\n[1]\n{\n\n")
        after = events_over(tmp_path)
        assert texts(after)[:2] == ["one", "two"]
        after.add("four", "api")  # on a line of its own
        assert texts(events_over(tmp_path)) == texts(after)


def test_files_are_bounded_and_the_latest_events_are_in_them(tmp_path: Path) -> None:
    events = events_over(tmp_path, 4000)
    for number in range(1000):
        events.add(f"event {number}", "api")
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert all(0 < size <= 4000 for size in sizes)
    found = [event.number for event in events_over(tmp_path, 4000)]
    assert found == list(range(found[0], 1001))
    assert 40 < len(found) < 200


def test_a_place_that_takes_no_files_costs_events_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).mkdir()
    log = EventLog(tmp_path)
    events = Events(lambda: 0.0)
    events.keep(log)
    with caplog.at_level(logging.WARNING):
        events.add("one", "api")
        events.add("two", "api")
    assert log.failing == "Is a directory"
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # said once
    assert texts(events) == ["one", "two"]
    (tmp_path / FILE).rmdir()
    events.add("three", "api")
    assert log.failing == ""
    assert [(e.number, e.text) for e in events_over(tmp_path)] == [(3, "three")]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process grows beyond that: a write is cut short, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_in_the_middle_of_a_line_spoils_that_line_alone(
    tmp_path: Path,
) -> None:
    log = EventLog(tmp_path)
    events = Events(lambda: 0.0)
    events.keep(log)
    events.add("one", "api")
    with files_of_at_most((tmp_path / FILE).stat().st_size + 20):
        events.add("two", "api")
        assert log.failing
        events.add("three", "api")
        assert log.failing
    events.add("four", "api")
    assert not log.failing
    assert texts(events_over(tmp_path)) == ["one", "four"]
    log.close()
    log.close()


def test_an_event_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    line = (
        b'{"time":1.5,"text":"x","cause":"api","number":7,"colour":"red"}\n{"time":1,"text":"y"}\n'
    )
    (tmp_path / FILE).write_bytes(line)
    assert list(events_over(tmp_path)) == [Event(1.5, "x", "api", 7)]
