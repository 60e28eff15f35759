"""A daemon that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from kernlb.cli.app import run
from kernlb.cli.console import Console
from kernlb.control.protocol import PROBLEM_TYPE, STATUS, Change, Fault, Problem, ProblemKind


class Request(NamedTuple):
    method: str
    path: str
    body: Any = None


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class StubDaemon(socketserver.ThreadingUnixStreamServer):
    """Speaks HTTP on a unix socket. ``answers`` by "METHOD /path", else ``change``."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path
        self.requests: list[Request] = []
        self.answers: dict[str, Any] = {}
        self.change: Any = Change(ops=[], applied=True)
        self.raw: bytes | None = None

    def says(self, request: str, *answers: Any) -> None:
        """Answer ``request`` with these in turn, and with the last one from then on."""
        self.answers[request] = list(answers)

    def refuses(self, kind: ProblemKind, title: str, *faults: Fault) -> None:
        self.change = Problem(kind, title, STATUS[kind], list(faults))

    @property
    def only(self) -> Request:
        (request,) = self.requests
        return request


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StubDaemon

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(content) if content else None
        self.server.requests.append(Request(self.command, self.path, body))
        self.close_connection = True
        if self.server.raw is not None:
            self.wfile.write(self.server.raw)
            return
        answers = self.server.answers.get(f"{self.command} {self.path}")
        answer = self.server.change if answers is None else answers[0]
        if answers is not None and len(answers) > 1:
            answers.pop(0)
        problem = isinstance(answer, Problem)
        payload = msgspec.json.encode(answer)
        self.send_response(answer.status if problem else 200)
        self.send_header("Content-Type", PROBLEM_TYPE if problem else "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST = _serve  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StubDaemon]:
    with StubDaemon(tmp_path / "s") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Kernlb = Callable[..., Outcome]


@pytest.fixture
def kernlb_at(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Kernlb]:
    """The command, talking to whatever is at a path; time passes only in its sleeps."""
    monkeypatch.setenv("COLUMNS", "200")

    def at(path: Path) -> Kernlb:
        def kernlb(*args: str) -> Outcome:
            monkeypatch.setenv("KERNLB_SOCKET", str(path))
            capfd.readouterr()
            code = run(args, Console(clock=lambda: 1_000_000.0, sleep=lambda _: None))
            out, err = capfd.readouterr()
            return Outcome(code, out, err)

        return kernlb

    return at


@pytest.fixture
def kernlb(daemon: StubDaemon, kernlb_at: Callable[[Path], Kernlb]) -> Kernlb:
    return kernlb_at(daemon.path)
