"""The load generator: lives in the client's namespace and is told what to send, a line at a time.

    python -I -S client.py        one JSON object a line in, one JSON object a line out

Verbs are the functions in VERBS. Batches answer when complete; a stream runs in the background
until stopped and keeps every failure with its time. Nothing here raises to the caller: what went
wrong with a request is its answer's `error`, named by errno or by what was missing.
Standard library only; `load.py` is the other end.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

Record = dict[str, Any]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

ECHO_PORT = 7


class Load:
    """What is open between two lines: echo sessions and streams, each by its number."""

    def __init__(self) -> None:
        self.sessions: dict[int, Connection] = {}
        self.streams: dict[int, Stream] = {}
        self.numbers = itertools.count(1)


async def http(load: Load, order: Record) -> Record:
    """`count` requests, `concurrency` at a time, from the sources in turn."""
    sources = itertools.cycle(order["sources"] or [None])
    slots = asyncio.Semaphore(order["concurrency"])

    async def one(source: str | None) -> Record:
        async with slots:
            return await http_request(order, source)

    requests = [one(source) for _, source in zip(range(order["count"]), sources, strict=False)]
    return {"answers": await asyncio.gather(*requests)}


async def udp(load: Load, order: Record) -> Record:
    """`count` queries one after another, each from a socket of its own."""
    sources = itertools.cycle(order["sources"] or [None])
    answers = [
        await udp_query(order, source)
        for _, source in zip(range(order["count"]), sources, strict=False)
    ]
    return {"answers": answers}


async def open_sessions(load: Load, order: Record) -> Record:
    """Connect `count` echo sessions and hold them open; each answer has its `session` number."""
    answers = []
    sources = itertools.cycle(order["sources"] or [None])
    for _, source in zip(range(order["count"]), sources, strict=False):
        answers.append(await open_session(load, order, source))
    return {"answers": answers}


async def echo(load: Load, order: Record) -> Record:
    """Send `bytes` on each session and expect them back."""
    return {"answers": [await echo_on(load, number, order) for number in order["sessions"]]}


async def close_sessions(load: Load, order: Record) -> Record:
    for number in order["sessions"] or list(load.sessions):
        _, writer = load.sessions.pop(number)
        writer.close()
    return {}


async def start_stream(load: Load, order: Record) -> Record:
    number = next(load.numbers)
    load.streams[number] = Stream(order)
    return {"stream": number}


async def look_at_stream(load: Load, order: Record) -> Record:
    return load.streams[order["stream"]].record()


async def stop_stream(load: Load, order: Record) -> Record:
    """No new requests; those under way are awaited, then everything seen is told."""
    stream = load.streams.pop(order["stream"])
    await stream.stop()
    return stream.record()


VERBS: dict[str, Callable[[Load, Record], Awaitable[Record]]] = {
    "http": http,
    "udp": udp,
    "open": open_sessions,
    "echo": echo,
    "close": close_sessions,
    "start-stream": start_stream,
    "look-at-stream": look_at_stream,
    "stop-stream": stop_stream,
}


class Stream:
    """Requests at a steady rate, started by the clock whether or not earlier ones are answered."""

    def __init__(self, order: Record) -> None:
        self._order = order
        self._interval = 1.0 / order["rate"]
        self._ends_at = time.monotonic() + order["duration"]
        self._sent = 0
        self._by_server: Counter[str] = Counter()
        self._failures: list[Record] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._pace = asyncio.create_task(self._send_steadily())

    async def stop(self) -> None:
        self._pace.cancel()
        await asyncio.gather(self._pace, *self._under_way, return_exceptions=True)

    def record(self) -> Record:
        answered = sum(self._by_server.values())
        return {
            "sent": self._sent,
            "answered": answered,
            "by_server": dict(self._by_server),
            "failures": self._failures,
        }

    async def _send_steadily(self) -> None:
        sources = itertools.cycle(self._order["sources"] or [None])
        due = time.monotonic()
        while due < self._ends_at:
            task = asyncio.create_task(self._request(next(sources)))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            self._sent += 1
            # A slow emulated client falls behind; it catches up by at most one request.
            due = max(due + self._interval, time.monotonic() - self._interval)
            await asyncio.sleep(max(due - time.monotonic(), 0))

    async def _request(self, source: str | None) -> None:
        at = time.time()
        answer = await http_request(self._order, source)
        if answer["error"]:
            self._failures.append({"at": at, "error": answer["error"], "source": source})
        else:
            self._by_server[answer["server"]] += 1


async def http_request(order: Record, source: str | None) -> Record:
    started = time.monotonic()
    try:
        async with asyncio.timeout(order["timeout"]):
            answer = await _http_exchange(order, source)
    except Exception as error:
        answer = _failed(error)
    answer["seconds"] = time.monotonic() - started
    return answer


async def _http_exchange(order: Record, source: str | None) -> Record:
    reader, writer = await _connect(order, source)
    try:
        head = f"{order['method']} {order['path']} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n"
        if order["body"]:
            head += f"Content-Length: {order['body']}\r\n"
        writer.write(head.encode() + b"\r\n" + b"x" * order["body"])
        await writer.drain()
        return _read_http(await reader.read(-1))
    finally:
        writer.close()


def _read_http(answer: bytes) -> Record:
    """Who answered and whom it saw: in the body (`server1 10.0.0.11`) or in X-Server, X-Client."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return _failed(EOFError())
    first, *fields = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (field.partition(": ") for field in fields)}
    status = int(first.split()[1])
    if len(body) < int(headers.get("content-length", 0)):
        return _failed(EOFError())
    words = body.decode("latin-1").split() if len(body) < 200 else []
    server, client, received = [*words, None, None, None][:3]
    return {
        "server": headers.get("x-server", server),
        "client": headers.get("x-client", client),
        "bytes": len(body),
        "received": int(received) if received and received.isdigit() else 0,
        "error": None if status == 200 else f"HTTP {status}",
    }


