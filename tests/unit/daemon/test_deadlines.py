"""Drains end by themselves: the sleeper wakes at the next deadline, or when holds change."""

from __future__ import annotations

import asyncio

from kernlb.intent import AdminMode
from tests.unit.daemon.world import World, key, story, web


@story
async def test_a_drain_ends_when_its_time_has_come(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    async with Sleeper(world):
        await drain(world, "10.0.0.1", 30)
        await drain(world, "10.0.0.2", 60)
        assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 1}
        world.now += 30
        await wake(world)
        assert world.weights(key()) == {"10.0.0.2": 0, "10.0.0.3": 1}
        world.now += 30
        await wake(world)
        assert world.weights(key()) == {"10.0.0.3": 1}
    assert "drain deadline: service web: - server" in world.told()


@story
async def test_a_deadline_that_passed_while_the_daemon_was_down_has_passed(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await drain(world, "10.0.0.1", 30)
    world.now += 31
    world.restart()
    await world.start()
    assert world.weights(key()) == {"10.0.0.2": 1}


@story
async def test_a_short_drain_needs_nobody_to_wake_the_sleeper(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    gone = asyncio.Event()
    world.kernel.before_each = lambda op: gone.set() if str(op).startswith("- server") else None
    async with Sleeper(world):
        await drain(world, "10.0.0.1", 0.001)
        world.now += 1  # the clock that deadlines are held against; the wait itself is real
        await gone.wait()


@story
async def test_a_drain_without_a_deadline_never_ends(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    async with Sleeper(world):
        await drain(world, "10.0.0.1", 0)
        world.now += 10**9
        await wake(world)
        assert world.weights(key()) == {"10.0.0.1": 0, "10.0.0.2": 1}


async def drain(world: World, server: str, seconds: float) -> None:
    await world.changes.hold(
        "web", server, AdminMode.DRAINING, drain_timeout=seconds, dry_run=False
    )


async def wake(world: World) -> None:
    """Give the sleeper its turns: waking, reconciling and sleeping again take a few."""
    world.deadlines.changed()
    for _ in range(50):
        await asyncio.sleep(0)


class Sleeper:
    """Runs the deadlines in the background of a block."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._world.deadlines.run())

    async def __aexit__(self, *_error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
