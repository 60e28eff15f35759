"""gRPC: the health service that gRPC servers carry, asked over HTTP/2, in clear or over TLS."""

from __future__ import annotations

import asyncio

from kernlb.health.check import GrpcCheck, Target
from kernlb.health.outcome import Outcome
from kernlb.health.probes import Done
from kernlb.health.probes.grpc_health import Call
from kernlb.health.probes.talk import Line, Talk

LONGEST = 16384  # bytes of an answer, all of HTTP/2 counted


class GrpcProbe:
    __slots__ = ("_authority", "_check", "_line")

    def __init__(
        self, check: GrpcCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._check = check
        self._line = Line(target, check.port, timeout, loop, check.tls, alpn=("h2",))
        host, port = self._line.dial.address
        if check.tls is not None and check.tls.name is not None:
            host = check.tls.name
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self, done: Done) -> Talk:
        secure = self._check.tls is not None
        talk = _Calling(self._line, done, Call(self._authority, self._check.service, secure=secure))
        talk.open()
        return talk


class _Calling(Talk):
    __slots__ = ("_call", "_left")

    def __init__(self, line: Line, done: Done, call: Call) -> None:
        super().__init__(line, done)
        self._call: Call | None = call
        self._left = LONGEST

    def request(self) -> bytes:
        assert self._call is not None
        return self._call.pending()

    def hear(self, data: bytes) -> None:
        assert self._call is not None
        found = self._call.hear(data[: self._left])
        self._left -= len(data)
        if found is not None:
            if found.outcome is Outcome.PASSED and self.warning:
                self.finish(Outcome.CERTIFICATE_EXPIRES_SOON, self.warning)
            else:
                self.finish(found.outcome, found.detail)
        elif self._left < 0:
            self.finish(Outcome.TOO_LONG, f"over {LONGEST} bytes")
        else:
            self.say(self._call.pending())

    def hear_end(self) -> None:
        leaving = self._call is not None and self._call.leaving
        self.finish(Outcome.CLOSED, "after a GOAWAY" if leaving else "")

    def drop(self) -> None:
        self._call = None
