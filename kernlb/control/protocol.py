"""What travels over the control socket: typed bodies of /v1, and nothing else.

| method and path                                    | body in        | body out              |
|----------------------------------------------------|----------------|-----------------------|
| GET /v1/version                                    |                | Version               |
| GET /v1/status                                     |                | Status                |
| GET /v1/services                                   |                | list of ServiceSummary|
| GET /v1/services?full=true                         |                | list of ServiceView   |
| GET /v1/services/NAME                              |                | ServiceView           |
| GET /v1/services/NAME/document                     |                | DocumentView          |
| PUT /v1/services/NAME                              | a document     | Change                |
| PATCH /v1/services/NAME                            | merge patch    | Change                |
| DELETE /v1/services/NAME                           |                | Change                |
| POST /v1/services/NAME/adopt                       |                | Change                |
| POST /v1/services/NAME/servers                     | a server       | Change                |
| PATCH /v1/services/NAME/servers/ADDRESS:PORT       | merge patch    | Change                |
| DELETE /v1/services/NAME/servers/ADDRESS:PORT      |                | Change                |
| POST /v1/services/NAME/servers/ADDRESS:PORT/drain  | Drain          | Change                |
| POST /v1/services/NAME/servers/ADDRESS:PORT/enable |                | Change                |
| POST /v1/services/NAME/servers/ADDRESS:PORT/disable|                | Change                |
| GET /v1/stats?service=NAME                         |                | list of ServiceStatsView |
| GET /v1/health?service=NAME                        |                | Health                |
| GET /v1/overview?service=NAME                      |                | Overview              |
| GET /v1/events?since=&limit=&service=&wait=        |                | Events                |
| GET /v1/explain?protocol=&client=&to=              |                | Explanation           |
| GET /v1/dump?map=NAME                              |                | list of MapDump       |
| POST /v1/plan                                      | Documents      | Change                |
| POST /v1/apply                                     | Documents      | Change                |
| POST /v1/reload                                    |                | Change                |

PUT refuses to replace an existing service unless ``?replace=true``. Every call with a Change for
an answer takes ``?dry_run=true``. A merge patch is RFC 7386. ADDRESS:PORT is as
``model.endpoint`` writes it; the port may be left out where one server has that address.
Errors are Problem documents (RFC 9457, application/problem+json).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from kernlb.control.protocol_health import MonitorView
from kernlb.control.protocol_xdp import XdpStatus

API = "/v1"
SOCKET = "/run/kernlb/control.sock"
PROBLEM_TYPE = "application/problem+json"


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a document or a request."""

    message: str
    file: str = ""
    line: int = 0
    key: str = ""


class ProblemKind(StrEnum):
    """The ``type`` of a Problem; the status that goes with each."""

    INVALID_DOCUMENT = "invalid-document"  # 422
    INVALID_REQUEST = "invalid-request"  # 400
    NOT_FOUND = "not-found"  # 404
    EXISTS = "exists"  # 409
    FOREIGN = "foreign"  # 409: the kernel holds this service and kernlb did not make it
    REFUSED = "refused"  # 502: the kernel did not take a change
    FORBIDDEN = "forbidden"  # 403
    TOO_LARGE = "too-large"  # 413
    INTERNAL = "internal"  # 500


