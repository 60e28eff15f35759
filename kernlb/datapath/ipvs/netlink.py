"""The one door to the kernel's IPVS: a generic netlink socket.

It owns sequence numbers, buffers, loading the module and waiting (bounded) for answers. It knows
nothing of services: requests go in as bytes, errors come out by the index of their request.

The family is resolved by one message of our own: importing pyroute2 for it would cost 0.35 s.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.ipvs import abi
from kernlb.datapath.ipvs.attributes import MESSAGE_HEADER, MalformedReplyError, Run, split, walk
from kernlb.datapath.ipvs.replies import errno_of
from kernlb.datapath.ipvs.requests import Request, get_family

WINDOW = 256  # requests in one send; their errors fit the smallest receive buffer

_HEADER = struct.Struct("=IHHIIBBH")  # struct nlmsghdr, struct genlmsghdr
_TIMEVAL = struct.Struct("@ll")
_BUFFER = 4 << 20
_DATAGRAM = 1 << 16  # the kernel fills 32 KiB at most (netlink_dump())
_NETLINK_GENERIC = 16
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_DUMPING = abi.NLM_F_REQUEST | abi.NLM_F_DUMP
_ACKED = abi.NLM_F_REQUEST | abi.NLM_F_ACK


class Netlink:
    """One socket. Not for several threads at once."""

    def __init__(self, timeout: float = 10.0) -> None:
        """``timeout``: seconds to wait for an answer that the kernel owes at once."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC
        )
        try:
            self._prepare(timeout)
            self._sequence = 0
            self._family = 0
            self._family = self._resolve()
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def exchange(self, requests: Sequence[Request]) -> dict[int, int]:
        """Send changes, up to WINDOW of them in one message, and return errnos by index.

        Only the last asks for an acknowledgement; the kernel reports errors in any case, and has
        carried out all of them when the send returns (netlink_rcv_skb())."""
        failed = self._exchange(requests)
        if failed and len(failed) == len(requests) and set(failed.values()) == {errno.ENOENT}:
            # What an unknown family looks like too: the module was unloaded in the meantime.
            family, self._family = self._family, self._resolve()
            if family != self._family:
                failed = self._exchange(requests)
        return failed

    def ask(self, request: Request) -> Run | None:
        """The single answer to a request, None where what it names does not exist."""
        first = self._send([request], abi.NLM_F_REQUEST, abi.NLM_F_REQUEST)
        while True:
            for run in self._receive():
                if run.sequence != first:
                    continue
                if run.type != abi.NLMSG_ERROR:
                    return run
                self._raise_unless_absent(errno_of(run))
                return None

    def dump(self, request: Request) -> list[Run]:
        """Every message that a dump brings; none if what it is about does not exist."""
        first = self._send([request], _DUMPING, _DUMPING)
        runs: list[Run] = []
        while True:
            for run in self._receive():
                if run.sequence != first:
                    continue
                if run.type == abi.NLMSG_DONE:
                    return runs
                if run.type == abi.NLMSG_ERROR:
                    self._raise_unless_absent(errno_of(run))
                    return runs
                runs.append(run)

    def _exchange(self, requests: Sequence[Request]) -> dict[int, int]:
        first = self._send(requests, abi.NLM_F_REQUEST, _ACKED)
        last = first + len(requests) - 1
        failed: dict[int, int] = {}
        try:
            while True:
                for run in self._receive():
                    if run.type != abi.NLMSG_ERROR or not first <= run.sequence <= last:
                        continue  # left over from an exchange that was given up
                    if number := errno_of(run):
                        failed[run.sequence - first] = number
                    if run.sequence == last:
                        return failed
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        return self._again(requests)

    def _again(self, requests: Sequence[Request]) -> dict[int, int]:
        """Errors were lost for want of buffer: repeat in halves, as changes are idempotent."""
        self._drain()
        if len(requests) == 1:
            raise DatapathUnavailableError(errno.ENOBUFS, "cannot hear IPVS: no buffer space")
        half = len(requests) // 2
        failed = self._exchange(requests[:half])
        for index, number in self._exchange(requests[half:]).items():
            failed[half + index] = number
        return failed

    def _drain(self) -> None:
        """Throw away what is queued: until the queue is empty, a socket that once ran over gets
        nothing more (NETLINK_S_CONGESTED, net/netlink/af_netlink.c)."""
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)

    def _send(self, requests: Sequence[Request], flags: int, last_flags: int) -> int:
        """Send in one go; the sequence number of the first."""
        first = sequence = self._sequence + 1
        if first + len(requests) > 0x7FFFFFFF:
            first = sequence = 1
        family, header = self._family, _HEADER.pack
        parts: list[bytes] = []
        last = first + len(requests) - 1
        for command, body in requests:
            kind = flags if sequence != last else last_flags
            size = MESSAGE_HEADER + len(body)
            parts += (header(size, family, kind, sequence, 0, command, abi.FAMILY_VERSION, 0), body)
            sequence += 1
        self._sequence = last
        self._socket.send(b"".join(parts))
        return first

    def _receive(self) -> list[Run]:
        try:
            return split(self._socket.recv(_DATAGRAM))
        except BlockingIOError as error:
            raise DatapathUnavailableError(
                errno.ETIMEDOUT, "cannot hear IPVS: the kernel does not answer"
            ) from error

    def _raise_unless_absent(self, number: int) -> None:
        if number in (0, errno.ESRCH):
            return
        if number == errno.ENOENT:  # no such family: unloaded since
            self._family = self._resolve()
        why = "CAP_NET_ADMIN is needed" if number == errno.EPERM else os.strerror(number)
        raise DatapathUnavailableError(number, f"cannot read IPVS: {why}")

    def _resolve(self) -> int:
        """The number of the IPVS family, after loading the module if it is not there."""
        family = self._ask_family()
        if family is None and _load_module():
            family = self._ask_family()
        if family is None:
            raise DatapathUnavailableError(
                errno.ENOENT, "cannot use IPVS: the kernel has no ip_vs (module ip_vs)"
            )
        return family

    def _ask_family(self) -> int | None:
        before, self._family = self._family, abi.GENL_ID_CTRL
        try:
            first = self._send([get_family()], abi.NLM_F_REQUEST, abi.NLM_F_REQUEST)
        finally:
            self._family = before  # no command of IPVS may ever reach the controller
        while True:
            for run in self._receive():
                if run.sequence != first:
                    continue
                if run.type == abi.NLMSG_ERROR:
                    return None
                places = walk(run.data, run.start + MESSAGE_HEADER, run.start + run.length)
                start, end = places.get(abi.CTRL_ATTR_FAMILY_ID, (0, 0))
                if end - start != 2:
                    raise MalformedReplyError("no family number")
                return int.from_bytes(run.data[start:end], sys.byteorder)

    def _prepare(self, timeout: float) -> None:
        sock = self._socket
        for force, plain in (
            (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
            (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
        ):
            try:
                sock.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)  # clipped to net.core.*mem_max
        seconds = int(timeout)
        wait = _TIMEVAL.pack(seconds, int((timeout - seconds) * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
        sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)  # errors without a copy of the request
        sock.bind((0, 0))


def _load_module() -> bool:
    try:
        done = subprocess.run(
            ["modprobe", "-q", "ip_vs"], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
