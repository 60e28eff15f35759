"""ICMP echo: one raw socket a family for all targets of a loop.

A request carries a sequence number and a random cookie; a reply must bring both back, from the
address that was asked. Errors come by the socket's error queue (ip(7), IP_RECVERR) with the
request that they quote, so what a router or the server's own host says is heard at once. Mark and
source go with each request as ancillary data, and need no socket of their own.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import struct
from time import monotonic

from kernlb.health.check import IcmpCheck, Target
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes import Done, icmp_packets
from kernlb.health.probes.sockets import IN_LEVEL, Poller, poller_of
from kernlb.health.probes.trouble import detail_of, outcome_of, unasked
from kernlb.health.probes.wording import line

_BATCH = 64  # packets between two turns of the loop
_IN = 1 << 20  # bytes: room for the replies to a thousand requests sent at once
_OUT = 1 << 23  # as a request to who is not there takes room until its neighbour is given up
_LARGEST = 65536
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_ANCILLARY = 512
_SEQUENCES = 1 << 16
_FULL = {errno.EAGAIN, errno.ENOBUFS}  # _OUT, or _SEQUENCES

_RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
_MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_NO_DISCOVERY = 0  # large requests go out in fragments
# All types but the replies are kept out: linux/icmp.h (SOL_RAW, ICMP_FILTER), linux/icmpv6.h.
_ALL_BUT_REPLY_4 = struct.pack("=I", 0xFFFFFFFF & ~(1 << icmp_packets.REPLY[4]))
_ALL_BUT_REPLY_6 = (((1 << 256) - 1) ^ (1 << icmp_packets.REPLY[6])).to_bytes(32, "little")
_FILTER = {4: (255, 1, _ALL_BUT_REPLY_4), 6: (socket.IPPROTO_ICMPV6, 1, _ALL_BUT_REPLY_6)}
_EXTENDED_ERR = struct.Struct("=IBBBBII")  # struct sock_extended_err
_FROM_ICMP = {2, 3}  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6


class IcmpProbe:
    __slots__ = ("_address", "_ancillary", "_deadlines", "_fill", "_loop", "_version")

    def __init__(
        self, check: IcmpCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._version = target.to.version
        self._address = str(target.to)
        self._fill = icmp_packets.fill(check.size)
        self._ancillary = _ancillary_of(target)
        self._deadlines = poller_of(loop).deadlines(timeout)

    def start(self, done: Done) -> _Echo:
        echo = _Echo(done, self._address, self._fill)
        try:
            pinger = _pinger_of(self._loop, self._version)
        except OSError as error:
            self._loop.call_soon(echo.finish, *unasked(error))
            return echo
        try:
            pinger.send(echo, self._ancillary)
        except OSError as error:
            outcome, detail = outcome_of(error), detail_of(error)
            if error.errno in _FULL:
                detail = "too many echo requests wait for an answer"
            elif self._ancillary and error.errno == errno.ENETUNREACH:
                outcome = Outcome.NOT_ASKED  # so says raw(7) of a source that is not ours
            self._loop.call_soon(echo.finish, outcome, detail)
        else:
            self._deadlines.add(echo.started, echo)
        return echo


class _Echo:
    """One request under way."""

    __slots__ = ("_done", "_fill", "address", "cookie", "pinger", "sequence", "started")

    def __init__(self, done: Done, address: str, fill: bytes) -> None:
        self._done: Done | None = done
        self._fill = fill
        self.address = address
        self.cookie = secrets.token_bytes(icmp_packets.COOKIE)
        self.pinger: _Pinger | None = None
        self.sequence = 0
        self.started = monotonic()

    @property
    def over(self) -> bool:
        return self._done is None

    @property
    def payload(self) -> bytes:
        return self.cookie + self._fill

    def ready(self, events: int) -> None:
        """The socket is the pinger's."""

    def expire(self) -> None:
        self.finish(Outcome.NO_REPLY)

    def heard(self, address: str, payload: bytes) -> None:
        if address != self.address:
            self.finish(Outcome.WRONG_SOURCE, f"from {address}")
        elif payload != self.payload:
            self.finish(Outcome.WRONG_REPLY, "it is not what was sent")
        else:
            self.finish(Outcome.PASSED)

    def finish(self, outcome: Outcome, detail: str = "") -> None:
        done = self._done
        if done is None:
            return
        self.cancel()
        done(Result(outcome, monotonic() - self.started, line(detail)))

    def cancel(self) -> None:
        self._done = None
        if self.pinger is not None:
            self.pinger.forget(self)
            self.pinger = None


