"""The routes of the status page, to be added to the listener of the metrics.

| path                     | answer                            |
|--------------------------|-----------------------------------|
| /                        | the page                          |
| /page/FILE               | its parts                         |
| /v1/overview, /v1/events | as on the control socket          |
| /v1/health, /v1/version  | as on the control socket          |

GET and HEAD, and nothing else. Everything of the listener leaves with ``guard.HEADERS``; all but
/metrics is answered only where ``guard.is_welcome``: what scrapes may call the host what it likes.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from kernlb import __version__
from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import API, PROBLEM_TYPE, Version
from kernlb.control.protocol_health import Health
from kernlb.page import files, guard

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_FOR_ANYBODY = "/metrics"
_WORTH_COMPRESSING = 16 << 10  # bytes; aiohttp does it in a thread, and probes go on
_MISDIRECTED = 421  # RFC 9110, 15.5.20


class Watchers(Protocol):
    """Who answers GET /v1/overview and /v1/events (control.watching)."""

    def add_to(self, application: web.Application) -> None: ...


class Readers(Protocol):
    """What else the page reads of the daemon (daemon.status)."""

    async def health(self, names: Sequence[str]) -> Health:
        """Raises RequestRefusedError for a name that is unknown."""


def add_routes(application: web.Application, watchers: Watchers, readers: Readers) -> None:
    """Serve the page and what it asks for."""
    files.files()  # of this version, whatever is installed later
    answers = _Answers(readers)
    get = application.router.add_get
    get("/", answers.index)
    get("/page/{name}", answers.part)
    get(f"{API}/health", answers.health)
    get(f"{API}/version", answers.version)
    watchers.add_to(application)
    application.middlewares.append(_guarded)
    application.on_response_prepare.append(_finish)


class _Answers:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def index(self, request: web.Request) -> web.StreamResponse:
        return _file(request, files.index(os.uname().nodename))

    async def part(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        found = files.files().get(name)
        if found is None or name == files.INDEX:
            raise web.HTTPNotFound
        return _file(request, found)

    async def health(self, request: web.Request) -> web.StreamResponse:
        return _json(await self._readers.health(request.query.getall("service", [])))

    async def version(self, request: web.Request) -> web.StreamResponse:
        return _json(Version(__version__, API, os.getpid()))


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    local = request.get_extra_info("sockname") or ("",)
    host = request.headers.get("Host")
    if request.path != _FOR_ANYBODY and not guard.is_welcome(host, str(local[0])):
        text = "this address is served to its own host: ask for localhost or 127.0.0.1\n"
        return web.Response(text=text, status=_MISDIRECTED)
    try:
        response = await handler(request)
    except RequestRefusedError as error:
        return _json(error.problem, error.problem.status, PROBLEM_TYPE)
    if isinstance(response, web.Response) and _size(response) >= _WORTH_COMPRESSING:
        response.enable_compression()
    return response


async def _finish(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer has, errors too."""
    for name, value in guard.HEADERS.items():
        response.headers.setdefault(name, value)
    if request.path.startswith(API):
        response.headers.setdefault("Cache-Control", "no-store")


def _size(response: web.Response) -> int:
    return len(response.body) if isinstance(response.body, bytes) else 0


def _file(request: web.Request, file: files.File) -> web.Response:
    headers = {"Content-Type": file.kind, "ETag": file.etag, "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == file.etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers=headers)


def _json(value: object, status: int = 200, kind: str = "application/json") -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=kind)
