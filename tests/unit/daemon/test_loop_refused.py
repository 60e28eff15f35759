"""What the kernel refuses holds back capacity, never a verdict or a hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import ServerState, SyncState
from kernlb.intent import AdminMode
from tests.unit.daemon.health_world import ADDRESSES, HealthWorld, health_world
from tests.unit.daemon.world import World, key, story, web

ONE, TWO = ADDRESSES["one"], ADDRESSES["two"]


async def scheduler_is_refused(world: World, wish: dict[str, object]) -> None:
    """By a reload, which takes nothing back."""
    world.kernel.refuse_ops("~ service")
    world.write("web", wish | {"scheduler": "mh"})
    await world.changes.reload()
    assert world.state("web") is SyncState.FAILED


@story
async def test_a_dead_server_goes_while_an_edit_of_its_service_is_refused(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two", "three") as (world, backends):
        wish = backends.wish("one", "two", "three")
        await world.start(web=wish)
        await world.until_weights(one=1, two=1, three=1)
        await scheduler_is_refused(world, wish)
        await backends.die("two")
        await world.until_weights(one=1, three=1)
        await world.until(lambda: f"- server tcp/192.0.2.10:80 {TWO}" in world.told())
        await backends.live("two")
        await world.until_weights(one=1, two=1, three=1)


@story
async def test_a_dead_server_goes_while_another_is_refused_a_place(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "three") as (world, backends):
        await world.start(web=backends.wish("one", "two", "three"))
        await world.until_weights(one=1, three=1)
        world.kernel.refuse_ops(f"+ server tcp/192.0.2.10:80 {TWO}")
        await backends.live("two")
        await world.until(lambda: world.state("web") is SyncState.FAILED)
        await backends.die("one")
        await world.until_weights(three=1)
        # who is the last that could serve stays, as nothing is there to replace it
        await backends.die("three")
        await world.until(lambda: not world.subject(ADDRESSES["three"]).state.condition.good)
        await world.until_heard(TWO)
        assert world.weights(key()) == {ADDRESSES["three"]: 1}
        world.kernel.refuse_ops()
        await world.audit.walk()
        assert world.weights(key()) == {TWO: 1}


@story
@pytest.mark.parametrize(
    ("mode", "left"),
    [
        (AdminMode.DISABLED, {"10.0.0.2": 1}),
        (AdminMode.DRAINING, {"10.0.0.1": 0, "10.0.0.2": 1}),
    ],
)
async def test_an_operator_takes_a_server_out_whatever_else_is_refused(
    world: World, mode: AdminMode, left: dict[str, int]
) -> None:
    wish = web("10.0.0.1", "10.0.0.2")
    await world.start(web=wish)
    await scheduler_is_refused(world, wish)
    change = await world.changes.hold("web", "10.0.0.1", mode, dry_run=False)
    assert world.weights(key()) == left
    assert [op.kind for op in change.ops if op.server is None] == []
    assert "~ service" in change.warnings[0]
    change = await world.changes.hold("web", "10.0.0.1", None, dry_run=False)
    assert world.weights(key()) == {"10.0.0.1": 1, "10.0.0.2": 1}


@story
async def test_a_drain_ends_while_an_edit_is_refused(world: World) -> None:
    wish = web("10.0.0.1", "10.0.0.2")
    await world.start(web=wish)
    await world.changes.hold(
        "web", "10.0.0.1", AdminMode.DRAINING, drain_timeout=5.0, dry_run=False
    )
    await scheduler_is_refused(world, wish)
    world.now += 10
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await world.deadlines.run()
    assert world.weights(key()) == {"10.0.0.2": 1}
    assert world.role("web", "10.0.0.1") is ServerState.DRAINED


@story
async def test_a_server_is_not_disabled_before_another_serves(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    world.write("web", web("10.0.0.1", "10.0.0.2"))
    world.kernel.refuse_ops("+ server")
    await world.changes.reload()
    with pytest.raises(RequestRefusedError):
        await world.changes.hold("web", "10.0.0.1", AdminMode.DISABLED, dry_run=False)
    assert world.weights(key()) == {"10.0.0.1": 1}
    assert world.role("web", "10.0.0.1") is ServerState.UP


@story
async def test_what_the_file_no_longer_names_waits_for_its_replacement_alone(
    world: World,
) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await scheduler_is_refused(world, web("10.0.0.1"))
    assert world.weights(key()) == {"10.0.0.1": 1}  # a scheduler is no replacement
    world.kernel.refuse_ops("~ service", "+ server")
    world.write("web", web("10.0.0.3"))
    await world.changes.reload()
    assert world.weights(key()) == {"10.0.0.1": 1}


@asynccontextmanager
async def retried(world: HealthWorld, first: float, most: float) -> AsyncIterator[None]:
    world.reconciler.retries.first = first
    run = world.reconciler.retries.run(world.reconciler.wake, lambda: most)
    task = asyncio.create_task(run)
    try:
        yield
    finally:
        task.cancel()


@story
async def test_a_verdict_that_the_kernel_refused_once_does_not_wait_for_the_audit(
    tmp_path: Path,
) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two"))
        await world.until_weights(one=1, two=1)
        async with retried(world, 0.02, 0.04):
            world.kernel.refuse_ops("- server")
            await backends.die("two")
            await world.until(lambda: world.journal.count(world.journal[-1]) > 5)
            assert world.weights(key()) == {ONE: 1, TWO: 1}
            world.kernel.refuse_ops()
            await world.until_weights(one=1)
            await world.until(lambda: world.state("web") is SyncState.SYNCED)
        assert world.told().count("refused on purpose") == 1
        assert world.told().count("- server") == 2  # refused, and done
