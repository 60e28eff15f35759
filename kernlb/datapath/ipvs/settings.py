"""What IPVS has one of per network namespace: timeouts, connection sync, its table's size. Pure.

Values of these settings, their requests, and the decoding of the answers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from kernlb.datapath.ipvs.abi import Cmd, Command, Daemon, Info
from kernlb.datapath.ipvs.attributes import (
    MESSAGE_HEADER,
    MalformedReplyError,
    Run,
    nested,
    pack,
    walk,
)
from kernlb.datapath.ipvs.requests import Request
from kernlb.model import IPAddress

Attributes = dict[int, tuple[int, int]]

_U8 = struct.Struct("=B")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds until an idle connection is forgotten; in a request, 0 keeps what is."""

    tcp: int = 0
    tcp_fin: int = 0
    udp: int = 0


class SyncRole(StrEnum):
    """Whether a daemon tells its connections to others or learns theirs."""

    MASTER = "master"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class SyncDaemon:
    """A connection-sync daemon of the kernel. In a request 0 and None leave it to the kernel:
    the interface's MTU, group 224.0.0.81, port 8848, TTL 1 (ip_vs_sync.c, start_sync_thread())."""

    role: SyncRole
    interface: str
    sync_id: int = 0
    max_length: int = 0
    group: IPAddress | None = None
    port: int = 0
    ttl: int = 0

    def satisfied_by(self, running: SyncDaemon) -> bool:
        """True if ``running`` is what was asked for, whatever the kernel chose by itself."""
        return (self.role, self.interface, self.sync_id) == (
            running.role,
            running.interface,
            running.sync_id,
        ) and all(
            not asked or asked == found
            for asked, found in (
                (self.max_length, running.max_length),
                (self.group, running.group),
                (self.port, running.port),
                (self.ttl, running.ttl),
            )
        )


@dataclass(frozen=True, slots=True)
class Information:
    """The version of IPVS and how many hash buckets its connections have."""

    version: str
    connection_table_size: int


_STATES = {SyncRole.MASTER: 1, SyncRole.BACKUP: 2}
_ROLES = {state: role for role, state in _STATES.items()}


def set_timeouts(timeouts: Timeouts) -> Request:
    return Command.SET_CONFIG, b"".join(
        pack(kind, _U32.pack(seconds))
        for kind, seconds in (
            (Cmd.TIMEOUT_TCP, timeouts.tcp),
            (Cmd.TIMEOUT_TCP_FIN, timeouts.tcp_fin),
            (Cmd.TIMEOUT_UDP, timeouts.udp),
        )
        if seconds
    )


def new_daemon(daemon: SyncDaemon) -> Request:
    parts = [
        pack(Daemon.STATE, _U32.pack(_STATES[daemon.role])),
        pack(Daemon.MCAST_IFN, daemon.interface.encode() + b"\0"),
        pack(Daemon.SYNC_ID, _U32.pack(daemon.sync_id)),
    ]
    if daemon.max_length:
        parts.append(pack(Daemon.SYNC_MAXLEN, _U16.pack(daemon.max_length)))
    if daemon.group is not None:
        kind = Daemon.MCAST_GROUP if daemon.group.version == 4 else Daemon.MCAST_GROUP6
        parts.append(pack(kind, daemon.group.packed))
    if daemon.port:
        parts.append(pack(Daemon.MCAST_PORT, _U16.pack(daemon.port)))  # host order, unlike others
    if daemon.ttl:
        parts.append(pack(Daemon.MCAST_TTL, _U8.pack(daemon.ttl)))
    return Command.NEW_DAEMON, pack(Cmd.DAEMON, b"".join(parts))


def del_daemon(role: SyncRole) -> Request:
    return Command.DEL_DAEMON, pack(Cmd.DAEMON, pack(Daemon.STATE, _U32.pack(_STATES[role])))


def timeouts(run: Run) -> Timeouts:
    places = walk(run.data, run.start + MESSAGE_HEADER, run.start + run.length)
    return Timeouts(
        tcp=_number(run.data, places, Cmd.TIMEOUT_TCP),
        tcp_fin=_number(run.data, places, Cmd.TIMEOUT_TCP_FIN),
        udp=_number(run.data, places, Cmd.TIMEOUT_UDP),
    )


def information(run: Run) -> Information:
    places = walk(run.data, run.start + MESSAGE_HEADER, run.start + run.length)
    version = _number(run.data, places, Info.VERSION)
    size = _number(run.data, places, Info.CONN_TAB_SIZE)
    return Information(f"{version >> 16}.{version >> 8 & 0xFF}.{version & 0xFF}", size)


def daemons(runs: list[Run]) -> Iterator[SyncDaemon]:
    for run in runs:
        for start in range(run.start, run.start + run.length * run.messages, run.length):
            yield _daemon(run.data, nested(run.data, start, start + run.length, Cmd.DAEMON))


def _daemon(data: bytes, places: Attributes) -> SyncDaemon:
    state = _number(data, places, Daemon.STATE)
    if state not in _ROLES:
        raise MalformedReplyError(f"sync daemon in state {state}")
    group: IPAddress | None = None
    if Daemon.MCAST_GROUP in places:
        group = IPv4Address(_bytes(data, places, Daemon.MCAST_GROUP, 4))
    elif Daemon.MCAST_GROUP6 in places:
        group = IPv6Address(_bytes(data, places, Daemon.MCAST_GROUP6, 16))
    name = _bytes(data, places, Daemon.MCAST_IFN, 1)
    return SyncDaemon(
        role=_ROLES[state],
        interface=name.partition(b"\0")[0].decode(errors="replace"),
        sync_id=_number(data, places, Daemon.SYNC_ID),
        max_length=_number(data, places, Daemon.SYNC_MAXLEN),
        group=group,
        port=_number(data, places, Daemon.MCAST_PORT),
        ttl=_number(data, places, Daemon.MCAST_TTL),
    )


def _number(data: bytes, places: Attributes, kind: int) -> int:
    """A number of one, two or four bytes; 0 where the kernel does not send it."""
    if kind not in places:
        return 0
    start, end = places[kind]
    packing = {1: _U8, 2: _U16, 4: _U32}.get(end - start)
    if packing is None:
        raise MalformedReplyError(f"attribute {kind} has {end - start} bytes")
    number: int = packing.unpack_from(data, start)[0]
    return number


def _bytes(data: bytes, places: Attributes, kind: int, size: int) -> bytes:
    start, end = places.get(kind, (0, 0))
    if end - start < size:
        raise MalformedReplyError(f"attribute {kind} is missing or short")
    return data[start:end]
