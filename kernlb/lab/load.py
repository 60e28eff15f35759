"""Load from the lab's client, in Python values: tells `client.py` what to send, returns answers.

    for answer in lab.load.http(vip, count=30):
        assert answer.client in lab.topology.sources(4)
    assert share_by_server(answers) == {"server1": 10, "server2": 20}

One process for all batches, so a batch costs neither a fork nor an interpreter's start.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kernlb.lab.background import Stream, StreamRecord, Talk, TalkRecord
from kernlb.lab.topology import IPAddress, Topology

Starter = Callable[[list[str], int, int], "subprocess.Popen[bytes]"]

START_SECONDS = 60.0
TIMEOUT = 10.0  # for one request, in seconds
PROGRAM = f"""
import sys
sys.path.append({str(Path(__file__).parents[2])!r})
from kernlb.lab.client import run
run()
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's end. `error` None means answered; else an errno's name, TIMEOUT, CUT SHORT.

    `server` is who answered, `client` the address it saw, `bytes` the size of the answer's body,
    `received` how many bytes of ours the server counted (http with a body only).
    """

    server: str | None
    client: IPAddress | None
    bytes: int
    received: int
    error: str | None
    seconds: float = 0.0
    session: int | None = None


class LoadError(Exception):
    """The load generator itself failed; a request that fails is an Answer, not this."""


class LoadClient:
    """Orders to one `client.py`. Use from one thread; every wait is bounded."""

    def __init__(self, start: Starter, topology: Topology) -> None:
        argv = [sys.executable, "-I", "-S", "-c", PROGRAM]
        self._topology = topology
        self._process = start(argv, subprocess.PIPE, subprocess.PIPE)
        self._unread = b""
        self._receive(START_SECONDS)

    def http(
        self,
        vip: IPAddress,
        *,
        port: int = 80,
        count: int = 1,
        method: str = "GET",
        path: str = "/",
        body: int = 0,
        sources: Sequence[IPAddress] | None = None,
        timeout: float = TIMEOUT,
        concurrency: int = 1,
    ) -> list[Answer]:
        """`count` requests from the client's extra addresses in turn (or from `sources`).

        A body is POSTed, to /upload unless another path is given.
        """
        if body:
            method, path = "POST", path if path != "/" else "/upload"
        return self._answers(
            "http",
            vip,
            port,
            sources,
            timeout,
            count,
            method=method,
            path=path,
            body=body,
            concurrency=concurrency,
        )

    def udp(
        self,
        vip: IPAddress,
        *,
        port: int = 53,
        count: int = 1,
        size: int = 32,
        sources: Sequence[IPAddress] | None = None,
        timeout: float = TIMEOUT,
    ) -> list[Answer]:
        """`count` queries, one at a time, each checked for its payload."""
        return self._answers("udp", vip, port, sources, timeout, count, body=size)

    def open(
        self,
        vip: IPAddress,
        *,
        port: int = 7,
        count: int = 1,
        sources: Sequence[IPAddress] | None = None,
        timeout: float = TIMEOUT,
    ) -> list[Answer]:
        """Open echo sessions and hold them; each answer that is no error has a `session`."""
        return self._answers("open", vip, port, sources, timeout, count)

    def echo(
        self, sessions: Iterable[Answer], *, size: int = 64, timeout: float = TIMEOUT
    ) -> list[Answer]:
        """Send at least `size` bytes on each session and have them back."""
        numbers = [answer.session for answer in sessions if answer.session is not None]
        order = {"do": "echo", "sessions": numbers, "body": size, "timeout": timeout}
        return _answers(self._ask(order, timeout * len(numbers)))

    def close_sessions(self, sessions: Iterable[Answer] = ()) -> None:
        """Close these sessions, or all."""
        numbers = [answer.session for answer in sessions if answer.session is not None]
        self._ask({"do": "close", "sessions": numbers}, TIMEOUT)

    def stream(
        self,
        vip: IPAddress,
        *,
        rate: float,
        duration: float = 600.0,
        port: int = 80,
        sources: Sequence[IPAddress] | None = None,
        timeout: float = TIMEOUT,
    ) -> Stream:
        """Start `rate` GETs a second in the background, until stopped or `duration` is over."""
        order = self._order("start-stream", vip, port, sources, timeout)
        order |= {"method": "GET", "path": "/", "body": 0, "rate": rate, "duration": duration}
        number = self._ask(order, TIMEOUT)["number"]
        return Stream(StreamRecord, number, lambda order: self._ask(order, timeout))

    def talk(
        self,
        sessions: Iterable[Answer],
        *,
        interval: float,
        size: int = 64,
        timeout: float = TIMEOUT,
    ) -> Talk:
        """From now on send data on each session and have it back, every `interval` seconds.

        The sessions are the talk's until it is stopped."""
        numbers = [answer.session for answer in sessions if answer.session is not None]
        order = {"do": "start-talk", "sessions": numbers, "body": size}
        order |= {"timeout": timeout, "interval": interval}
        number = self._ask(order, TIMEOUT)["number"]
        return Talk(TalkRecord, number, lambda order: self._ask(order, timeout + interval))

    def close(self) -> None:
        """End the process. Twice equals once."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        if self._process.stdout:
            self._process.stdout.close()

    def _answers(
        self,
        verb: str,
        vip: IPAddress,
        port: int,
        sources: Sequence[IPAddress] | None,
        timeout: float,
        count: int,
        **more: Any,
    ) -> list[Answer]:
        order = self._order(verb, vip, port, sources, timeout) | {"count": count} | more
        return _answers(self._ask(order, timeout * count))

    def _order(
        self,
        verb: str,
        vip: IPAddress,
        port: int,
        sources: Sequence[IPAddress] | None,
        timeout: float,
    ) -> dict[str, Any]:
        chosen = self._topology.sources(vip.version) if sources is None else sources
        texts = [str(source) for source in chosen]
        return {"do": verb, "vip": str(vip), "port": port, "sources": texts, "timeout": timeout}

    def _ask(self, order: dict[str, Any], patience: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise LoadError("cannot send load: the load generator is gone") from error
        result = self._receive(patience + START_SECONDS)
        if "refused" in result:
            raise LoadError(f"cannot {order['do']}: {result['refused']}")
        return result

    def _receive(self, patience: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], patience)
            if not ready:
                raise LoadError(f"cannot send load: no word from it for {patience:.0f} s")
            block = self._process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not block:
                raise LoadError("cannot send load: the load generator ended")
            self._unread += block
        line, _, self._unread = self._unread.partition(b"\n")
        result: dict[str, Any] = json.loads(line)
        return result


def share_by_server(answers: Iterable[Answer]) -> dict[str, int]:
    """How many answers came from each server; failures count under their error's name."""
    counted = Counter(answer.error or answer.server or "nobody" for answer in answers)
    return dict(sorted(counted.items()))


def _answers(result: dict[str, Any]) -> list[Answer]:
    answers = []
    for record in result["answers"]:
        client = record.pop("client")
        answers.append(Answer(client=ip_address(client) if client else None, **record))
    return answers
