"""One datagram out, and what comes back: a reply, an ICMP error, or nothing.

The socket is not connected, or the kernel would throw away replies from another address or port
and the operator would be told "no reply" of a server that answers from the wrong one. ICMP errors
come by IP_RECVERR instead (ip(7)).

Anybody can send to this socket, so what comes from elsewhere never ends the exchange and never
makes a bad result of a good one. It is remembered, and told at the deadline in place of a silence
that is bad. Only what comes from another port of the server itself is told of any silence: that is
no stranger. After STRANGERS such datagrams the socket is connected, and the kernel keeps the rest
out; the server itself may say _UNFIT things that are no answer before one counts.
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

from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.probes import Done
from kernlb.health.probes.found import Found
from kernlb.health.probes.sockets import FAILED, Deadlines, Dial, Poller
from kernlb.health.probes.trouble import detail_of, outcome_of, unasked
from kernlb.health.probes.wording import line

LARGEST = 65535
STRANGERS = 8
_UNFIT = 1000  # datagrams
_AT_ONCE = 32  # datagrams between two turns of the loop

# What is told at the deadline: the best that came.
_SILENCE, _STRANGER, _OTHER_PORT, _NO_ANSWER = range(4)

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
    """What a reply of the server means; ``final`` False: wait for a better one."""

    found: Found
    final: bool = True


class Errand(NamedTuple):
    """What to send, who judges a reply, and what silence means."""

    payload: bytes
    judge: Callable[[bytes], Judgement]
    silence: Found


class Exchange:
    """One errand under way."""

    __slots__ = (
        *("_dial", "_done", "_errand", "_late", "_poller", "_rank", "_sock"),
        *("_started", "_strangers", "_unfit", "_watched"),
    )

    def __init__(self, poller: Poller, dial: Dial, errand: Errand, done: Done) -> None:
        self._poller = poller
        self._dial = dial
        self._errand = errand
        self._late, self._rank = errand.silence, _SILENCE
        self._strangers = self._unfit = 0
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
            self._poller.watch(sock.fileno(), self)
            self._watched = True
        except OSError as error:
            loop.call_soon(self._finish, Found(*unasked(error)))
            return
        try:
            sock.sendto(self._errand.payload, self._dial.address)
        except OSError as error:
            loop.call_soon(self._finish, Found(outcome_of(error), detail_of(error)))
        else:
            deadlines.add(self._started, self)

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
            self._hear(data, source)
            if self.over:
                return
        self._poller.again(sock.fileno())

    def _hear(self, data: bytes, source: tuple[str, int]) -> None:
        if source[:2] != self._dial.address:
            self._hear_stranger(*source[:2])
            return
        self._unfit += 1
        judgement = self._errand.judge(data)
        if judgement.final or self._unfit >= _UNFIT:
            self._finish(judgement.found)
        else:
            self._remember(_NO_ANSWER, judgement.found)

    def _hear_stranger(self, host: str, port: int) -> None:
        if host == self._dial.address[0]:
            self._remember(_OTHER_PORT, Found(Outcome.WRONG_SOURCE, f"came from port {port}"))
        elif self._errand.silence.outcome.opinion is Opinion.BAD:
            found = Found(Outcome.WRONG_SOURCE, f"came from {host} port {port}")
            self._remember(_STRANGER, found)
        self._strangers += 1
        if self._strangers == STRANGERS and self._sock is not None:
            try:
                self._sock.connect(self._dial.address)
            except OSError as error:
                self._finish(Found(outcome_of(error), detail_of(error)))

    def _remember(self, rank: int, found: Found) -> None:
        if rank >= self._rank:
            self._rank, self._late = rank, found

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
