# SPDX-License-Identifier: Apache-2.0
"""What the modules know of kernlbd: its control socket, by HTTP, and how it says no.

Standard library only, Python 3.9 and up: this runs on the balancer, by its own interpreter. Routes
and answers are those of docs/control-api.md; an answer is the daemon's JSON as plain values.

Two errors, both of one sentence. ControlError: the daemon declined, in its own words.
UnreachableError: nobody answered at the socket.
"""

from __future__ import annotations

import http.client
import json
import socket
from ipaddress import ip_address
from urllib.parse import quote, urlencode

SOCKET = "/run/kernlb/control.sock"
TIMEOUT = 300.0  # seconds without a byte; a large change takes the kernel a while
NOT_FOUND, INVALID = "not-found", "invalid-document"

ARGUMENTS = {"socket": {"type": "path", "default": SOCKET}}


class ControlError(Exception):
    """The daemon answered, and declined. ``kind`` is the problem's type."""

    def __init__(self, problem: dict) -> None:
        self.kind = problem.get("type", "internal")
        self.faults = problem.get("faults", [])
        title = problem.get("title", "kernlbd declined and did not say why")
        wrong = "; ".join(_placed(fault) for fault in self.faults)
        super().__init__(f"{title}: {wrong}" if wrong else title)


class UnreachableError(Exception):
    """No usable answer at all."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("kernlb", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Control:
    """Calls to the daemon behind ``path``; ``dry_run`` turns every change into its plan."""

    def __init__(self, path: str, dry_run: bool = False) -> None:
        self._path = path
        self._dry_run = dry_run

    def get(self, path: str, **query: str):
        return self._call("GET", path, None, query)

    def change(
        self, method: str, path: str, body=None, dry_run: bool = False, **query: str
    ) -> dict:
        """A change, or its plan: ``ops``, ``applied``, ``moved``."""
        if dry_run or self._dry_run:
            query["dry_run"] = "true"
        return self._call(method, path, body, query)

    def _call(self, method: str, path: str, body, query: dict):
        connection = _Connection(self._path)
        content = None if body is None else json.dumps(body).encode()
        target = "/v1" + path + ("?" + urlencode(query) if query else "")
        try:
            connection.request(method, target, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = _reason(error)
            raise UnreachableError(f"cannot reach kernlbd at {self._path}: {why}") from error
        finally:
            connection.close()
        if response.status >= 300:
            raise ControlError(answer if isinstance(answer, dict) else {})
        return answer


def service_path(name: str) -> str:
    return f"/services/{quote(name, safe='')}"


def server_path(service: str, server: str) -> str:
    return f"{service_path(service)}/servers/{quote(server, safe=':')}"


def endpoint(address: str, port=None) -> str:
    """``10.0.0.1:80``, ``[2001:db8::1]:80``; without a port the address alone."""
    text = str(ip_address(address))
    if port is None:
        return text
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def texts(change: dict) -> list:
    """The operations of a change, one line each."""
    return [" ".join(op["text"].split()) for op in change.get("ops", [])]


def diff(header: str, before: dict, after: dict, lines: list) -> dict:
    """What ``--diff`` shows: the declaration before and after, and what the kernel gets."""
    shown = {"before": before, "after": after, "before_header": header, "after_header": header}
    if lines:
        shown["prepared"] = "".join(line + "\n" for line in lines)
    return shown


def _placed(fault: dict) -> str:
    """``/etc/kernlb/services.d/web.yaml:3: port: must be ...``, of that what is known."""
    where = fault.get("file", "")
    if where and fault.get("line"):
        where += f":{fault['line']}"
    return ": ".join(part for part in (where, fault.get("key", ""), fault["message"]) if part)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such socket (is kernlbd running?)"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens on the socket (kernlbd has stopped)"
    if isinstance(error, PermissionError):
        return "permission denied (become root, or a member of group kernlb)"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ValueError):
        return f"its answer is not JSON ({error})"
    return str(error) or type(error).__name__
