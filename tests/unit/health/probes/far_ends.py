"""Far ends of probes on loopback, good and hostile, and one way to ask them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from kernlb.health.check import Check, Target
from kernlb.health.outcome import Result
from kernlb.health.probes import Probe
from kernlb.health.probes.making import make_probe

HERE = "127.0.0.1"
PATIENCE = 20.0  # seconds until a test gives up
SHORT = 0.5  # a timeout that is meant to pass

Handler = Callable[[socket.socket], None]
T = TypeVar("T")
Answer = Callable[[bytes], list[bytes]]


def target(port: int, host: str = HERE) -> Target:
    return Target(ip_address(host), port)


def ask(check: Check, to: Target, timeout: float = PATIENCE / 2) -> Result:
    """One probe, as the daemon would run it."""

    async def once() -> Result:
        return await ask_probe(make_probe(check, timeout, to, asyncio.get_running_loop()))

    return run(once)


async def ask_probe(probe: Probe) -> Result:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()
    probe.start(ended.set_result)  # a second call would raise
    assert not ended.done(), "done was called from within start"
    result = await asyncio.wait_for(ended, PATIENCE)
    assert result.detail.isprintable()
    assert len(result.detail) <= 200
    return result


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def sockets() -> int:
    """How many this process has open."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += str(each.readlink()).startswith("socket:")
    return count


@contextmanager
def no_sockets_left() -> Iterator[None]:
    before = sockets()
    yield
    deadline = time.monotonic() + PATIENCE
    while sockets() > before:  # those of a server around this one may still be closing
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def serving(handler: Handler, host: str = HERE) -> Iterator[int]:
    """A TCP server; ``handler`` has each connection for itself, in a thread."""
    stop = threading.Event()
    with no_sockets_left(), socket.create_server((host, 0)) as listener:
        threads: list[threading.Thread] = []
        connections: list[socket.socket] = []

        def handle(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                handler(connection)

        def accept() -> None:
            with suppress(OSError):
                while not stop.is_set():
                    connection, _ = listener.accept()
                    connections.append(connection)
                    thread = threading.Thread(target=handle, args=(connection,), daemon=True)
                    threads.append(thread)
                    thread.start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(PATIENCE)  # no connection is accepted after that
            for each in connections:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in (acceptor, *threads):
                thread.join(PATIENCE)
                assert not thread.is_alive()


@contextmanager
def answering(answer: Answer, host: str = HERE) -> Iterator[int]:
    """A UDP server: each datagram is answered by those that ``answer`` makes of it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with no_sockets_left(), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(PATIENCE)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                data, source = sock.recvfrom(65535)
                if stop.is_set():
                    return
                for reply in answer(data):
                    sock.sendto(reply, source)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = sock.getsockname()[1]
        try:
            yield port
        finally:
            stop.set()
            with socket.socket(family, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (host, port))
            thread.join(PATIENCE)
            assert not thread.is_alive()


def says(*pieces: bytes, then_hang: bool = False, reads: bool = False) -> Handler:
    """A server that says this, and closes or hangs."""

    def handle(connection: socket.socket) -> None:
        if reads:
            connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)
        if then_hang:
            while connection.recv(65536):
                pass

    return handle


def resets(connection: socket.socket) -> None:
    """Reads once, then RST."""
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def closed_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port where nobody listens: it was free a moment ago."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((HERE, 0))
        return int(sock.getsockname()[1])


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose SYNs get no answer: nobody accepts, and the queue is full."""
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        listener.listen(0)
        waiting = []
        for _ in range(2):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            waiting.append(sock)
        try:
            yield listener.getsockname()[1]
        finally:
            for sock in waiting:
                sock.close()
