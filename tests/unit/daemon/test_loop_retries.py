"""Retries: soon, then ever more rarely, and anew when there is news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from kernlb.daemon.retries import RETRY, Retries
from kernlb.model import ServiceRef
from tests.unit.daemon.world import ref, story

FIRST = 0.01


class Refusing:
    """A loop whose kernel refuses everything: when it was asked, for what."""

    def __init__(self, retries: Retries) -> None:
        self.retries = retries
        self.asked: list[list[ServiceRef]] = []
        self.waits: list[float] = []
        self.before = asyncio.get_running_loop().time()

    async def wake(self, refs: Sequence[ServiceRef], cause: str) -> None:
        now = asyncio.get_running_loop().time()
        self.waits.append(now - self.before)
        self.before = now
        self.asked.append([*refs])
        for each in refs:
            self.retries.failed(each, again=cause == RETRY)

    async def until(self, times: int) -> None:
        while len(self.asked) < times:  # noqa: ASYNC110 - the story's own limit ends it
            await asyncio.sleep(0.001)


@asynccontextmanager
async def refusing(most: float) -> AsyncIterator[Refusing]:
    kernel = Refusing(Retries(FIRST))
    task = asyncio.create_task(kernel.retries.run(kernel.wake, lambda: most))
    try:
        yield kernel
    finally:
        task.cancel()


@story
async def test_each_wait_is_twice_the_one_before() -> None:
    async with refusing(60.0) as kernel:
        kernel.retries.failed(ref(), again=False)
        await kernel.until(4)
        assert all(wait >= FIRST * 2**n for n, wait in enumerate(kernel.waits))
        assert kernel.asked == [[ref()]] * 4


@story
async def test_no_wait_is_longer_than_the_audits() -> None:
    async with refusing(2 * FIRST) as kernel:
        kernel.retries.failed(ref(), again=False)
        await kernel.until(12)  # else the last alone would take 20 s


@story
async def test_news_begin_anew_and_who_has_settled_is_left_alone() -> None:
    async with refusing(60.0) as kernel:
        kernel.retries.failed(ref(), again=False)
        for _ in range(12):
            kernel.retries.failed(ref(), again=True)  # an audit of each minute
        kernel.retries.failed(ref(81), again=False)
        await kernel.until(1)
        assert kernel.asked == [[ref(81)]]
        kernel.retries.settled(ref(81))
        kernel.retries.settled(ref(81))
        kernel.retries.failed(ref(), again=False)
        await kernel.until(2)
        assert kernel.asked[1:] == [[ref()]]


@story
async def test_a_disk_that_is_full_ends_nothing() -> None:
    retries = Retries(FIRST)
    tried = asyncio.Queue[None]()

    async def wake(refs: Sequence[ServiceRef], cause: str) -> None:
        tried.put_nowait(None)
        raise OSError("no space left on device")

    task = asyncio.create_task(retries.run(wake, lambda: 60.0))
    for _ in range(2):
        retries.failed(ref(), again=False)
        await tried.get()
    assert not task.done()
    task.cancel()