STATUS: dict[ProblemKind, int] = {
    ProblemKind.INVALID_DOCUMENT: 422,
    ProblemKind.INVALID_REQUEST: 400,
    ProblemKind.NOT_FOUND: 404,
    ProblemKind.EXISTS: 409,
    ProblemKind.FOREIGN: 409,
    ProblemKind.REFUSED: 502,
    ProblemKind.FORBIDDEN: 403,
    ProblemKind.TOO_LARGE: 413,
    ProblemKind.INTERNAL: 500,
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error. ``title`` is one sentence; ``faults`` say where."""

    type: ProblemKind
    title: str
    status: int
    faults: list[Fault] = []


class Version(msgspec.Struct, frozen=True):
    version: str
    api: str
    pid: int


class TunnelView(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    port: int = 0
    checksum: bool = False


class PersistenceView(msgspec.Struct, frozen=True, omit_defaults=True):
    timeout: int
    prefix: int
    engine: str = ""


class ServerState(StrEnum):
    """Where a real server stands, in an operator's words."""

    UP = "up"
    DRAINING = "draining"  # weight 0, connections left to end
    DRAINED = "drained"  # its deadline has passed: out of the kernel
    DISABLED = "disabled"  # out of the kernel by an operator
    WAITING = "waiting"  # new, and not found good yet: not in the kernel
    DOWN = "down"  # out by a verdict
    INHIBITED = "inhibited"  # bad: weight 0 by a verdict
    KEPT = "kept"  # bad, and kept all the same: too few would be left
    SPARED = "spared"  # good, and without new connections: the service is below its quorum
    LEAVING = "leaving"  # asks to be drained: weight 0
    SORRY = "sorry"  # the sorry server, in use
    STANDBY = "standby"  # the sorry server, not in use


class ServerView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A real server: as declared, and as it should be in the kernel now."""

    address: str
    port: int
    forwarding: str
    weight: int  # declared
    effective_weight: int  # what the kernel should hold now; 0 when out
    state: ServerState
    in_kernel: bool = False  # seen there at the last look
    kernel_weight: int | None = None
    tunnel: TunnelView | None = None
    upper_threshold: int = 0
    lower_threshold: int = 0
    since: float = 0.0  # seconds since the epoch, of the admin state; 0: always
    deadline: float = 0.0  # of a drain; 0: none
    labels: dict[str, str] = {}


class ServiceSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of ``service ls``; from memory, never from a walk through the kernel."""

    name: str  # "" for a foreign service
    key: str  # tcp/192.0.2.10:80, fwmark/ipv4/7
    datapath: str
    scheduler: str
    forwarding: str  # "mixed" where servers differ
    servers: int
    serving: int  # servers that should have a weight above 0
    state: SyncState
    labels: dict[str, str] = {}
    error: str = ""


class SyncState(StrEnum):
    """A service in the kernel beside its declaration."""

    SYNCED = "synced"
    PENDING = "pending"
    FAILED = "failed"  # the kernel refused; ``error`` says what
    CONFLICT = "conflict"  # a foreign service holds the key
    INVALID = "invalid"  # the file is bad: the last good version is in force, if there was one
    FOREIGN = "foreign"  # not kernlb's: shown, never touched


class ServiceView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service in full, its kernel side freshly read."""

    name: str
    key: str
    datapath: str
    scheduler: str
    flags: list[str]
    state: SyncState
    servers: list[ServerView]
    file: str = ""
    one_packet: bool = False
    persistence: PersistenceView | None = None
    vip_interface: str = ""
    labels: dict[str, str] = {}
    error: str = ""


class DocumentView(msgspec.Struct, frozen=True):
    """The document of a service as its file says it, keys that it leaves out left out."""

    document: dict[str, Any]
    in_force: bool  # False: the file was changed and not read since, or is bad


class OpView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change: ``action`` add, edit or remove; ``what`` service, server or vip."""

    action: str
    what: str
    service: str
    text: str  # the printed op
    server: str = ""


class Moved(msgspec.Struct, frozen=True):
    """Share of new flows of a hash-scheduled service that would go to another server."""

    service: str
    scheduler: str
    share: float  # 0..1


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """A plan, and whether it was carried out."""

    ops: list[OpView]
    applied: bool
    moved: list[Moved] = []
    warnings: list[str] = []
    faults: list[Fault] = []  # of files left out (reload): their last good version stays


class Drain(msgspec.Struct, frozen=True, omit_defaults=True):
    """``timeout`` in seconds after which connections are dropped; 0: never."""

    timeout: float | None = None


class Documents(msgspec.Struct, frozen=True, omit_defaults=True):
    """Texts of service documents by service name. Empty: the files as they are on disk."""

    documents: dict[str, str] = {}


class CountersView(msgspec.Struct, frozen=True):
    connections: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
    connections_rate: int
    packets_in_rate: int
    packets_out_rate: int
    bytes_in_rate: int
    bytes_out_rate: int


class ServerStatsView(msgspec.Struct, frozen=True):
    server: str
    weight: int
    active: int
    inactive: int
    persistent: int
    counters: CountersView


class ServiceStatsView(msgspec.Struct, frozen=True):
    name: str
    key: str
    counters: CountersView
    servers: list[ServerStatsView]


class DatapathStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    available: bool
    version: str = ""
    detail: str = ""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that changed: ``cause`` says by whom (reload, api, audit, start …)."""

    time: float
    text: str
    cause: str = ""
    number: int = 0  # goes up by one an event, over restarts too
    service: str = ""  # its name, where it is about one
    server: str = ""  # address:port, where it is about one


class VipView(msgspec.Struct, frozen=True, omit_defaults=True):
    address: str
    interface: str
    owned: bool  # kernlb added it, so kernlb removes it
    present: bool
    withdrawn: bool = False  # on purpose: its services are below their quorum


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    version: str
    pid: int
    started: float
    datapaths: list[DatapathStatus]
    services: dict[str, int]  # by SyncState
    servers: int
    serving: int
    drift_repaired: int  # services found changed behind the daemon's back and put right
    last_audit: float  # when every service had last been looked at; 0: not yet
    audit_interval: float
    foreign: list[str]
    vips: list[VipView]
    faults: list[Fault]  # files that are bad now
    events: list[Event]  # the latest, newest last
    xdp: XdpStatus | None = None  # None: not in use
    health: MonitorView | None = None  # None: no server is watched
