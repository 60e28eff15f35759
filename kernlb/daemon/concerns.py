"""What an operator should look at, worst first. Pure.

Every sentence names what it is about; what concerns clients now comes before what may, and that
before what is only untidy.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from kernlb.control.protocol import ServerState, Status, SyncState
from kernlb.control.protocol_overview import ServiceLine
from kernlb.control.protocol_xdp import XdpStatus

MOST = 100  # sentences
FULL = 0.8  # share of a table in use that is told
_SORRY = (ServerState.SORRY, ServerState.STANDBY)


class Rank(IntEnum):
    """How bad."""

    NOBODY_SERVES = 0
    NO_DATAPATH = 1
    NOT_AS_DECLARED = 2
    BELOW = 3
    UNREACHABLE = 4
    BLIND = 5  # verdicts cannot be trusted
    DEGRADED = 6
    FILES = 7
    SOON = 8
    SLOW = 9


class Concerns:
    """Hears of services one by one, then of the host."""

    def __init__(self) -> None:
        self._found: list[tuple[Rank, str]] = []
        self._asked_for: set[str] = set()  # datapaths that services are declared for

    def hear(self, line: ServiceLine) -> None:
        name = f"service {line.name}"
        self._asked_for.add(line.datapath)
        states = [server.state for server in line.servers]
        if line.state in (SyncState.FAILED, SyncState.CONFLICT):
            self._add(Rank.NOT_AS_DECLARED, f"{name}: {line.state}: {line.error}")
        if ServerState.SORRY in states and line.serving:
            self._add(Rank.NOBODY_SERVES, f"{name}: only its sorry server serves")
        elif not line.serving:
            why = "no server can take a connection" if states else "it has no servers"
            self._add(Rank.NOBODY_SERVES, f"{name}: {why}")
        elif line.phase == "below quorum":
            self._add(Rank.BELOW, f"{name} is below its quorum")
        if kept := states.count(ServerState.KEPT):
            bad = "1 bad server is" if kept == 1 else f"{kept} bad servers are"
            self._add(Rank.BELOW, f"{name}: {bad} kept, for too few would be left")
        own = [state for state in states if state not in _SORRY]
        down = sum(state in (ServerState.DOWN, ServerState.INHIBITED) for state in own)
        if down and line.serving and ServerState.SORRY not in states:
            self._add(Rank.DEGRADED, f"{name}: {down} of {len(own)} servers down")

    def host(self, status: Status, troubles: Iterable[str] = ()) -> None:
        nothing = not any(datapath.available for datapath in status.datapaths)
        for datapath in status.datapaths:
            if not datapath.available and (nothing or datapath.kind in self._asked_for):
                why = f"datapath {datapath.kind} is not available: {datapath.detail}"
                self._add(Rank.NO_DATAPATH, why)
        if (health := status.health) is not None:
            if health.partition_held:
                why = "everything fails at once: verdicts are held (is the balancer cut off?)"
                self._add(Rank.BLIND, why)
            if health.suspended:
                why = "the prober gets too little processor time: bad results count for nothing"
                self._add(Rank.BLIND, why)
        for vip in status.vips:
            if not vip.present and not vip.withdrawn:
                why = f"VIP {vip.address} is not on {vip.interface}"
                self._add(Rank.NOBODY_SERVES, why)
        for fault in status.faults:
            where = f"{fault.file}:{fault.line}" if fault.line else fault.file
            key = f"{fault.key}: " if fault.key else ""
            self._add(Rank.FILES, f"{where}: {key}{fault.message}" if where else fault.message)
        if status.xdp is not None:
            self._xdp(status.xdp)
        for trouble in troubles:
            self._add(Rank.SLOW, trouble)

    def _xdp(self, xdp: XdpStatus) -> None:
        for each in xdp.interfaces:
            if not each.mode:
                why = f": {each.error}" if each.error else ""
                self._add(Rank.NO_DATAPATH, f"interface {each.name} has no XDP program{why}")
            elif each.mode == "generic":
                why = f"interface {each.name} runs XDP in generic mode, which is slow"
                self._add(Rank.SLOW, why)
        for hop in xdp.unresolved:
            server = f"{hop.server} of {hop.service}"
            self._add(Rank.UNREACHABLE, f"real server {server} has no next hop: {hop.reason}")
        for table in xdp.tables:
            if table.size and table.used > FULL * table.size:
                share = f"{table.used} of {table.size} entries"
                self._add(Rank.SOON, f"XDP table {table.name} fills up: {share}")
        for warning in xdp.warnings:
            self._add(Rank.SLOW, f"xdp: {warning}")

    def said(self) -> list[str]:
        """Worst first; what is too much is counted."""
        ordered = [text for _, text in sorted(self._found, key=lambda each: each[0])]
        if len(ordered) <= MOST:
            return ordered
        return [*ordered[: MOST - 1], f"and {len(ordered) - MOST + 1} more"]

    def _add(self, rank: Rank, text: str) -> None:
        self._found.append((rank, text))
