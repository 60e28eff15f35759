"""A real server's echo programs: TCP on port 7, UDP on 53 and 8053, over IPv4 and IPv6.

    python -I -S backend.py server1=NAMESPACE server2=NAMESPACE ...

Forks one process into each namespace and ends when all of them listen, so that starting many
costs one interpreter. TCP sends `server1 CLIENT\\n` first and then echoes; UDP answers with the
same line followed by the query, from the very address that was asked (a VIP, usually).
Standard library only, and no asyncio: importing it takes an emulated guest a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys

TCP_PORT = 7
UDP_PORTS = (53, 8053)
IP_PKTINFO = 8
CLONE_NEWNET = 0x40000000


class UdpAnswerer:
    """One UDP socket. The kernel tells which address each query was sent to; the answer's
    source is set to it, because a socket bound to every address would answer from another."""

    def __init__(self, name: str, family: socket.AddressFamily, port: int) -> None:
        self._name = name
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self._socket.bind(("::", port))
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            self._socket.bind(("0.0.0.0", port))

    def fileno(self) -> int:
        return self._socket.fileno()

    def act(self, loop: Loop) -> None:
        for _ in range(64):
            try:
                query, ancillary, _, client = self._socket.recvmsg(65536, 256)
            except BlockingIOError:
                return
            answer = f"{self._name} {client[0]}\n".encode() + query
            source = [_from_asked_address(item) for item in ancillary]
            try:
                self._socket.sendmsg([answer], source, 0, client)
            except OSError:
                continue  # the client is gone or unreachable: UDP promises nothing


def _from_asked_address(ancillary: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    level, kind, data = ancillary
    if level == socket.IPPROTO_IP:
        # struct in_pktinfo: interface, the local address to send from, the header's destination.
        return level, kind, struct.pack("I4s4x", 0, data[8:12])
    return level, socket.IPV6_PKTINFO, data[:16] + struct.pack("I", 0)


class EchoListener:
    """Accepts, greets each client by its own name and the client's address, and hands it on."""

    def __init__(self, name: str, family: socket.AddressFamily) -> None:
        self._name = name
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._socket.bind(("", TCP_PORT))
        self._socket.listen(4096)

    def fileno(self) -> int:
        return self._socket.fileno()

    def act(self, loop: Loop) -> None:
        try:
            connection, client = self._socket.accept()
        except OSError:
            return  # the client left before it was accepted
        loop.add(Echo(connection, f"{self._name} {client[0]}\n".encode()))


class Echo:
    """One connection: reads only when all of what was read before is sent back."""

    def __init__(self, connection: socket.socket, greeting: bytes) -> None:
        self._connection = connection
        self._connection.setblocking(False)
        self._unsent = greeting

    def fileno(self) -> int:
        return self._connection.fileno()

    def act(self, loop: Loop) -> None:
        try:
            if not self._unsent:
                self._unsent = self._connection.recv(1 << 16)
                if not self._unsent:
                    raise ConnectionError
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            loop.remove(self)
            self._connection.close()
            return
        loop.watch(self, writing=bool(self._unsent))


class Loop:
    """Calls `act` of whatever is ready, for ever."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._actors: dict[int, Actor] = {}

    def add(self, actor: Actor) -> None:
        self._actors[actor.fileno()] = actor
        self._epoll.register(actor.fileno(), select.EPOLLIN)
        if isinstance(actor, Echo):
            actor.act(self)

    def watch(self, actor: Actor, *, writing: bool) -> None:
        self._epoll.modify(actor.fileno(), select.EPOLLOUT if writing else select.EPOLLIN)

    def remove(self, actor: Actor) -> None:
        self._epoll.unregister(actor.fileno())
        del self._actors[actor.fileno()]

    def run(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                if actor := self._actors.get(descriptor):
                    actor.act(self)


Actor = UdpAnswerer | EchoListener | Echo


def serve(name: str, ready: int) -> None:
    """Listen everywhere, say so on `ready`, and serve until killed."""
    loop = Loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        loop.add(EchoListener(name, family))
        for port in UDP_PORTS:
            loop.add(UdpAnswerer(name, family, port))
    os.dup2(0, 2)  # until here errors reach whoever started us; from here nobody listens
    os.write(ready, b".")
    os.close(ready)
    loop.run()


def fork_into(name: str, namespace: str, ready: int) -> None:
    if os.fork():
        return
    os.setsid()
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as file:  # noqa: PTH123 (pathlib loads slowly)
        if libc.setns(file.fileno(), CLONE_NEWNET):
            os._exit(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    serve(name, ready)


def main(places: list[str]) -> int:
    reader, writer = os.pipe()
    for place in places:
        name, namespace = place.split("=", 1)
        fork_into(name, namespace, writer)
    os.close(writer)
    listening = 0
    while said := os.read(reader, 64):
        listening += len(said)
    if listening < len(places):
        print(f"backend: {len(places) - listening} of {len(places)} did not start", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
