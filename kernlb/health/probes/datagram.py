"""One datagram out, and what comes back: a reply, an ICMP error, or nothing.

The socket is not connected, or the kernel would throw away replies from another address or port
and the operator would be told "no reply" of a server that answers from the wrong one. ICMP errors
come by IP_RECVERR instead (ip(7)). A reply that is not ours does not end the exchange, for anybody
can send one: it is remembered, and told when nothing better has come.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from ipaddress import ip_address
from time import monotonic
from typing import NamedTuple

from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import Done
from kernlb.health.probes.found import Found
from kernlb.health.probes.sockets import FAILED, Deadlines, Dial, Poller
from kernlb.health.probes.trouble import detail_of, outcome_of
from kernlb.health.probes.wording import line

LARGEST = 65535
_AT_ONCE = 32  # datagrams between two turns of the loop

# linux/in.h, linux/in6.h: level, option; linux/errqueue.h: struct sock_extended_err
_RECVERR: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
_ERROR = struct.Struct("=IBBBxII")  # errno, origin, type, code, info, data
_ORIGIN_ICMP = 2
_UNREACHABLE = 3
_PROHIBITED = (9, 10, 13)  # of network, of host, by filter: RFC 1812, 5.2.7.1


class Judgement(NamedTuple):
    """What a reply means; ``final`` False: wait for a better one until the timeout."""

    found: Found
    final: bool = True


class Errand(NamedTuple):
    """What to send, who judges a reply, and what silence means."""

    payload: bytes
    judge: Callable[[bytes], Judgement]
    silence: Found


class Exchange:
    """One errand under way."""

    __slots__ = ("_dial", "_done", "_errand", "_late", "_poller", "_sock", "_started", "_watched")

    def __init__(self, poller: Poller, dial: Dial, errand: Errand, done: Done) -> None:
        self._poller = poller
        self._dial = dial
        self._errand = errand
        self._late = errand.silence
        self._done: Done | None = done
        self._sock: socket.SocketType | None = None
        self._watched = False
        self._started = monotonic()

    @property
    def over(self) -> bool:
        return self._done is None

    def begin(self, deadlines: Deadlines, loop: asyncio.AbstractEventLoop) -> None:
        try:
            sock = self._sock = self._dial.open(socket.SOCK_DGRAM)
            sock.setsockopt(*_RECVERR[self._dial.family], 1)
            sock.sendto(self._errand.payload, self._dial.address)
            self._poller.watch(sock.fileno(), self)
            self._watched = True
            deadlines.add(self._started, self)
        except OSError as error:
            loop.call_soon(self._finish, Found(outcome_of(error), detail_of(error)))

    def ready(self, events: int) -> None:
        sock = self._sock
        if sock is None:
            return
        if events & FAILED and (found := _icmp_error(sock, self._dial)) is not None:
            self._finish(found)
            return
        for _ in range(_AT_ONCE):
            try:
                data, source = sock.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._finish(Found(outcome_of(error), detail_of(error)))
                return
            judgement = self._judge(data, source)
            if judgement.final:
                self._finish(judgement.found)
                return
            self._late = judgement.found
        self._poller.again(sock.fileno())

    def _judge(self, data: bytes, source: tuple[str, int]) -> Judgement:
        if source[:2] == self._dial.address:
            return self._errand.judge(data)
        host, port = source[:2]
        whence = f"port {port}" if host == self._dial.address[0] else f"{host} port {port}"
        return Judgement(Found(Outcome.WRONG_SOURCE, f"came from {whence}"), final=False)

    def expire(self) -> None:
        self._finish(self._late)

    def _finish(self, found: Found) -> None:
        done = self._done
        if done is not None:
            self.cancel()
            duration = monotonic() - self._started
            done(Result(found.outcome, duration, line(found.detail), found.percent))

    def cancel(self) -> None:
        self._done = None
        if self._sock is not None:
            if self._watched:
                self._poller.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None


def _icmp_error(sock: socket.SocketType, dial: Dial) -> Found | None:
    """The first error that is queued, and who sent it if it was not the server; None: none."""
    try:
        _, ancillary, _, _ = sock.recvmsg(1, 512, socket.MSG_ERRQUEUE)
    except OSError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) == _RECVERR[dial.family] and len(data) >= _ERROR.size:
            number, origin, icmp_type, code, _, _ = _ERROR.unpack_from(data)
            detail = detail_of(number)
            if (offender := _address(data[_ERROR.size :])) not in (None, dial.address[0]):
                detail = f"{detail} (says {offender})".strip()
            prohibited = (origin, icmp_type) == (_ORIGIN_ICMP, _UNREACHABLE) and code in _PROHIBITED
            return Found(Outcome.PROHIBITED if prohibited else outcome_of(number), detail)
    return None


def _address(sockaddr: bytes) -> str | None:
    family = int.from_bytes(sockaddr[:2], sys.byteorder)
    if family == socket.AF_INET:
        return str(ip_address(sockaddr[4:8]))
    if family == socket.AF_INET6:
        return str(ip_address(sockaddr[8:24]))
    return None
