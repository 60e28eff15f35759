"""A real server's echo programs: TCP on port 7, UDP on 53 and 8053, over IPv4 and IPv6.

    python -I -S backend.py server1=NAMESPACE server2=NAMESPACE ...

Forks one process into each namespace and ends when all of them listen, so that starting many
costs one interpreter. TCP sends `server1 CLIENT\\n` first and then echoes; UDP answers with the
same line followed by the query, from the very address that was asked (a VIP, usually).
Standard library only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
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

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._answer_waiting)

    def _answer_waiting(self) -> None:
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


async def echo(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        writer.write(f"{name} {writer.get_extra_info('peername')[0]}\n".encode())
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the client's end, not ours to report
    finally:
        writer.close()


async def serve(name: str, ready: int) -> None:
    """Listen everywhere, say so by closing `ready`, and serve until killed."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for port in UDP_PORTS:
            UdpAnswerer(name, family, port).start()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(name, reader, writer)

    server = await asyncio.start_server(accepted, ["0.0.0.0", "::"], TCP_PORT, backlog=4096)
    os.dup2(0, 2)  # until here errors reach whoever started us; from here nobody listens
    os.write(ready, b".")
    os.close(ready)
    async with server:
        await server.serve_forever()


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
    asyncio.run(serve(name, ready))
    os._exit(0)


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
