"""What watchers ask again and again: everything on one screen, and what happened since.

Two handlers for whoever serves them: the control socket, and the listener of the status page.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import API, ProblemKind
from kernlb.control.protocol_overview import Events as EventsView
from kernlb.daemon.board import Board
from kernlb.daemon.events import KEPT, Events
from kernlb.daemon.readings import HISTORY

MOMENTS = 60  # of each service, unless asked otherwise
SHOWN = 100  # events, unless asked otherwise
LONGEST_WAIT = 60.0  # seconds
_MOST = 2**53


class Watchers:
    """Handlers of GET /v1/overview and GET /v1/events."""

    def __init__(self, board: Board, events: Events) -> None:
        self._board, self._events = board, events
        self._closing = False

    def add_to(self, application: web.Application) -> None:
        """Answer there, and keep nobody waiting when it stops."""
        application.router.add_get(f"{API}/overview", self.overview)
        application.router.add_get(f"{API}/events", self.events)
        application.on_shutdown.append(self._close)

    async def overview(self, request: web.Request) -> web.Response:
        """``service`` names one, repeated several; ``history`` moments of each."""
        names = request.query.getall("service", [])
        history = int(_number(request, "history", MOMENTS, HISTORY))
        return _response(await self._board.overview(names, history))

    async def events(self, request: web.Request) -> web.Response:
        """Those after number ``since``, oldest first, else the latest; ``limit`` at most. If there
        are none yet, the answer waits ``wait`` seconds for one."""
        since = None
        if "since" in request.query:
            since = int(_number(request, "since", 0, _MOST))
        limit = int(_number(request, "limit", SHOWN, KEPT))
        wait = _number(request, "wait", 0, LONGEST_WAIT)
        service = request.query.get("service", "")
        found = self._find(since, limit, service)
        if wait and not found.events:
            found = await self._later(
                found.latest if since is None else since, limit, service, wait
            )
        return _response(msgspec.json.encode(found))

    def _find(self, since: int | None, limit: int, service: str) -> EventsView:
        events = self._events
        if since is None:
            found = events.latest(limit, service)
        else:
            found = events.since(since, limit, service)
        return EventsView(found, events.latest_number)

    async def _later(self, since: int, limit: int, service: str, wait: float) -> EventsView:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            found = self._find(since, limit, service)
            left = deadline - loop.time()
            # a number that is not reached yet is of another daemon's life: say so at once
            if found.events or left <= 0 or self._closing or since > found.latest:
                return found
            await self._events.news(left)

    async def _close(self, _: web.Application) -> None:
        self._closing = True
        self._events.release()


def _number(request: web.Request, name: str, default: float, most: float) -> float:
    """A parameter within 0..``most``."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = float(text) if name == "wait" else int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        title = f"cannot answer: {name}={text[:40]} is not a number within 0..{most:g}"
        raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title)
    return number


def _response(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
