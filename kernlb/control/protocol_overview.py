"""What travels over the control socket for those who watch: bodies of ``protocol``, no more.

The daemon reads counters at intervals of its own (``Overview.interval``) and keeps a short history,
so that asking costs no walk through the kernel and ten watchers cost as much as one.
"""

from __future__ import annotations

import msgspec

from kernlb.control.protocol import Event, Status


class Rates(msgspec.Struct, frozen=True):
    """A second, over the last interval."""

    connections: float = 0.0
    packets_in: float = 0.0
    packets_out: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0


class Moment(msgspec.Struct, frozen=True):
    """One reading of a service: ``time`` in seconds since the epoch, the rest as of Rates."""

    time: float
    connections: float
    bytes_in: float
    bytes_out: float
    active: int


class ServerLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A real server as a watcher sees it."""

    server: str  # address:port
    forwarding: str
    state: str  # ServerState
    since: float  # of the state, seconds since the epoch; 0: not known
    weight: int  # declared
    effective_weight: int
    promised: float  # share of new connections by effective weight, 0..1
    received: float | None = None  # share of the connections begun in Overview.window; None: none
    active: int = 0
    inactive: int = 0
    persistent: int = 0
    rates: Rates = Rates()
    check: str = ""  # "" where nothing watches it
    condition: str = ""  # waiting, unconfirmed, up, down, held
    why: str = ""  # "" if all is well
    duration: float = 0.0  # seconds the last probe took
    strip: str = ""  # latest results, oldest first: "+" good, "-" bad, "." neither
    labels: dict[str, str] = {}


class ServiceLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service as a watcher sees it."""

    name: str
    key: str
    datapath: str
    scheduler: str
    state: str  # SyncState
    servers: list[ServerLine]
    serving: int  # servers that should have a weight above 0
    phase: str = ""  # waiting, serving, below quorum, all down; "" where nothing watches it
    error: str = ""
    active: int = 0
    inactive: int = 0
    rates: Rates = Rates()
    history: list[Moment] = []  # oldest first
    labels: dict[str, str] = {}


class Overview(msgspec.Struct, frozen=True, omit_defaults=True):
    """GET /v1/overview: everything on one screen."""

    time: float
    interval: float  # seconds between readings of the counters, as it is now
    window: float  # seconds over which ``received`` was counted
    status: Status
    services: list[ServiceLine]
    warnings: list[str] = []  # what an operator should look at, worst first


class Events(msgspec.Struct, frozen=True):
    """GET /v1/events: ``latest`` is the number of the newest event there is."""

    events: list[Event]
    latest: int
