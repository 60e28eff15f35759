"""A capture from its beginning to its end: what comes out of XDP, written to a file.

It ends by itself: so many packets, seconds or bytes, whichever comes first; when it is told to;
and when nothing is loaded any more. A program that takes the other's place (an upgrade) is
watched from then on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from kernlb.datapath.xdp.capturing import Capture, Captured, Wanted, interface_name
from kernlb.trace.packets import records, verdict_name
from kernlb.trace.pcap import Format

TURN = 0.2  # seconds: how soon an order to stop is heard
_LOOK = 1.0  # seconds between two looks at which program is loaded


class Ended(StrEnum):
    COUNT = "count"
    SECONDS = "seconds"
    SIZE = "size"
    STOPPED = "stopped"
    UNLOADED = "unloaded"


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """Each of them ends a capture."""

    packets: int = 1000
    seconds: float = 30.0
    size: int = 64 << 20  # bytes of the file


@dataclass(slots=True)
class Summary:
    packets: int = 0
    bytes: int = 0
    missed: int = 0  # they fit, and the reader was too slow
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ended: Ended = Ended.STOPPED


def capture(
    sink: Sink,
    form: Format,
    wanted: Wanted,
    bounds: Bounds,
    pins: Path,
    *,
    application: str,
    stopped: Callable[[], bool],
    started: Callable[[], None] = lambda: None,
) -> Summary:
    """Write packets until one of the bounds is met; ``started`` is called when it watches.

    Raises FileNotFoundError where no program is loaded, OSError where this kernel or process
    cannot watch one."""
    summary = Summary()
    header = form.header(application, wanted.kept)
    watch = Capture(replace(wanted, limit=bounds.packets), pins)
    try:
        sink.write(header)
        summary.bytes = len(header)
        started()
        epoch = time.time_ns() - time.monotonic_ns()
        end = time.monotonic() + bounds.seconds
        next_look = time.monotonic() + _LOOK
        while True:
            now = time.monotonic()
            found = watch.read(min(TURN, max(0.0, end - now)))
            if ended := _write(found, sink, form, bounds, epoch, summary):
                return _finished(summary, watch, ended)
            if stopped() or now >= end:
                watch.stop()
                over = _write(watch.read(0), sink, form, bounds, epoch, summary)
                ended = over or (Ended.STOPPED if stopped() else Ended.SECONDS)
                return _finished(summary, watch, ended)
            if now >= next_look:
                next_look = now + _LOOK
                try:
                    current = watch.is_current()
                except FileNotFoundError:
                    return _finished(summary, watch, Ended.UNLOADED)
                if not current:
                    summary.missed += watch.missed
                    watch.close()
                    left = bounds.packets - summary.packets
                    watch = Capture(replace(wanted, limit=left), pins)
    finally:
        watch.close()


def _finished(summary: Summary, watch: Capture, ended: Ended) -> Summary:
    summary.missed += watch.missed
    summary.ended = ended
    return summary


def _write(
    found: list[Captured], sink: Sink, form: Format, bounds: Bounds, epoch: int, summary: Summary
) -> Ended | None:
    for each in found:
        number = summary.packets
        data = b"".join(
            form.record(record) for record in records(each, epoch, number, interface_name)
        )
        if summary.bytes + len(data) > bounds.size:
            return Ended.SIZE
        sink.write(data)
        summary.bytes += len(data)
        summary.packets += 1
        summary.verdicts[verdict_name(each.action)] += 1
        summary.reasons.update(reason.name.lower() for reason in each.reasons)
        if summary.packets >= bounds.packets:
            return Ended.COUNT
    return None