class _Pinger:
    """The socket of one family, and who waits for a reply on it."""

    __slots__ = (
        "_errors",
        "_identifier",
        "_next",
        "_sock",
        "_version",
        "_waiting",
        "over",
    )

    def __init__(self, poller: Poller, version: int) -> None:
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP)
            if version == 4
            else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        self._version = version
        self._errors = icmp_packets.ERRORS_4 if version == 4 else icmp_packets.ERRORS_6
        self._identifier = secrets.randbelow(_SEQUENCES)
        self._next = 0
        self._waiting: dict[int, _Echo] = {}
        self.over = False
        sock = socket.SocketType(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        try:
            sock.setsockopt(*_FILTER[version])
            sock.setsockopt(*_RECVERR[version], 1)
            sock.setsockopt(*_MTU_DISCOVER[version], _NO_DISCOVERY)
            _enlarge(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, _IN)
            _enlarge(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF, _OUT)
            poller.watch(sock.fileno(), self, IN_LEVEL)
        except OSError:
            sock.close()
            raise
        self._sock = sock

    def send(self, echo: _Echo, ancillary: list[tuple[int, int, bytes]]) -> None:
        """May raise OSError, with nobody waiting."""
        if len(self._waiting) >= _SEQUENCES:
            raise OSError(errno.ENOBUFS, "too many echo requests under way")
        while self._next in self._waiting:
            self._next = (self._next + 1) % _SEQUENCES
        sequence = self._next
        self._next = (sequence + 1) % _SEQUENCES
        packet = icmp_packets.request(self._version, self._identifier, sequence, echo.payload)
        # an error of another target, not yet heard, does not fail this: raw sockets look for none
        # when they send (net/ipv4/ip_output.c: __ip_append_data without a transport header)
        if ancillary:
            self._sock.sendmsg([packet], ancillary, 0, (echo.address, 0))
        else:
            self._sock.sendto(packet, (echo.address, 0))
        echo.pinger, echo.sequence = self, sequence
        self._waiting[sequence] = echo

    def forget(self, echo: _Echo) -> None:
        if self._waiting.get(echo.sequence) is echo:
            del self._waiting[echo.sequence]

    def expire(self) -> None:
        """A socket of its own standing has no deadline."""

    def ready(self, events: int) -> None:
        self._hear_errors()
        for _ in range(_BATCH):
            try:
                packet, sender = self._sock.recvfrom(_LARGEST)
            except OSError:
                return
            self._hear(packet if self._version == 6 else icmp_packets.without_ip(packet), sender[0])

    def _hear(self, data: bytes, sender: str) -> None:
        echo = icmp_packets.parse(data)
        if echo is None or echo.identifier != self._identifier:
            return
        waiting = self._waiting.get(echo.sequence)
        if waiting is not None and echo.payload.startswith(waiting.cookie):
            waiting.heard(sender, echo.payload)

    def _hear_errors(self) -> None:
        self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # else it is told for ever
        for _ in range(_BATCH):
            try:
                quoted, ancillary, _, to = self._sock.recvmsg(
                    _LARGEST, _ANCILLARY, socket.MSG_ERRQUEUE
                )
            except OSError:
                return
            for level, kind, data in ancillary:
                if (level, kind) == _RECVERR[self._version] and len(data) >= _EXTENDED_ERR.size:
                    self._hear_error(quoted, to[0], data)

    def _hear_error(self, quoted: bytes, to: str, data: bytes) -> None:
        _, origin, kind, code, _, _, _ = _EXTENDED_ERR.unpack_from(data)
        echo = icmp_packets.parse(quoted)
        if origin not in _FROM_ICMP or echo is None or echo.identifier != self._identifier:
            return
        waiting = self._waiting.get(echo.sequence)
        said = self._errors.get((kind, code))
        if waiting is None or said is None or to != waiting.address:
            return
        # at least eight bytes are quoted (RFC 792), which the cookie may be beyond
        cookie = echo.payload[: icmp_packets.COOKIE]
        if waiting.cookie.startswith(cookie):
            waiting.finish(*said)


def _enlarge(sock: socket.SocketType, force: int, ask: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:  # without CAP_NET_ADMIN: as much as anybody may have
        sock.setsockopt(socket.SOL_SOCKET, ask, size)


_pingers: dict[tuple[asyncio.AbstractEventLoop, int], _Pinger] = {}


def _pinger_of(loop: asyncio.AbstractEventLoop, version: int) -> _Pinger:
    """The loop's one socket of this family. May raise OSError; the next probe tries again."""
    if (pinger := _pingers.get((loop, version))) is None:
        for key in [each for each in _pingers if each[0].is_closed()]:
            _pingers.pop(key)
        pinger = _pingers[loop, version] = _Pinger(poller_of(loop), version)
    return pinger


def _ancillary_of(target: Target) -> list[tuple[int, int, bytes]]:
    if target.carried is None or target.carried.source is None:
        return []
    source = target.carried.source.packed
    mark = (socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", target.carried.mark))
    if target.to.version == 4:  # struct in_pktinfo: index, source, -
        return [mark, (socket.IPPROTO_IP, 8, struct.pack("=i4s4s", 0, source, bytes(4)))]
    # struct in6_pktinfo: source, index
    return [mark, (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", source, 0))]
