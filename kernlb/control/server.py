"""The control socket: routes of /v1 onto the daemon's parts.

Bodies are bounded and typed; every refusal is a problem document. Who may call is in ``access``.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from kernlb import __version__
from kernlb.control import access
from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import (
    API,
    PROBLEM_TYPE,
    STATUS,
    Change,
    Documents,
    Drain,
    Problem,
    ProblemKind,
    Version,
)
from kernlb.control.watching import Watchers
from kernlb.daemon.changes import Changes
from kernlb.daemon.events import caller
from kernlb.daemon.status import Overview
from kernlb.intent import AdminMode
from kernlb.model import L4Protocol, ServerKey, parse_endpoint

log = logging.getLogger("kernlb.control")

MAX_BODY = 64 * 2**20  # bytes: apply may carry thousands of documents
T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlServer:
    """Serves the control interface on a unix socket."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._changes: Changes  # these from start() on
        self._overview: Overview
        self._watchers: Watchers
        self._socket: socket.socket | None = None
        self._path = Path()
        self._runner: web.AppRunner | None = None

    def claim(self, path: Path) -> None:
        """Take ``path`` for the owner and the control group: callers queue up from here on.

        A stale socket is replaced. Raises OSError where another daemon listens."""
        self._socket = access.listen(path, self._group)
        self._path = path

    async def start(self, changes: Changes, overview: Overview, watchers: Watchers) -> None:
        """Answer those who call."""
        if self._socket is None:
            raise RuntimeError("claim a socket first")
        self._changes, self._overview, self._watchers = changes, overview, watchers
        self._runner = web.AppRunner(self.application(), access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        """Answer no more; what was claimed is free for the next daemon. Twice equals once."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
        self._runner = self._socket = None

    def application(self) -> web.Application:
        application = web.Application(
            client_max_size=MAX_BODY, middlewares=[_problems, self._authorised]
        )
        service, server = f"{API}/services/{{name}}", f"{API}/services/{{name}}/servers/{{server}}"
        self._watchers.add_to(application)
        route = application.router.add_route
        route("GET", f"{API}/version", self._version)
        route("GET", f"{API}/status", self._status)
        route("GET", f"{API}/stats", self._stats)
        route("GET", f"{API}/health", self._health)
        route("GET", f"{API}/explain", self._explain)
        route("GET", f"{API}/dump", self._dump)
        route("GET", f"{API}/services", self._services)
        route("GET", service, self._service)
        route("GET", f"{service}/document", self._document)
        route("PUT", service, self._put)
        route("PATCH", service, self._patch)
        route("DELETE", service, self._delete)
        route("POST", f"{service}/adopt", self._adopt)
        route("POST", f"{service}/servers", self._add_server)
        route("PATCH", server, self._edit_server)
        route("DELETE", server, self._remove_server)
        route("POST", f"{server}/drain", self._drain)
        route("POST", f"{server}/enable", self._enable)
        route("POST", f"{server}/disable", self._disable)
        route("POST", f"{API}/plan", self._plan)
        route("POST", f"{API}/apply", self._apply)
        route("POST", f"{API}/reload", self._reload)
        return application

    # -- readers

    async def _version(self, request: web.Request) -> web.Response:
        return _json(Version(__version__, API, os.getpid()))

    async def _status(self, request: web.Request) -> web.Response:
        return _json(self._overview.status())

    async def _services(self, request: web.Request) -> web.Response:
        if _switch(request, "full"):
            return _json(await self._overview.services_in_full())
        return _json(self._overview.services())

    async def _service(self, request: web.Request) -> web.Response:
        return _json(self._overview.service(_name(request)))

    async def _document(self, request: web.Request) -> web.Response:
        return _json(self._changes.document(_name(request)))

    async def _stats(self, request: web.Request) -> web.Response:
        return _json(await self._overview.stats(request.query.getall("service", [])))

    async def _health(self, request: web.Request) -> web.Response:
        return _json(await self._overview.health(request.query.getall("service", [])))

    async def _explain(self, request: web.Request) -> web.Response:
        protocol = request.query.get("protocol", "")
        if protocol not in list(L4Protocol):
            title = f'protocol "{protocol}" is none of {", ".join(L4Protocol)}'
            raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title)
        return _json(
            self._overview.explain(
                L4Protocol(protocol),
                _endpoint(request, "client"),
                _endpoint(request, "to"),
                within=_switch(request, "within"),
                interface=request.query.get("interface", ""),
            )
        )

    async def _dump(self, request: web.Request) -> web.Response:
        return _json(self._overview.dump(request.query.getall("map", [])))

    # -- writers

    async def _put(self, request: web.Request) -> web.Response:
        document = await _body(request, dict[str, Any])
        return _json(
            await self._changes.put(
                _name(request),
                document,
                replace=_switch(request, "replace"),
                adopt=_switch(request, "adopt"),
                dry_run=_dry_run(request),
            )
        )

    async def _patch(self, request: web.Request) -> web.Response:
        patch = await _body(request, dict[str, Any])
        return _json(await self._changes.patch(_name(request), patch, dry_run=_dry_run(request)))

    async def _delete(self, request: web.Request) -> web.Response:
        return _json(await self._changes.delete(_name(request), dry_run=_dry_run(request)))

    async def _adopt(self, request: web.Request) -> web.Response:
        return _json(await self._changes.adopt(_name(request), dry_run=_dry_run(request)))

    async def _add_server(self, request: web.Request) -> web.Response:
        server = await _body(request, dict[str, Any])
        dry_run = _dry_run(request)
        return _json(await self._changes.add_server(_name(request), server, dry_run=dry_run))

    async def _edit_server(self, request: web.Request) -> web.Response:
        patch = await _body(request, dict[str, Any])
        return _json(
            await self._changes.edit_server(
                _name(request), _server(request), patch, dry_run=_dry_run(request)
            )
        )

    async def _remove_server(self, request: web.Request) -> web.Response:
        return _json(
            await self._changes.remove_server(
                _name(request), _server(request), dry_run=_dry_run(request)
            )
        )

    async def _drain(self, request: web.Request) -> web.Response:
        drain = await _body(request, Drain) if request.body_exists else Drain()
        if drain.timeout is not None and not 0 <= drain.timeout <= 10**9:
            title = f"cannot drain: timeout {drain.timeout} is not within 0..1000000000 seconds"
            raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title)
        return _json(await self._hold(request, AdminMode.DRAINING, drain.timeout))

    async def _enable(self, request: web.Request) -> web.Response:
        return _json(await self._hold(request, None))

    async def _disable(self, request: web.Request) -> web.Response:
        return _json(await self._hold(request, AdminMode.DISABLED))

    async def _hold(
        self, request: web.Request, mode: AdminMode | None, drain_timeout: float | None = None
    ) -> Change:
        return await self._changes.hold(
            _name(request),
            _server(request),
            mode,
            drain_timeout=drain_timeout,
            dry_run=_dry_run(request),
        )

    async def _plan(self, request: web.Request) -> web.Response:
        wanted = await _body(request, Documents) if request.body_exists else Documents()
        return _json(await self._changes.plan(wanted.documents))

    async def _apply(self, request: web.Request) -> web.Response:
        wanted = await _body(request, Documents)
        return _json(await self._changes.apply(wanted.documents, dry_run=_dry_run(request)))

    async def _reload(self, request: web.Request) -> web.Response:
        return _json(await self._changes.reload(dry_run=_dry_run(request)))

    # -- who may

    @web.middleware
    async def _authorised(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = request.transport.get_extra_info("socket") if request.transport else None
        if peer is None or not access.may(peer, self._group):
            title = f"only root and members of group {self._group} may control kernlb"
            raise RequestRefusedError(ProblemKind.FORBIDDEN, title)
        if request.method == "GET":
            return await handler(request)
        before = caller.set(access.name(peer))
        try:
            return await handler(request)
        finally:
            caller.reset(before)


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves as a problem document."""
    try:
        return await handler(request)
    except RequestRefusedError as error:
        return _problem(error.problem)
    except web.HTTPRequestEntityTooLarge:
        title = f"the request is larger than {MAX_BODY} bytes"
        return _problem(Problem(ProblemKind.TOO_LARGE, title, STATUS[ProblemKind.TOO_LARGE]))
    except web.HTTPException as error:
        title = f"{request.method} {request.path}: {error.reason.lower()}"
        kind = ProblemKind.NOT_FOUND if error.status == 404 else ProblemKind.INVALID_REQUEST
        return _problem(Problem(kind, title, error.status))
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        title = f"kernlbd failed: {type(error).__name__}: {error}"
        return _problem(Problem(ProblemKind.INTERNAL, title, STATUS[ProblemKind.INTERNAL]))


def _problem(problem: Problem) -> web.Response:
    body = msgspec.json.encode(problem)
    return web.Response(body=body, status=problem.status, content_type=PROBLEM_TYPE)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        title = f"cannot read the request: {error}"
        raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title) from error


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _server(request: web.Request) -> str:
    return request.match_info["server"]


def _endpoint(request: web.Request, name: str) -> ServerKey:
    try:
        return parse_endpoint(request.query.get(name, ""))
    except ValueError as error:
        raise RequestRefusedError(ProblemKind.INVALID_REQUEST, f"{name}: {error}") from error


def _switch(request: web.Request, name: str) -> bool:
    value = request.query.get(name, "false")
    if value not in ("true", "false"):
        title = f'{name}={value} is neither "true" nor "false"'
        raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title)
    return value == "true"


def _dry_run(request: web.Request) -> bool:
    return _switch(request, "dry_run")
