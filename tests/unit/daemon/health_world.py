"""A daemon that watches real servers: TCP on loopback, told to live and die by the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from kernlb.config.health_settings import HealthSettings
from kernlb.daemon.desired import Health
from kernlb.daemon.health import HealthKeeper
from kernlb.daemon.health_views import HealthOverview
from kernlb.daemon.monitoring import make_monitor
from kernlb.daemon.probe_counts import ProbeCounts
from kernlb.datapath import Datapath
from kernlb.health.monitor import Monitor, Subject
from kernlb.model import DatapathKind
from tests.unit.daemon.world import Wish, World, key

CHECK: dict[str, Any] = {
    "type": "tcp",
    "interval": "100ms",
    "fast_interval": "50ms",
    "timeout": "100ms",
    "rise": 2,
    "fall": 2,
    "jitter": 0,
}
NO_HOLDING = HealthSettings(lateness_limit=60.0, partition_grace=0.0)  # on a busy machine too


class HealthWorld(World):
    """``restart`` ends the daemon before as a kill does: nothing is told to anybody."""

    settings = NO_HOLDING
    monitor: Monitor | None = None
    runner: asyncio.Task[None] | None = None

    def make_health(self, datapaths: Mapping[DatapathKind, Datapath]) -> Health:
        self.end()
        self.counts = ProbeCounts()
        keeper = HealthKeeper(
            datapaths, self.runtime, self.events, lambda declaration, server: None
        )
        self.monitor = make_monitor(self.settings, keeper, self.counts)
        self.health_overview = HealthOverview(keeper, self.counts, lambda: self.now)
        self.runner = asyncio.create_task(keeper.run(self._wake))
        return keeper

    async def _wake(self, *what: Any) -> object:
        return await self.reconciler.wake(*what)

    def end(self) -> None:
        if self.monitor is not None:
            self.monitor.stop()
        if self.runner is not None:
            self.runner.cancel()

    async def begin_again(self) -> None:
        """A new daemon over what the one before left, on a new page of the journal."""
        self.forget()
        self.restart()
        await self.changes.start()

    # -- what there is to see

    def subject(self, address: str) -> Subject:
        assert self.monitor is not None
        (found,) = (
            each
            for each in self.monitor.subjects.values()
            if str(each.key.target.address) == address
        )
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        """The story's own limit ends what never comes true."""
        while not condition():  # noqa: ASYNC110 - what is waited for is anything at all
            await asyncio.sleep(0.002)

    async def until_weights(self, port: int = 80, **weights: int) -> None:
        """``one=1`` is 127.0.0.1 with weight 1."""
        wanted = {ADDRESSES[name]: weight for name, weight in weights.items()}
        await self.until(lambda: self.weights(key(port)) == wanted)

    async def until_heard(self, *addresses: str, times: int = 3) -> None:
        """Each has been asked that often again."""
        subjects = [self.subject(address) for address in addresses]
        for _ in range(times):
            ends = [subject.past[-1].at if subject.past else 0.0 for subject in subjects]
            await self.until(
                lambda ends=ends: all(
                    subject.past and subject.past[-1].at > end
                    for subject, end in zip(subjects, ends, strict=True)
                )
            )


ADDRESSES = {"one": "127.0.0.1", "two": "127.0.0.2", "three": "127.0.0.3", "sorry": "127.0.0.9"}


class Backends:
    """TCP servers at one port of several addresses of loopback; those named live."""

    def __init__(self) -> None:
        self.port = 0
        self.says = b""
        self._servers: dict[str, asyncio.Server] = {}

    async def live(self, *names: str) -> None:
        for name in names:
            server = await asyncio.start_server(
                self._serve, ADDRESSES[name], self.port, reuse_address=True
            )
            self.port = server.sockets[0].getsockname()[1]
            self._servers[name] = server

    async def die(self, *names: str) -> None:
        for name in names:
            server = self._servers.pop(name)
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(self.says)
            await writer.drain()
        writer.close()

    def wish(self, *names: str, check: object = CHECK, port: int = 80, **more: Any) -> Wish:
        """A document with these servers; ``name*weight``."""
        parts = [name.partition("*") for name in names]
        servers = [
            {"address": ADDRESSES[name], "port": self.port, "weight": int(weight or 1)}
            for name, _, weight in parts
        ]
        wish = {"address": "192.0.2.10", "port": port, "check": check, "servers": servers}
        if "sorry_server" in more:
            more["sorry_server"] = {"address": ADDRESSES["sorry"], "port": self.port}
        return wish | more


@contextlib.asynccontextmanager
async def health_world(root: Path, *alive: str) -> AsyncIterator[tuple[HealthWorld, Backends]]:
    """``alive`` are the names of backends that live from the start."""
    backends = Backends()
    if not alive:  # a port that nobody listens at
        await backends.live("sorry")
        await backends.die("sorry")
    await backends.live(*alive)
    world = HealthWorld(root)
    try:
        yield world, backends
    finally:
        world.end()
        await backends.die(*list(backends._servers))
