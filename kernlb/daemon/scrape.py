"""The listener for those who only look: GET /metrics, and what is added to it. On TCP, loopback
unless configured otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from kernlb import metrics
from kernlb.model import parse_endpoint


class MetricsServer:
    """Serves what Prometheus scrapes; read-only. ``extend`` adds other routes. One page is made at
    a time: who asks meanwhile gets the one that is being made."""

    def __init__(
        self,
        source: metrics.Source,
        extend: Callable[[web.Application], None] = lambda application: None,
    ) -> None:
        self._source, self._extend = source, extend
        self._making: asyncio.Task[bytes] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, listen: str) -> None:
        """``listen`` is address:port. Raises OSError if it is taken."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        self._extend(application)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        address, port = parse_endpoint(listen)
        await web.TCPSite(self._runner, str(address), port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._making is not None:
            self._making.cancel()

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(metrics.render(self._source))
        page = await asyncio.shield(self._making)
        return web.Response(body=page, headers={"Content-Type": metrics.CONTENT_TYPE})
