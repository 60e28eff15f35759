"""Netlink messages and attributes as bytes: packing one, walking many. Pure.

Every walk advances by at least a header, so hostile bytes end in :class:`MalformedReplyError`,
never in a loop. Layout: include/uapi/linux/netlink.h; all numbers are in host byte order.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

from kernlb.datapath.ipvs import abi

_ATTRIBUTE = struct.Struct("=HH")
_MESSAGE = struct.Struct("=IHHII")
MESSAGE_HEADER = _MESSAGE.size + 4  # nlmsghdr and genlmsghdr
_DONE_SIZE = _MESSAGE.size + 4  # NLMSG_DONE carries one int


class MalformedReplyError(OSError):
    """The kernel's answer cannot be read."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EBADMSG, f"cannot read the answer of IPVS: {why}")


class Run(NamedTuple):
    """``messages`` of one type and ``length``, one after another from ``start``."""

    data: bytes
    start: int
    length: int
    messages: int
    type: int
    sequence: int


def pack(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def walk(data: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    """Where the payload of each attribute within ``data[start:end]`` begins and ends."""
    found = {}
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        stop = start + length
        if length < 4 or stop > end:
            raise MalformedReplyError(f"attribute of {length} bytes at {start}, message ends {end}")
        found[kind & abi.NLA_TYPE_MASK] = (start + 4, stop)
        start = stop + (-length & 3)
    return found


def nested(data: bytes, start: int, end: int, kind: int) -> dict[int, tuple[int, int]]:
    """The attributes within the attribute ``kind`` of the message ``data[start:end]``."""
    outer = walk(data, start + MESSAGE_HEADER, end)
    if kind not in outer:
        raise MalformedReplyError(f"no attribute {kind} in a message of {end - start} bytes")
    return walk(data, *outer[kind])


def split(data: bytes) -> list[Run]:
    """The messages of one datagram; neighbours alike in type, length and sequence share a run."""
    runs: list[Run] = []
    start, size = 0, len(data)
    while start < size:
        if start + _MESSAGE.size > size:
            raise MalformedReplyError(f"{size - start} bytes left after the last message")
        length, kind, _flags, sequence, _port = _MESSAGE.unpack_from(data, start)
        if length < _MESSAGE.size or start + length > size:
            raise MalformedReplyError(f"message of {length} bytes with {size - start} left")
        count = _alike(data, start, length) if length % 4 == 0 else 1
        runs.append(Run(data, start, length, count, kind, sequence))
        start += count * length + (-length & 3)
    return runs


def _alike(data: bytes, start: int, length: int) -> int:
    """How many messages with the same header follow each other: all that remain but a trailing
    NLMSG_DONE, or just the one. Compared in bulk, as dumps hold thousands of equal ones."""
    count = (len(data) - start) // length
    if count < 2 or (len(data) - start) % length not in (0, _DONE_SIZE):
        return 1
    words = memoryview(data)[start : start + count * length].cast("I")
    step = length // 4
    for column in (words[index::step].tolist() for index in (0, 1, 2)):
        if column.count(column[0]) != count:
            return 1
    return count
