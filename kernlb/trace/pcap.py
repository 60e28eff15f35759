"""Packets as files that tcpdump and Wireshark read: pcapng, or the older pcap. Pure.

pcapng (draft-ietf-opsawg-pcapng) has an interface for packets as they came, and one for packets
as they left, so that ``frame.interface_name`` tells them apart; each carries a comment, the
verdict as XDP tools write it (epb_verdict), and a number that both of a pair have (epb_packetid).
pcap has none of that: the packets, one after the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

ETHERNET = 1  # LINKTYPE_ETHERNET
IN, OUT = range(2)  # interfaces of a pcapng, and directions in epb_flags less 1
NAMES = (b"kernlb in", b"kernlb out")

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_NANOSECONDS = 9
_END, _COMMENT = 0, 1
_SHB_APPLICATION, _IF_NAME, _IF_RESOLUTION = 4, 2, 9
_EPB_FLAGS, _EPB_PACKET, _EPB_QUEUE, _EPB_VERDICT = 2, 5, 6, 7
_XDP = 2  # Linux_eBPF_XDP


@dataclass(frozen=True, slots=True)
class Record:
    """A packet to write. ``time``: ns since the epoch. ``data``: the first of ``length`` bytes."""

    time: int
    way: int  # IN or OUT
    length: int
    data: bytes
    comment: str = ""
    number: int = 0  # that of its pair
    queue: int = 0
    verdict: int = 0  # enum xdp_action


class Format(Protocol):
    def header(self, application: str, snapshot: int) -> bytes:
        """The beginning of the file; ``snapshot``: most bytes of a packet that there will be."""

    def record(self, record: Record) -> bytes: ...


class PcapNg:
    def header(self, application: str, snapshot: int) -> bytes:
        section = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
        section += _options([(_SHB_APPLICATION, application.encode())])
        return _block(_SECTION, section) + b"".join(_interface(name, snapshot) for name in NAMES)

    def record(self, record: Record) -> bytes:
        body = struct.pack(
            "<IIIII",
            record.way,
            record.time >> 32,
            record.time & 0xFFFFFFFF,
            len(record.data),
            record.length,
        )
        options = [
            (_COMMENT, record.comment.encode()),
            (_EPB_FLAGS, struct.pack("<I", record.way + 1)),
            (_EPB_PACKET, struct.pack("<Q", record.number)),
            (_EPB_QUEUE, struct.pack("<I", record.queue)),
            (_EPB_VERDICT, struct.pack("<BQ", _XDP, record.verdict)),
        ]
        return _block(_PACKET, body + _padded(record.data) + _options(options))


class Pcap:
    """With times in nanoseconds; in the writer's byte order, which is little-endian here."""

    def header(self, application: str, snapshot: int) -> bytes:
        return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snapshot, ETHERNET)

    def record(self, record: Record) -> bytes:
        seconds, fraction = divmod(record.time, 10**9)
        head = struct.pack("<IIII", seconds & 0xFFFFFFFF, fraction, len(record.data), record.length)
        return head + record.data


def _interface(name: bytes, snapshot: int) -> bytes:
    options = [(_IF_NAME, name), (_IF_RESOLUTION, bytes([_NANOSECONDS]))]
    return _block(_INTERFACE, struct.pack("<HHI", ETHERNET, 0, snapshot) + _options(options))


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    parts = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options]
    return b"".join(parts) + struct.pack("<HH", _END, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    total = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + total + body + total
