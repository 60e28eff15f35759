"""What watchers see: counters sampled in the background, shares, results of checks, warnings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol_overview import Overview, ServiceLine
from kernlb.daemon import sampler as sampling
from kernlb.datapath import Counters, ServerStats, ServiceStats
from kernlb.intent import AdminMode
from tests.unit.daemon.health_world import health_world
from tests.unit.daemon.world import World, key, ref, story, web


async def overview(world: World, *names: str, history: int = 9) -> Overview:
    return msgspec.json.decode(await world.board.overview(names, history), type=Overview)


async def line(world: World, name: str = "web") -> ServiceLine:
    (found,) = (await overview(world, name)).services
    return found


def count(world: World, *connections: int, port: int = 80) -> None:
    """So many connections so far on the servers of a service, in their order."""
    servers = world.kernel.state[key(port)].by_key()
    world.kernel.set_stats(
        key(port),
        ServiceStats(
            Counters(sum(connections)),
            {
                each: ServerStats(Counters(number, bytes_in=number * 1000), active=number // 10)
                for each, number in zip(servers, connections, strict=True)
            },
        ),
    )


async def later(world: World, *connections: int, seconds: float = 5.0) -> None:
    """Time goes by, connections begin, and the sampler looks."""
    world.now += seconds
    count(world, *connections)
    await world.sampler.sweep()


@story
async def test_what_was_promised_stands_beside_what_came(world: World) -> None:
    await world.start(web=web("10.0.0.1*3", "10.0.0.2", scheduler="wrr", labels={"team": "a"}))
    await world.sampler.sweep()
    now = await line(world)
    assert [each.promised for each in now.servers] == [0.75, 0.25]
    assert [each.received for each in now.servers] == [None, None]
    await later(world, 90, 10)
    now = await line(world)
    assert [each.received for each in now.servers] == [0.9, 0.1]
    assert [each.rates.connections for each in now.servers] == [18.0, 2.0]
    assert [each.active for each in now.servers] == [9, 1]
    assert now.active == 10
    assert now.rates.connections == 20.0
    assert [moment.connections for moment in now.history] == [20.0]
    assert now.labels == {"team": "a"}
    for _ in range(14):  # nothing for longer than the window
        await later(world, 90, 10)
    assert [each.received for each in (await line(world)).servers] == [None, None]
    assert len((await line(world)).history) == 9
    assert (await overview(world, history=0)).services[0].history == []


@story
async def test_an_operators_hold_shows_with_its_time(world: World) -> None:
    await world.start(web=web("10.0.0.1", "10.0.0.2"))
    await world.changes.hold("web", "10.0.0.2", AdminMode.DRAINING, dry_run=False)
    one, two = (await line(world)).servers
    assert (one.state, one.promised, one.since) == ("up", 1.0, 0.0)
    assert (two.state, two.promised, two.since) == ("draining", 0.0, world.now)
    assert (two.weight, two.effective_weight) == (1, 0)
    (event,) = [each for each in world.events if each.cause == "drain"]
    assert (event.service, event.server) == ("web", "10.0.0.2:80")


@story
async def test_many_servers_are_told_in_parts_and_none_is_lost(world: World) -> None:
    servers = [f"10.{a}.0.{b}" for a in range(3) for b in range(1, 100)]
    await world.start(web=web(*servers), db=web("10.0.0.9", port=5432))
    found = await overview(world)
    assert [each.name for each in found.services] == ["db", "web"]
    assert [each.server for each in found.services[1].servers] == [f"{s}:80" for s in servers]
    assert (found.status.servers, found.interval, found.window) == (298, 5.0, 60.0)
    with pytest.raises(RequestRefusedError, match="there is no service nope"):
        await overview(world, "nope")


@story
async def test_an_overview_walks_through_no_kernel(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    await world.sampler.sweep()
    world.forget()
    await overview(world)
    assert world.kernel.calls == {}
    assert world.journal == []


@story
async def test_checks_show_as_strips_and_reasons(tmp_path: Path) -> None:
    async with health_world(tmp_path, "one", "two") as (world, backends):
        await world.start(web=backends.wish("one", "two"))
        await world.until_weights(one=1, two=1)
        await backends.die("two")
        await world.until_weights(one=1)
        one, two = (await line(world)).servers
        assert (one.check, one.condition, one.why) == ("tcp", "up", "")
        assert set(one.strip) == {"+"}
        assert one.duration > 0
        assert (two.state, two.condition) == ("down", "down")
        assert "refused" in two.why
        assert two.strip.endswith("--")
        assert world.now - 60 < two.since <= world.now
        assert (await line(world)).phase == "serving"
        assert (await overview(world)).warnings == ["service web: 1 of 2 servers down"]


@story
async def test_what_is_wrong_is_said_worst_first(world: World) -> None:
    world.write("bad", "port: [")
    await world.start(web=web("10.0.0.1"), db=web("10.0.0.9", port=5432), empty=web(port=81))
    await world.changes.hold("db", "10.0.0.9", AdminMode.DISABLED, dry_run=False)
    world.write("web", web("10.0.0.3"))
    world.kernel.refuse_ops("+ server")
    await world.changes.reload()
    said = (await overview(world)).warnings
    assert said[0] == "service db: no server can take a connection"
    assert said[1] == "service empty: it has no servers"
    assert said[2].startswith("service web: failed: ")
    assert "bad.yaml" in said[3]
    assert len(said) == 4


# -- the sampler


@story
async def test_a_service_that_cannot_be_read_keeps_its_last_reading(world: World) -> None:
    await world.start(web=web("10.0.0.1"), db=web("10.0.0.9", port=5432))
    await world.sampler.sweep()
    await later(world, 50)
    world.kernel.drop(key())
    world.now += 5.0
    await world.sampler.sweep()
    track = world.sampler.tracks[ref()]
    assert track.latest.totals[0] == 50
    assert world.now - track.latest.time == 5.0
    await world.changes.delete("web", dry_run=False)
    await world.sampler.sweep()
    assert list(world.sampler.tracks) == [ref(5432)]


@story
async def test_a_reading_is_used_while_it_is_fresh(world: World) -> None:
    await world.start(web=web("10.0.0.1"))
    await world.sampler.sweep()
    known = world.sampler.tracks[ref()].latest
    count(world, 7)
    world.now += 9.0
    assert world.sampler.fresh(ref()) is known
    world.now += 2.0
    read = world.sampler.fresh(ref())
    assert read is not None
    assert read.totals[0] == 7


@story
async def test_sweeps_take_turns_with_others_and_a_fiftieth_of_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {f"s{n}": web("10.0.0.1", port=1000 + n) for n in range(20)}
    await world.start(**services)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await world.sampler.sweep()
    task.cancel()
    assert turns >= len(services)

    used = iter(float(n) for n in range(10**6))  # every look takes a second
    monkeypatch.setattr(sampling, "thread_time", lambda: next(used))
    running = asyncio.create_task(world.sampler.run())
    for _ in range(100):
        await asyncio.sleep(0)
    running.cancel()
    assert world.sampler.interval == 50 * len(services)
    assert world.sampler.window >= 2 * world.sampler.interval
