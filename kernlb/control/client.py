"""Typed calls to kernlbd over its unix socket: one method a route of ``protocol``.

Owns routes, types and blame (``wire`` speaks HTTP). Refuses to know what a document means, to
retry, and to print.

Two errors: ControlError carries the Problem with which the daemon declined;
DaemonUnreachableError says why there is no usable answer at all.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from kernlb.control.protocol import (
    API,
    PROBLEM_TYPE,
    SOCKET,
    Change,
    Documents,
    Drain,
    Problem,
    ProblemKind,
    ServiceStatsView,
    ServiceSummary,
    ServiceView,
    Status,
    Version,
)
from kernlb.control.protocol_health import Health
from kernlb.control.protocol_overview import Events, Overview
from kernlb.control.protocol_xdp import Explanation, MapDump
from kernlb.control.wire import GarbledError, exchange, request

READ_TIMEOUT = 15.0  # seconds without a byte: an answer from memory
CHANGE_TIMEOUT = 300.0  # seconds without a byte: an answer once the kernel has taken the change

Document = Mapping[str, Any]
T = TypeVar("T")


class ControlError(Exception):
    """The daemon answered, and declined."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


class DaemonUnreachableError(Exception):
    """Nobody answered at the socket, or not in HTTP."""


class Client:
    """Calls to the daemon behind ``path``. ``timeout`` in seconds overrides both limits above."""

    def __init__(self, path: str = SOCKET, timeout: float | None = None) -> None:
        self.path = path
        self.timeout = timeout

    def version(self) -> Version:
        return self._call("GET", "/version", Version)

    def status(self) -> Status:
        return self._call("GET", "/status", Status)

    def services(self) -> list[ServiceSummary]:
        return self._call("GET", "/services", list[ServiceSummary])

    def services_in_full(self) -> list[ServiceView]:
        """Every declared service, its kernel side freshly read."""
        return self._call("GET", "/services", list[ServiceView], query={"full": "true"})

    def service(self, name: str) -> ServiceView:
        return self._call("GET", _service(name), ServiceView)

    def stats(self, service: str | None = None) -> list[ServiceStatsView]:
        query = {} if service is None else {"service": service}
        return self._call("GET", "/stats", list[ServiceStatsView], query=query)

    def health(self, service: str | None = None) -> Health:
        """Of one service, or of all that have checks."""
        query = {} if service is None else {"service": service}
        return self._call("GET", "/health", Health, query=query)

    def overview(self, services: Sequence[str] = (), *, history: int | None = None) -> Overview:
        """Everything on one screen: of these services, none named: of all. ``history``: so many
        moments of each, None: as the daemon sees fit."""
        query = [("service", name) for name in services]
        query += [] if history is None else [("history", str(history))]
        return self._call("GET", "/overview", Overview, query=query)

    def events(
        self,
        since: int | None = None,
        *,
        limit: int | None = None,
        service: str = "",
        wait: float = 0.0,
    ) -> Events:
        """Those after number ``since``, oldest first; None: the latest. Waits up to ``wait``
        seconds (60 at most) for one to come."""
        asked = {"since": since, "limit": limit, "service": service or None, "wait": wait or None}
        query = {name: str(value) for name, value in asked.items() if value is not None}
        return self._call("GET", "/events", Events, query=query, timeout=READ_TIMEOUT + wait)

    def explain(
        self, protocol: str, client: str, to: str, *, within: bool = False, interface: str = ""
    ) -> Explanation:
        query = {"protocol": protocol, "client": client, "to": to}
        query |= {"within": "true"} if within else {}
        query |= {"interface": interface} if interface else {}
        return self._call("GET", "/explain", Explanation, query=query)

    def dump(self, maps: Sequence[str] = ()) -> list[MapDump]:
        """The named maps; none named: all but those of connections."""
        query = [("map", name) for name in maps]
        return self._call("GET", "/dump", list[MapDump], query=query, timeout=CHANGE_TIMEOUT)

    def add_service(
        self,
        name: str,
        document: Document,
        *,
        replace: bool = False,
        adopt: bool = False,
        dry_run: bool = False,
    ) -> Change:
        """``replace`` a service of that name; ``adopt`` one that the kernel has already."""
        asked = {"replace": replace, "adopt": adopt}
        query = {name: "true" for name, on in asked.items() if on}
        return self._change("PUT", _service(name), document, dry_run, query)

    def edit_service(self, name: str, patch: Document, *, dry_run: bool = False) -> Change:
        return self._change("PATCH", _service(name), patch, dry_run)

    def remove_service(self, name: str, *, dry_run: bool = False) -> Change:
        return self._change("DELETE", _service(name), None, dry_run)

    def adopt_service(self, name: str, *, dry_run: bool = False) -> Change:
        return self._change("POST", f"{_service(name)}/adopt", None, dry_run)

    def add_server(self, service: str, server: Document, *, dry_run: bool = False) -> Change:
        return self._change("POST", f"{_service(service)}/servers", server, dry_run)

    def edit_server(
        self, service: str, server: str, patch: Document, *, dry_run: bool = False
    ) -> Change:
        return self._change("PATCH", _server(service, server), patch, dry_run)

    def remove_server(self, service: str, server: str, *, dry_run: bool = False) -> Change:
        return self._change("DELETE", _server(service, server), None, dry_run)

    def drain_server(
        self, service: str, server: str, drain: Drain, *, dry_run: bool = False
    ) -> Change:
        return self._change("POST", f"{_server(service, server)}/drain", drain, dry_run)

    def enable_server(self, service: str, server: str, *, dry_run: bool = False) -> Change:
        return self._change("POST", f"{_server(service, server)}/enable", None, dry_run)

    def disable_server(self, service: str, server: str, *, dry_run: bool = False) -> Change:
        return self._change("POST", f"{_server(service, server)}/disable", None, dry_run)

    def plan(self, documents: Documents) -> Change:
        return self._change("POST", "/plan", documents, False)

    def apply(self, documents: Documents, *, dry_run: bool = False) -> Change:
        return self._change("POST", "/apply", documents, dry_run)

    def reload(self, *, dry_run: bool = False) -> Change:
        return self._change("POST", "/reload", None, dry_run)

    def _change(
        self,
        method: str,
        path: str,
        body: object,
        dry_run: bool,
        query: Mapping[str, str] | None = None,
    ) -> Change:
        parameters = {**(query or {}), **({"dry_run": "true"} if dry_run else {})}
        return self._call(method, path, Change, body, parameters, CHANGE_TIMEOUT)

    def _call(
        self,
        method: str,
        path: str,
        answer: type[T],
        body: object = None,
        query: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> T:
        target = API + path
        if query:
            pairs = query.items() if isinstance(query, Mapping) else query
            target += "?" + "&".join(f"{key}={_quoted(value)}" for key, value in pairs)
        content = b"" if body is None else msgspec.json.encode(body)
        message = request(method, target, content, f"application/json, {PROBLEM_TYPE}")
        with self._blame():
            status, media_type, payload = exchange(self.path, message, self.timeout or timeout)
            if 200 <= status < 300:
                return msgspec.json.decode(payload, type=answer)
        raise ControlError(_problem(status, media_type, payload))

    @contextmanager
    def _blame(self) -> Iterator[None]:
        """Turn every way of not getting an answer into one sentence."""
        try:
            yield
        except TimeoutError as error:
            raise self._unreachable("it did not answer in time") from error
        except OSError as error:
            raise self._unreachable(_reason(error)) from error
        except msgspec.MsgspecError as error:
            why = f"its answer is not what this version of kernlb reads ({error})"
            raise self._unreachable(why) from error
        except GarbledError as error:
            raise self._unreachable(str(error)) from error

    def _unreachable(self, why: str) -> DaemonUnreachableError:
        return DaemonUnreachableError(f"cannot reach kernlbd at {self.path}: {why}")


def _service(name: str) -> str:
    return f"/services/{_quoted(name)}"


def _server(service: str, server: str) -> str:
    return f"{_service(service)}/servers/{_quoted(server)}"


_UNRESERVED = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"  # RFC 3986, 2.3
    b":"  # allowed in a path segment; keeps ADDRESS:PORT readable in logs
)


def _quoted(text: str) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())


def _problem(status: int, media_type: str, payload: bytes) -> Problem:
    if media_type == PROBLEM_TYPE:
        try:
            return msgspec.json.decode(payload, type=Problem)
        except msgspec.MsgspecError:
            pass  # a problem we cannot read is still a problem
    said = payload.decode("utf-8", "replace").strip().partition("\n")[0][:200]
    title = f"cannot carry out the request: kernlbd answered {status}" + (said and f": {said}")
    return Problem(ProblemKind.INTERNAL, title, status)


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "no such socket (is kernlbd running? another --socket?)"
        case errno.ECONNREFUSED:
            return "nobody listens on the socket (kernlbd has stopped)"
        case errno.EACCES | errno.EPERM:
            return "permission denied (run as root or as a member of group kernlb)"
        case errno.ENOTSOCK | errno.EPROTOTYPE:
            return "that is not a stream socket"
        case errno.EAGAIN:
            return "it accepts no more connections"
        case errno.ECONNRESET | errno.EPIPE:
            return "it closed the connection without an answer"
    return (error.strerror or str(error)).lower()
