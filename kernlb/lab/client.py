"""The load generator: lives in the client's namespace and is told what to send, a line at a time.

One JSON object a line in, one JSON object a line out. Verbs are the functions in VERBS. Batches
answer when complete; streams and talks run in the background until stopped and keep every failure
with its time. What is done for each request is in `exchanges.py`, `load.py` is the other end.
Standard library only, because an emulated guest imports anything else for seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from kernlb.lab import exchanges
from kernlb.lab.exchanges import Connection, Record


class Load:
    """What is open between two lines: echo sessions, streams and talks, each by its number."""

    def __init__(self) -> None:
        self.sessions: dict[int, Connection] = {}
        self.background: dict[int, Stream | Talk] = {}
        self.numbers = itertools.count(1)


async def http(load: Load, order: Record) -> Record:
    """`count` requests, `concurrency` at a time, from the sources in turn."""
    sources = itertools.cycle(order["sources"] or [None])
    slots = asyncio.Semaphore(order["concurrency"])

    async def one(source: str | None) -> Record:
        async with slots:
            return await exchanges.http(order, source)

    requests = [one(source) for _, source in zip(range(order["count"]), sources, strict=False)]
    return {"answers": await asyncio.gather(*requests)}


async def udp(load: Load, order: Record) -> Record:
    """`count` queries one after another, each from a socket of its own."""
    sources = itertools.cycle(order["sources"] or [None])
    answers = [
        await exchanges.udp(order, source)
        for _, source in zip(range(order["count"]), sources, strict=False)
    ]
    return {"answers": answers}


async def open_sessions(load: Load, order: Record) -> Record:
    """Connect `count` echo sessions and hold them open; each answer has its `session` number."""
    answers = []
    sources = itertools.cycle(order["sources"] or [None])
    for _, source in zip(range(order["count"]), sources, strict=False):
        answer, connection = await exchanges.greet(order, source)
        if connection:
            number = next(load.numbers)
            load.sessions[number] = connection
            answer["session"] = number
        answers.append(answer)
    return {"answers": answers}


async def echo(load: Load, order: Record) -> Record:
    """Send `body` bytes on each session and expect them back."""
    answers = []
    for number in order["sessions"]:
        answer = await exchanges.echo(order, load.sessions[number])
        answers.append(answer | {"session": number})
    return {"answers": answers}


async def close_sessions(load: Load, order: Record) -> Record:
    for number in order["sessions"] or list(load.sessions):
        _, writer = load.sessions.pop(number)
        writer.close()
    return {}


async def start_stream(load: Load, order: Record) -> Record:
    number = next(load.numbers)
    load.background[number] = Stream(order)
    return {"number": number}


async def start_talk(load: Load, order: Record) -> Record:
    number = next(load.numbers)
    load.background[number] = Talk(order, [load.sessions[each] for each in order["sessions"]])
    return {"number": number}


async def look_at(load: Load, order: Record) -> Record:
    return load.background[order["number"]].record()


async def stop(load: Load, order: Record) -> Record:
    """No new requests; those under way are awaited, then everything seen is told."""
    background = load.background.pop(order["number"])
    await background.stop()
    return background.record()


VERBS: dict[str, Callable[[Load, Record], Awaitable[Record]]] = {
    "http": http,
    "udp": udp,
    "open": open_sessions,
    "echo": echo,
    "close": close_sessions,
    "start-stream": start_stream,
    "start-talk": start_talk,
    "look-at": look_at,
    "stop": stop,
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
        answer = await exchanges.http(self._order, source)
        if answer["error"]:
            self._failures.append({"at": at, "error": answer["error"], "source": source})
        else:
            self._by_server[answer["server"]] += 1


class Talk:
    """Open sessions, each of which carries data there and back every `interval` seconds."""

    def __init__(self, order: Record, sessions: list[Connection]) -> None:
        self._order = order
        self._over = False
        self._exchanged = [0] * len(sessions)
        self._failures: list[Record] = []
        self._talking = [
            asyncio.create_task(self._talk(number, session))
            for number, session in enumerate(sessions)
        ]

    async def stop(self) -> None:
        self._over = True
        await asyncio.gather(*self._talking)

    def record(self) -> Record:
        """`least`: how often the session that spoke least did."""
        counts = {"exchanged": sum(self._exchanged), "least": min(self._exchanged)}
        return {"sessions": len(self._exchanged), **counts, "failures": self._failures}

    async def _talk(self, number: int, session: Connection) -> None:
        """A session that failed once is not spoken on again."""
        interval = self._order["interval"]
        await asyncio.sleep(interval * number / len(self._exchanged))  # not all at once
        while not self._over:
            at = time.time()
            answer = await exchanges.echo(self._order, session)
            if answer["error"]:
                source = session[1].get_extra_info("sockname")[0]
                self._failures.append({"at": at, "error": answer["error"], "source": source})
                return
            self._exchanged[number] += 1
            await asyncio.sleep(interval)


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


def run() -> None:
    asyncio.run(main())
