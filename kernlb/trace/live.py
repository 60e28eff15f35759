"""A live view: probes and counters, look by look, until its time is over or it is told to stop.

Findings go to who asked as they come, and what sums them up at the end. Where the kernel cannot
be probed (no bcc, no headers, another reason) XDP's own counters are shown alone, if the host has
XDP; a view that nothing is left of is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from kernlb.datapath.xdp.capturing import interface_name
from kernlb.datapath.xdp.libbpf.kernel_types import enumerators, offsets
from kernlb.model import AddressKey
from kernlb.trace import findings
from kernlb.trace.bcc import CannotTraceError, Probes, Reading, missing
from kernlb.trace.findings import Counted, Drops, Finding, OwnDrops
from kernlb.trace.programs import IPVS_STRUCTS, MODULE, PER_SECOND, View, program, wanted_fields

INTERVAL = 1.0  # seconds between two looks
_TURN = 0.2  # seconds: how soon an order to stop is heard

ByServer = Mapping[tuple[str, str], tuple[int, int, int]]


class Counters(Protocol):
    """What the daemon counts for XDP; None where the host has none, or no daemon."""

    def packets(self) -> Mapping[str, int] | None:
        """By reason."""

    def connections(self) -> ByServer | None: ...


class Audience(Protocol):
    def tell(self, finding: Finding) -> None: ...

    def sum_up(self, findings: list[Finding]) -> None:
        """At the end, of one view."""

    def note(self, text: str) -> None:
        """Progress, and what cannot be shown."""


@dataclass(frozen=True, slots=True)
class Asked:
    views: frozenset[View]
    service: AddressKey | None = None
    own: bool = False  # XDP's counters alone
    seconds: float | None = None  # None: until stopped


def trace(
    asked: Asked,
    counters: Counters,
    audience: Audience,
    stopped: Callable[[], bool],
    pause: Callable[[float], None],
) -> None:
    """Raises CannotTraceError where there is nothing to show."""
    own = _Own(asked.views, counters)
    with ExitStack() as stack:
        probes = None
        if not asked.own:
            try:
                probes = stack.enter_context(_probes(asked))
                audience.note("compiling the probes, which takes some seconds")
                if not _ready(probes, stopped):
                    return
            except CannotTraceError as why:
                if not own.there:
                    raise
                audience.note(f"{why}; of XDP's own counters:")
                probes = None
        elif not own.there:
            reason = "datapath xdp is not in use on this host"
            if asked.views == {View.LATENCY}:
                reason = "they have nothing of latency"
            raise CannotTraceError(f"cannot trace by XDP's own counters: {reason}")
        audience.note("tracing; ^C ends it")
        look = _Look(asked.views, own, audience)
        end = time.monotonic() + (asked.seconds if asked.seconds is not None else float("inf"))
        if probes is None:
            _by_counters(look, end, stopped, pause)
        else:
            _by_probes(look, probes, end, stopped)


def _probes(asked: Asked) -> Probes:
    if lacks := missing():
        raise CannotTraceError(f"cannot trace the kernel: {lacks}")
    wanted = wanted_fields(asked.views)
    module = MODULE if wanted.keys() & set(IPVS_STRUCTS) else ""
    try:
        there = offsets(wanted, module)
    except OSError as why:  # no BTF
        hint = "; modprobe ip_vs" if module else ""
        raise CannotTraceError(f"cannot trace the kernel: {why.strerror}{hint}") from why
    for struct, fields in wanted.items():
        if lacking := set(fields) - there[struct].keys():
            raise CannotTraceError(
                f"cannot trace the kernel: its struct {struct} has no {sorted(lacking)[0]}"
            )
    return Probes(program(asked.views, there, asked.service), INTERVAL)


def _ready(probes: Probes, stopped: Callable[[], bool]) -> bool:
    while not probes.wait_ready(_TURN):
        if stopped():
            return False
    return True


def _by_counters(
    look: _Look, end: float, stopped: Callable[[], bool], pause: Callable[[float], None]
) -> None:
    next_look = time.monotonic() + INTERVAL
    while not stopped() and (now := time.monotonic()) < end:
        if now >= next_look:
            next_look = now + INTERVAL
            look.at(None)
        pause(min(_TURN, max(0.0, end - now)))
    look.at(None)
    look.end(None)


def _by_probes(look: _Look, probes: Probes, end: float, stopped: Callable[[], bool]) -> None:
    while not stopped() and (now := time.monotonic()) < end:
        reading = probes.read(min(_TURN, end - now))
        if reading is not None:
            look.at(reading)
    last = probes.last()
    look.at(last)
    look.end(last)


class _Own:
    """New of XDP's counters, for the views that they are something for."""

    def __init__(self, views: frozenset[View], counters: Counters) -> None:
        self._counters = counters
        self._drops: OwnDrops | None = None
        self._connections: Counted | None = None
        if View.DROPS in views and (packets := counters.packets()) is not None:
            self._drops = OwnDrops(packets)
        if views & {View.SCHEDULE, View.CONNECTIONS}:
            connections = counters.connections()
            self._connections = None if connections is None else Counted(connections)

    @property
    def there(self) -> bool:
        return self._drops is not None or self._connections is not None

    def new(self) -> list[Finding]:
        found: list[Finding] = []
        if self._drops is not None and (packets := self._counters.packets()) is not None:
            found += self._drops.new(packets)
        if self._connections is not None:
            connections = self._counters.connections()
            found += [] if connections is None else self._connections.new(connections)
        return found


class _Look:
    def __init__(self, views: frozenset[View], own: _Own, audience: Audience) -> None:
        self._views, self._own, self._audience = views, own, audience
        reasons = enumerators("skb_drop_reason") if View.DROPS in views else {}
        self._drops = Drops(reasons, interface_name)
        self._epoch = time.time() - time.monotonic()
        self._left_out = 0

    def at(self, reading: Reading | None) -> None:
        now = round(time.time(), 3)
        found: list[Finding] = []
        if reading is not None:
            found += [findings.of_event(each, self._epoch) for each in reading.events]
            if View.DROPS in self._views:
                found += self._drops.new(reading.tables)
        found += self._own.new()
        for each in found:
            self._audience.tell({"time": now, **each})
        if reading is not None and (left := findings.left_out(reading.tables)) > self._left_out:
            number, self._left_out = left - self._left_out, left
            self._audience.tell(
                {"time": now, "kind": "left_out", "events": number, "per_second": PER_SECOND}
            )

    def end(self, last: Reading | None) -> None:
        if last is None:
            return
        tables = last.tables
        if View.SCHEDULE in self._views:
            self._audience.sum_up(findings.choices(tables["choices"]))
        if View.CONNECTIONS in self._views:
            begun, ended = (number for _, number in tables["totals"])
            self._audience.sum_up([{"kind": "total", "begun": begun, "ended": ended}])
        if View.LATENCY in self._views:
            self._audience.sum_up(findings.latencies(tables["latencies"], tables["begun"]))
