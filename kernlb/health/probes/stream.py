"""A TCP connection for conversations, in clear or over TLS. What is received is always bounded.

TLS runs on memory buffers, so that closing is closing the socket: nothing is awaited, nothing is
left to the loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kernlb.health.outcome import Outcome
from kernlb.health.probes.asking import Ended, Stage
from kernlb.health.probes.sockets import Dial

_CHUNK = 16384
_FIRST_UNPRIVILEGED_PORT = 1024


class Stream:
    """Connected. Errors are the system's (OSError) and TLS's (ssl.SSLError)."""

    __slots__ = ("_incoming", "_loop", "_outgoing", "_sock", "tls")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.SocketType) -> None:
        self._loop = loop
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls: ssl.SSLObject | None = None

    async def handshake(self, context: ssl.SSLContext, name: str | None) -> None:
        """``name`` is sent as SNI and held against the certificate if the context does so."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ssl.SSLEOFError("closed in the handshake") from None
            except ssl.SSLError:
                await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                self.tls = tls
                return

    async def send(self, data: bytes) -> None:
        if self.tls is None:
            await self._loop.sock_sendall(self._sock, data)  # type: ignore[arg-type]
        elif data:
            self.tls.write(data)
            await self._flush()

    async def receive(self) -> bytes:
        """Up to 16 KB of what has come; empty at the end."""
        if self.tls is None:
            return await self._loop.sock_recv(self._sock, _CHUNK)  # type: ignore[arg-type]
        while True:
            try:
                return self.tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._loop.sock_sendall(self._sock, data)  # type: ignore[arg-type]

    async def _fill(self) -> bool:
        data = await self._loop.sock_recv(self._sock, _CHUNK)  # type: ignore[arg-type]
        if data:
            self._incoming.write(data)
        return bool(data)


@asynccontextmanager
async def connected(
    loop: asyncio.AbstractEventLoop, dial: Dial, stage: Stage
) -> AsyncIterator[Stream]:
    """A stream that is reset on leaving. From here on, silence is RESPONSE_TIMEOUT."""
    sock = dial.open()
    try:
        await loop.sock_connect(sock, dial.address)  # type: ignore[arg-type]
        # a socket may be given the very port it asks for, and meet itself: nobody listens there
        itself = sock.getsockname()[:2] == dial.address
        if itself and dial.address[1] >= _FIRST_UNPRIVILEGED_PORT:
            raise Ended(Outcome.REFUSED)
        stage.late = Outcome.RESPONSE_TIMEOUT
        yield Stream(loop, sock)
    finally:
        sock.close()
