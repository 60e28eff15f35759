"""The metrics listener: GET /metrics on TCP, loopback unless configured otherwise."""

from __future__ import annotations

from aiohttp import web

from kernlb import metrics
from kernlb.daemon.status import Overview
from kernlb.model import parse_endpoint


class MetricsServer:
    """Serves what Prometheus scrapes; read-only."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._runner: web.AppRunner | None = None

    async def start(self, listen: str) -> None:
        """``listen`` is address:port. Raises OSError if it is taken."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        address, port = parse_endpoint(listen)
        await web.TCPSite(self._runner, str(address), port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        page = await metrics.render(self._overview)
        return web.Response(body=page, headers={"Content-Type": metrics.CONTENT_TYPE})