async def udp_query(order: Record, source: str | None) -> Record:
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    payload = b"q" * order["body"]
    try:
        with socket.socket(_family(order), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as query:
            if source:
                query.bind((source, 0))
            query.connect((order["vip"], order["port"]))
            await loop.sock_sendall(query, payload)
            async with asyncio.timeout(order["timeout"]):
                answer = await loop.sock_recv(query, 65536)
        line, _, rest = answer.partition(b"\n")
        server, client = line.decode().split()
        wrong = None if rest == payload else "WRONG PAYLOAD"
        record = _answered(server, client, len(answer), wrong)
    except Exception as error:
        record = _failed(error)
    record["seconds"] = time.monotonic() - started
    return record


async def open_session(load: Load, order: Record, source: str | None) -> Record:
    try:
        async with asyncio.timeout(order["timeout"]):
            connection = await _connect(order, source)
            server, client = (await connection[0].readline()).decode().split()
    except Exception as error:
        return _failed(error)
    number = next(load.numbers)
    load.sessions[number] = connection
    return _answered(server, client, 0, None) | {"session": number}


async def echo_on(load: Load, number: int, order: Record) -> Record:
    reader, writer = load.sessions[number]
    payload = os.urandom(64) * (order["body"] // 64 + 1)
    try:
        async with asyncio.timeout(order["timeout"]):
            writer.write(payload)
            returned, _ = await asyncio.gather(reader.readexactly(len(payload)), writer.drain())
    except Exception as error:
        return _failed(error) | {"session": number}
    wrong = None if returned == payload else "WRONG PAYLOAD"
    return _answered(None, None, len(returned), wrong) | {"session": number}


async def _connect(order: Record, source: str | None) -> Connection:
    local = (source, 0) if source else None
    return await asyncio.open_connection(order["vip"], order["port"], local_addr=local)


def _family(order: Record) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in order["vip"] else socket.AF_INET


def _answered(server: str | None, client: str | None, size: int, error: str | None) -> Record:
    return {"server": server, "client": client, "bytes": size, "received": 0, "error": error}


def _failed(error: Exception) -> Record:
    return _answered(None, None, 0, _name(error))


def _name(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "TIMEOUT"
    if isinstance(error, OSError) and error.errno:
        return errno.errorcode.get(error.errno, str(error.errno))
    if isinstance(error, EOFError | ValueError):
        return "CUT SHORT"
    return f"{type(error).__name__}: {error}"


async def main() -> None:
    """Orders come one at a time; streams go on between them. Ends when stdin does."""
    load = Load()
    orders = asyncio.StreamReader(limit=1 << 24)
    protocol = asyncio.StreamReaderProtocol(orders)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    while line := await orders.readline():
        order = json.loads(line)
        try:
            result = await VERBS[order["do"]](load, order)
        except Exception as error:
            result = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
