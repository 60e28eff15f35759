"""What travels over the control socket about health: bodies of ``protocol``, and nothing else."""

from __future__ import annotations

import msgspec


class ProbeView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result as it was counted. ``opinion`` is good, bad or none (it counts for nothing)."""

    time: float  # when it ended, seconds since the epoch
    outcome: str
    opinion: str
    duration: float  # seconds
    detail: str = ""


class ServerHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server that is watched, as its service sees it. ``why`` is "" if all is well."""

    server: str
    check: str  # icmp, tcp, http, ..., several
    condition: str  # waiting, unconfirmed, up, down, held
    state: str  # what is made of it: ServerState
    since: float  # of the condition, seconds since the epoch
    next_probe: float  # seconds from now; 0 while it is being asked
    failures: int = 0  # bad results in a row
    percent: int | None = None  # of its weight, as its agent asks
    sharing: int = 1  # servers of services that this one probe speaks for
    why: str = ""
    probes: list[ProbeView] = []  # the latest, newest first


class ServiceHealth(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service with checks. ``phase`` is waiting, serving, below quorum or all down."""

    name: str
    phase: str
    quorum: int  # weight
    servers: list[ServerHealth]
    withdrawn: bool = False  # its VIP, until the quorum is back


class Lateness(msgspec.Struct, frozen=True):
    """Seconds by which the latest thousand probes started late."""

    median: float
    p99: float
    worst: float


class MonitorView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The prober itself. What two services ask of one server alike is one target."""

    targets: int
    down: int
    waiting: int
    lateness: Lateness
    suspended: bool = False  # it is starved of time: bad results count for nothing
    suspensions: int = 0  # since it started
    partition_held: bool = False  # everything fails at once: verdicts wait


class Health(msgspec.Struct, frozen=True):
    monitor: MonitorView
    services: list[ServiceHealth]
