"""Clients of a web farm who count what fails: new connections, kept ones, long downloads.

    python -I rolling_clients.py ADDRESS ADDRESS ...

Runs until its standard input ends, lets everything under way come to its end, then prints one
JSON object. A client does what HTTP/1.1 asks of it and no more: it opens a new connection after an
answer that says `Connection: close`, and counts every other end of a connection as a failure.
Nothing is tried twice.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

RATE = 150.0  # new connections a second
KEPT, PAUSE = 20, 0.2  # connections that are kept, seconds from one request on each to the next
DOWNLOADS = 6  # at a time, each of some seconds (the server limits their rate)
BIG = 600_000  # bytes of one download
TIMEOUT = 15.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(NamedTuple):
    """A good one. ``kept``: the server keeps the connection."""

    server: str
    body: bytes
    kept: bool

    @property
    def who(self) -> str:
        """Server and version: ``web1 v2``."""
        return f"{self.server} {self.body.decode().strip()}"


class Clients:
    def __init__(self, addresses: Iterator[str]) -> None:
        self._addresses = addresses
        self._over = False
        self.done: Counter[str] = Counter()
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()  # by server and version: "web1 v2"
        self.last: dict[str, float] = {}

    async def run(self, end: asyncio.Event) -> None:
        kept = [asyncio.create_task(self._keep()) for _ in range(KEPT)]
        downloads = [asyncio.create_task(self._download()) for _ in range(DOWNLOADS)]
        once = await self._steadily(end)
        self._over = True
        await asyncio.gather(*kept, *downloads, *once)

    async def _steadily(self, end: asyncio.Event) -> set[asyncio.Task[None]]:
        under_way: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not end.is_set():
            task = asyncio.create_task(self._once())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due = max(due + 1 / RATE, time.monotonic() - 0.1)
            await asyncio.sleep(max(due - time.monotonic(), 0))
        return under_way

    async def _once(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = await self._connect()
                answer = await _get(connection, "/version", keep=False)
                connection[1].close()
            self._count("new", answer.who)
        except Exception as error:
            self._fail("new", error)

    async def _keep(self) -> None:
        connection: Connection | None = None
        while not self._over:
            try:
                async with asyncio.timeout(TIMEOUT):
                    if connection is None:
                        connection = await self._connect()
                        self.done["kept connections"] += 1
                    answer = await _get(connection, "/version", keep=True)
                kept = answer.kept
                self._count("kept", answer.who)
            except Exception as error:
                self._fail("kept", error)
                kept = False
            if not kept and connection is not None:
                connection[1].close()
                connection = None
            await asyncio.sleep(PAUSE)
        if connection is not None:
            connection[1].close()

    async def _download(self) -> None:
        while not self._over:
            try:
                async with asyncio.timeout(4 * TIMEOUT):
                    connection = await self._connect()
                    answer = await _get(connection, "/big", keep=False)
                    connection[1].close()
                if len(answer.body) != BIG:
                    raise EOFError(f"{len(answer.body)} of {BIG} bytes")
                self.done["downloads"] += 1
            except Exception as error:
                self._fail("downloads", error)
                await asyncio.sleep(0.1)

    async def _connect(self) -> Connection:
        return await asyncio.open_connection(next(self._addresses), 80)

    def _count(self, kind: str, who: str) -> None:
        self.done[kind] += 1
        self.answers[who] += 1
        self.last[who] = time.time()

    def _fail(self, kind: str, error: Exception) -> None:
        at = time.strftime("%H:%M:%S")
        self.failures.append(f"{at} {kind}: {type(error).__name__}: {error}")


async def _get(connection: Connection, path: str, *, keep: bool) -> Answer:
    reader, writer = connection
    close = "" if keep else "Connection: close\r\n"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: farm\r\n{close}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status, *lines = head.split("\r\n")
    if " 200 " not in status:
        raise ValueError(status)
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    body = await reader.readexactly(int(fields["content-length"]))
    return Answer(fields["x-server"], body, fields.get("connection") != "close")


async def main(addresses: list[str]) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, end.set)
    clients = Clients(itertools.cycle(addresses))
    print("ready", flush=True)
    await clients.run(end)
    told = {"done": clients.done, "failures": clients.failures, "answers": clients.answers}
    print(json.dumps({**told, "last": clients.last}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
