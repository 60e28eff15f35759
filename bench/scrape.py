"""What a scrape of the metrics page costs, and how long it keeps everybody else waiting.

    python bench/scrape.py [--servers 10000] [--services 100] [--runs 7] [--json FILE]

Puts servers with counters into the fake datapath, has the sampler read them, and makes the page:
from the sampler's readings, from readings of its own, and, beside it in the same run, the same
families of servers through prometheus_client (its objects and generate_latest). Of each it says
wall and processor time, and how long at most a task that wants the loop every millisecond was
kept waiting. Of the sampler it says what a sweep costs and what it remembers of a server;
of the overview, what an answer costs.

A busy machine makes waiting long for reasons of its own. Hence `held`: the processor time that the
loop's thread spent between two turns of the waiting task.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median

import uvloop

from kernlb import metrics
from kernlb.datapath import Counters, ServerStats, ServiceStats
from kernlb.declaration import Declaration
from kernlb.model import AddressKey, DatapathKind, L4Protocol, RealServer, VirtualService
from tests.unit.daemon.world import World

BEAT = 0.001  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="time scrapes")
    parser.add_argument("--servers", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernlb-bench-") as scratch:
        figures = uvloop.run(_bench(Path(scratch), options.servers, options.services, options.runs))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


async def _bench(root: Path, servers: int, services: int, runs: int) -> dict[str, float]:
    world = World(root)
    world.most_servers = servers
    declarations = _declared(servers, services)
    await world.reconciler.declare({each.name: each for each in declarations}, (), "start")
    chance = random.Random(1)
    _count(world, declarations, chance)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    await world.sampler.sweep()
    for _ in range(3):
        world.now += 5.0
        await world.sampler.sweep()
    after = tracemalloc.take_snapshot()
    kept = sum(each.size_diff for each in after.compare_to(before, "filename"))
    tracemalloc.stop()
    for _ in range(130):  # a full history
        world.now += 5.0
        for track in world.sampler.tracks.values():
            track._remember(track.latest)
    gc.freeze()
    figures: dict[str, float] = {"bytes a server": kept / servers}
    _count(world, declarations, chance)

    async def stale() -> bytes:
        world.now += 3600.0
        return await metrics.render(world.figures)

    async def sweep() -> object:
        world.now += 5.0
        return await world.sampler.sweep()

    page = await metrics.render(world.figures)
    tasks: dict[str, Callable[[], Awaitable[object]]] = {
        "nothing (the floor)": lambda: asyncio.sleep(0.1),
        "page, counters read anew": stale,
        "a sweep of the sampler": sweep,
        "page, from the sampler": lambda: metrics.render(world.figures),
        "prometheus_client": lambda: _peer(world),
        "overview, no history": lambda: world.board.overview((), 0),
        "overview, 60 moments": lambda: world.board.overview((), 60),
    }
    print(f"{servers} servers of {services} services; page {len(page) / 1e6:.1f} MB")
    print(f"the sampler remembers {kept / servers:.0f} bytes a server beside the history")
    print(f"{'milliseconds, median':28} {'wall':>8} {'cpu':>8} {'held':>8} {'late':>8}")
    for name, task in tasks.items():
        taken = [await _timed(task) for _ in range(runs)]
        row = [median(column) for column in zip(*taken, strict=True)]
        print(f"{name:28} " + " ".join(f"{each * 1000:8.1f}" for each in row))
        figures[name] = row[1]
    return figures


async def _timed(task: Callable[[], Awaitable[object]]) -> tuple[float, float, float, float]:
    """Wall and processor time; the longest that the loop was held, by its own processor time and
    by the clock on the wall. Seconds."""
    worst = late = 0.0

    async def beat() -> None:
        nonlocal worst, late
        while True:
            due, used = time.perf_counter() + BEAT, time.thread_time()
            await asyncio.sleep(BEAT)
            worst = max(worst, time.thread_time() - used)
            late = max(late, time.perf_counter() - due)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(5 * BEAT)
    worst = late = 0.0
    wall, used = time.perf_counter(), time.process_time()
    await task()
    taken = time.perf_counter() - wall, time.process_time() - used
    await asyncio.sleep(2 * BEAT)
    beating.cancel()
    return (*taken, worst, late)


def _declared(servers: int, services: int) -> list[Declaration]:
    each = servers // services
    return [
        Declaration(
            f"service-{number}",
            DatapathKind.IPVS,
            VirtualService(AddressKey(L4Protocol.TCP, IPv4Address(0x0A000001 + number), 80)),
            tuple(
                RealServer(IPv4Address(0xAC100000 + number * each + last), 8080)
                for last in range(each)
            ),
        )
        for number in range(services)
    ]


def _count(world: World, declarations: list[Declaration], chance: random.Random) -> None:
    def counters() -> Counters:
        return Counters(*(chance.randrange(10**size) for size in (6, 9, 9, 12, 12)))

    for each in declarations:
        own = {
            server.key: ServerStats(counters(), chance.randrange(10**4), chance.randrange(10**5), 0)
            for server in each.servers
        }
        world.kernel.set_stats(each.ref.key, ServiceStats(counters(), own))


async def _peer(world: World) -> bytes:
    """The families of servers as prometheus_client makes them, in one go."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    services = [each async for each in world.figures.services(each_server=True)]

    class Families:
        def collect(self):
            labels = ["service", "server"]
            family = GaugeMetricFamily("kernlb_server_weight", "Weight.", labels=labels)
            for each in services:
                for server in each.servers:
                    family.add_metric([each.name, str(server.key)], server.weight)
            yield family
            for kind, fields in (
                (GaugeMetricFamily, metrics.GAUGES),
                (CounterMetricFamily, metrics.COUNTERS),
            ):
                for field in fields:
                    family = kind(f"kernlb_server_{field}", field, labels=labels)
                    for each in services:
                        for key, value in zip(
                            each.reading.keys, each.reading.column(field), strict=True
                        ):
                            family.add_metric([each.name, str(key)], value)
                    yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Families())
    return generate_latest(registry)


if __name__ == "__main__":
    main()
