"""One exchange of the load generator with a server each: an order in, its record out.

Nothing here raises to the caller: what went wrong is the record's `error`, named by errno or by
what was missing. Standard library only, as `client.py`, which calls these.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from typing import Any

Record = dict[str, Any]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def http(order: Record, source: str | None) -> Record:
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


async def udp(order: Record, source: str | None) -> Record:
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


async def greet(order: Record, source: str | None) -> tuple[Record, Connection | None]:
    """An echo session, open; None where it is not, and the record says why."""
    try:
        async with asyncio.timeout(order["timeout"]):
            connection = await _connect(order, source)
            server, client = (await connection[0].readline()).decode().split()
    except Exception as error:
        return _failed(error), None
    return _answered(server, client, 0, None), connection


async def echo(order: Record, connection: Connection) -> Record:
    """At least `body` bytes there and back."""
    reader, writer = connection
    payload = os.urandom(64) * (order["body"] // 64 + 1)
    try:
        async with asyncio.timeout(order["timeout"]):
            writer.write(payload)
            returned, _ = await asyncio.gather(reader.readexactly(len(payload)), writer.drain())
    except Exception as error:
        return _failed(error)
    wrong = None if returned == payload else "WRONG PAYLOAD"
    return _answered(None, None, len(returned), wrong)


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
