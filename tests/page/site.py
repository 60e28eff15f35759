"""The page served from a thread, over readers whose answers a test writes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web
from msgspec import structs

from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import ProblemKind
from kernlb.control.protocol_health import Health, Lateness, MonitorView
from kernlb.control.protocol_overview import Overview
from kernlb.control.watching import Watchers
from kernlb.daemon.events import Events
from kernlb.page.routes import add_routes
from tests.page import sample

Make = Callable[[float], Overview]


class Site:
    """Readers and their listener. Set ``make`` at any time; ``tell`` an event."""

    def __init__(self, make: Make = sample.small) -> None:
        self.make = make
        self.asked = 0  # for overviews
        self.port = 0
        self._events = Events(time.time)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None

    # -- what the page reads

    async def overview(self, names: Sequence[str], history: int) -> bytes:
        """As the daemon's Board."""
        self.asked += 1
        made = self.make(time.time())
        if unknown := set(names) - {each.name for each in made.services}:
            raise RequestRefusedError(ProblemKind.NOT_FOUND, f"there is no service {min(unknown)}")
        services = [structs.replace(s, history=s.history[-history:]) for s in made.services]
        return msgspec.json.encode(structs.replace(made, services=services))

    async def health(self, names: Sequence[str]) -> Health:
        return Health(MonitorView(0, 0, 0, Lateness(0, 0, 0)), [])

    def tell(self, text: str, cause: str = "health") -> None:
        """An event happens."""
        self._loop.call_soon_threadsafe(self._events.add, text, cause)

    # -- its listener

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Listen; where it listened before, if it did."""
        self._do(self._start())

    def stop(self) -> None:
        """Nobody answers any more. Twice equals once."""
        self._do(self._stop())

    async def _start(self) -> None:
        application = web.Application()
        add_routes(application, Watchers(self, self._events), self)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)
