"""HTTP and HTTPS: one request on one connection, and what its answer must be.

The request is made up once. The whole answer is awaited (``http_answer``: up to ``max_bytes`` of
its body), so that a server which stops half way is found out, whatever its status line said.
Redirects are not followed: a status is an answer.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address

from kernlb.health.check import HttpCheck, Target
from kernlb.health.outcome import Outcome
from kernlb.health.probes import Done
from kernlb.health.probes.http_answer import Answer, Unreadable
from kernlb.health.probes.patterns import Pattern
from kernlb.health.probes.talk import Line, Talk
from kernlb.health.probes.wording import quote

_HAVE_NO_CONTENT = {"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"}


class HttpProbe:
    __slots__ = ("_asked", "_line")

    def __init__(
        self, check: HttpCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._asked = _Asked(check, target)
        name = host_name(check.host) if check.host else None
        alpn = () if check.tls is None else ("http/1.1",)
        self._line = Line(target, check.port, timeout, loop, check.tls, name, alpn)

    def start(self, done: Done) -> Talk:
        talk = _Exchange(self._line, done, self._asked)
        talk.open()
        return talk


class _Asked:
    """The request, and what is expected of the answer."""

    __slots__ = ("body", "check", "pattern", "request")

    def __init__(self, check: HttpCheck, target: Target) -> None:
        self.check = check
        self.request = request_of(check, target)
        self.body = None if check.body is None else check.body.encode()
        self.pattern = None if check.body_regex is None else Pattern(check.body_regex)

    def judge(self, status: int, body: bytes) -> tuple[Outcome, str]:
        check = self.check
        for first, last in check.status:
            if first <= status <= last:
                break
        else:
            return Outcome.WRONG_STATUS, f"status {status}, expected {_ranges(check.status)}"
        if self.body is not None and self.body not in body:
            return Outcome.WRONG_BODY, f"no {quote(self.body)} in {_shown(body)}"
        if self.pattern is not None:
            found = self.pattern.search(body.decode("utf-8", "replace"))
            if found is None:
                return Outcome.WRONG_BODY, "the search for the regular expression took too long"
            if not found:
                return Outcome.WRONG_BODY, f"/{check.body_regex}/ is not in {_shown(body)}"
        return Outcome.PASSED, ""


class _Exchange(Talk):
    __slots__ = ("_answer", "_asked")

    def __init__(self, line: Line, done: Done, asked: _Asked) -> None:
        super().__init__(line, done)
        self._asked = asked
        self._answer: Answer | None = Answer(asked.check.method, asked.check.max_bytes)

    def request(self) -> bytes:
        return self._asked.request

    def hear(self, data: bytes) -> None:
        answer = self._answer
        assert answer is not None
        try:
            whole = answer.feed(data)
        except Unreadable as error:
            self.finish(error.outcome, error.detail)
            return
        if whole:
            self._judge(answer)

    def hear_end(self) -> None:
        if self._answer is not None and self._answer.ended():
            self._judge(self._answer)
        else:
            self.finish(Outcome.CLOSED)

    def drop(self) -> None:
        self._answer = None

    def _judge(self, answer: Answer) -> None:
        outcome, detail = self._asked.judge(answer.status, answer.body)
        if outcome is Outcome.PASSED and self.warning:
            outcome, detail = Outcome.CERTIFICATE_EXPIRES_SOON, self.warning
        self.finish(outcome, detail)


def request_of(check: HttpCheck, target: Target) -> bytes:
    rows = [
        f"{check.method} {check.path} HTTP/1.1",
        f"Host: {check.host or _host_of(check, target)}",
        "User-Agent: kernlb",
        "Connection: close",
    ]
    if not any(name.lower() == "accept" for name, _ in check.headers):
        rows.append("Accept: */*")
    if check.method not in _HAVE_NO_CONTENT:
        rows.append("Content-Length: 0")
    rows += [f"{name}: {value}" for name, value in check.headers]
    return "\r\n".join([*rows, "", ""]).encode()


def _host_of(check: HttpCheck, target: Target) -> str:
    """The target as a Host header names it (RFC 9110, 7.2)."""
    address, port = target.to, target.to_port(check.port)
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return host if port == (443 if check.tls is not None else 80) else f"{host}:{port}"


def host_name(host: str) -> str:
    """A Host header's value without its port, as certificates name it."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _ranges(status: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in status)


def _shown(body: bytes) -> str:
    return quote(body) if body else "an empty body"
