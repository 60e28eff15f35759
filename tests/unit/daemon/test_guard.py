"""What nobody foresaw: work goes on or the daemon ends, and an operator hears of it either way."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest

from kernlb.daemon import guard as module
from kernlb.daemon.events import Events
from kernlb.daemon.guard import EndedError, Guard
from kernlb.health.lateness import Lateness
from tests.unit.daemon.world import story


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    monkeypatch.setattr(module, "PAUSE", 0.001)
    return Events(lambda: 0.0)


def failing(times: int) -> tuple[list[int], Any]:
    """Work that fails so often, then is done; how often it was begun."""
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) <= times:
            raise KeyError(f"eth{len(begun)}")

    return begun, work


@story
async def test_work_that_fails_is_begun_again_and_told(
    events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(events)
    begun, work = failing(3)
    await guard.keep("sampler", work)
    assert len(begun) == 4
    (trouble,) = guard.troubles()
    assert trouble == "sampler failed 3 times, a fault of kernlb (see the log): KeyError: 'eth3'"
    assert [each.text for each in events] == ["sampler failed, a fault of kernlb: KeyError: 'eth1'"]
    (logged,) = [each for each in caplog.records if each.exc_info]
    assert logged.getMessage() == "sampler failed"


@story
async def test_each_kind_is_logged_once(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(events)
    turn = itertools.count()

    async def work() -> None:
        if (now := next(turn)) == 6:
            return
        if now % 2:
            raise ValueError("odd")
        raise TypeError("even")

    await guard.keep("sweep", work)
    assert [type(each.exc_info[1]) for each in caplog.records if each.exc_info] == [
        TypeError,
        ValueError,
    ]
    assert "sweep failed 6 times" in guard.troubles()[0]


@story
async def test_what_ends_ends_and_what_is_cancelled_is(events: Events) -> None:
    guard = Guard(events)
    await guard.keep("watchdog", failing(0)[1])
    kept = asyncio.create_task(guard.keep("sampler", asyncio.Event().wait))
    await asyncio.sleep(0)
    kept.cancel()
    with pytest.raises(asyncio.CancelledError):
        await kept
    assert guard.troubles() == []


@story
async def test_what_the_daemon_is_for_ends_it_in_one_sentence(events: Events) -> None:
    with pytest.raises(EndedError, match=r"^cannot go on: audit failed: KeyError: 'eth1'$"):
        await Guard(events).must("audit", failing(1)[1])


@story
async def test_a_callback_that_fails_is_told_and_ends_nothing(
    events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    guard, loop = Guard(events), asyncio.get_running_loop()
    loop.set_exception_handler(guard.hear)
    broken = Lateness()
    loop.call_soon(broken.add, "late")
    await asyncio.sleep(0.01)
    (trouble,) = guard.troubles()
    assert trouble.startswith("kernlb.health.lateness failed 1 time, a fault of kernlb")
    assert any(each.exc_info and each.levelno == logging.ERROR for each in caplog.records)


@story
async def test_a_monitor_that_cannot_go_on_ends_the_daemon(events: Events) -> None:
    guard, loop = Guard(events), asyncio.get_running_loop()
    loop.set_exception_handler(guard.hear)
    names = {"__name__": "kernlb.health.monitor"}
    exec("def start_due():\n    raise IndexError('heap')\n", names)
    loop.call_soon(names["start_due"])  # type: ignore[arg-type]
    with pytest.raises(EndedError, match=r"^cannot go on: .*IndexError: heap$"):
        await asyncio.wait_for(guard.monitor(), 5)


@story
async def test_what_is_not_of_kernlb_is_left_to_the_loop(
    events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    guard, loop = Guard(events), asyncio.get_running_loop()
    loop.set_exception_handler(guard.hear)
    loop.call_soon(int, "x")
    await asyncio.sleep(0.01)
    assert guard.troubles() == []
    assert "ValueError" in caplog.text
