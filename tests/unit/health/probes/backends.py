"""Backends written in the test, on loopback, and one probe asked of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import uvloop

from kernlb.health.check import Check, Target
from kernlb.health.outcome import Result
from kernlb.health.probes.making import make_probe

LOCALHOST = IPv4Address("127.0.0.1")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
PATIENCE = 10.0  # seconds: longer than any answer takes that does come
SHORT = 0.3  # where none comes

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(
    awaitable: Awaitable[Result], loop: Callable[[], asyncio.AbstractEventLoop] = LOOPS["uvloop"]
) -> Result:
    async def bounded() -> Result:
        return await asyncio.wait_for(awaitable, PATIENCE * 2)

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(bounded())


async def ask(check: Check, target: Target, within: float = PATIENCE) -> Result:
    """One result; a second one, or one from within start, is an error."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Result] = loop.create_future()
    make_probe(check, within, target, loop).start(answered.set_result)
    assert not answered.done()
    return await answered


async def ask_backend(
    check: Check,
    behaviour: Behaviour,
    within: float = PATIENCE,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
) -> Result:
    server = await asyncio.start_server(behaviour, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        return await ask(check, Target(ip_address(host), port), within)
    finally:
        server.close()


def says(*pieces: bytes, then: str = "close") -> Behaviour:
    """Read the request, send the pieces one by one, then close, hang or reset."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if then == "hang":
                await reader.read()
            if then == "reset":
                reset(writer)
        except OSError:
            pass  # the probe has heard enough
        finally:
            writer.close()

    return behave


def without_end(piece: bytes, first: bytes = b"") -> Behaviour:
    """Send ``first``, then ``piece`` again and again for as long as anybody reads."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)
            writer.write(first)
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except OSError:
            pass
        finally:
            writer.close()

    return behave


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
