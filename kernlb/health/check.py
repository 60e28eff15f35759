"""Checks as values: what is asked of a server, how often, and what counts as an answer. Pure.

Two equal checks of the same target are one probe, however many services share it. Times are in
seconds. ``port`` None: the server's own. Documents become these in ``config``; ``probes`` carries
them out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from kernlb.model import IPAddress


class Via(StrEnum):
    """How a probe reaches its server."""

    SERVER = "server"  # at its own address
    VIP = "vip"  # at the VIP, by the forwarding method that clients' packets take


@dataclass(frozen=True, slots=True)
class Timing:
    """``fast_interval`` runs from start to start after a result that differs from the condition
    in force, until the condition follows or the difference is gone. ``jitter`` (0..0.5) is the
    share of ``interval`` by which a probe may come early, never late."""

    interval: float = 5.0
    fast_interval: float = 1.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Tls:
    """``ca`` is a file of certificates, None for the system's. ``name`` is sent as SNI and held
    against the certificate. ``expiry_warning`` in seconds, 0 for none."""

    verify: bool = True
    ca: str | None = None
    name: str | None = None
    expiry_warning: float = 14 * 86400.0


@dataclass(frozen=True, slots=True)
class IcmpCheck:
    """Echo request; passes with the echo reply."""

    size: int = 32  # bytes of payload


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """Passes when the connection is established; it is reset, so that no TIME_WAIT is left."""

    port: int | None = None


StatusRange = tuple[int, int]  # first, last


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """HTTP/1.1, over TLS with ``tls``. ``headers`` besides Host, Connection and User-Agent.

    ``body`` must be in the body, ``body_regex`` must match somewhere in it; both look at the first
    ``max_bytes`` of it. Redirects are not followed: a status is an answer.
    """

    method: str = "GET"
    path: str = "/"
    host: str | None = None  # default: the target's address
    headers: tuple[tuple[str, str], ...] = ()
    status: tuple[StatusRange, ...] = ((200, 399),)
    body: str | None = None
    body_regex: str | None = None
    max_bytes: int = 65536
    tls: Tls | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class TlsCheck:
    """Passes when the handshake is done and the certificate is good."""

    tls: Tls = Tls()
    port: int | None = None


@dataclass(frozen=True, slots=True)
class UdpCheck:
    """Sends ``payload``. With ``reply`` or ``reply_regex`` an answer must come and contain it;
    with neither, silence passes, and only ICMP unreachable fails (``require_reply``: any answer
    must come)."""

    payload: bytes = b""
    reply: bytes | None = None
    reply_regex: bytes | None = None
    require_reply: bool = False
    port: int | None = None


@dataclass(frozen=True, slots=True)
class DnsCheck:
    """``rcodes`` by name. ``answer``: one answer record must have this value, as text."""

    query: str = "."
    type: str = "NS"
    rcodes: tuple[str, ...] = ("NOERROR",)
    answer: str | None = None
    tcp: bool = False
    port: int | None = None


@dataclass(frozen=True, slots=True)
class GrpcCheck:
    """grpc.health.v1.Health/Check of ``service``; "" asks for the server as a whole."""

    service: str = ""
    tls: Tls | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class ExecCheck:
    """A program by its absolute path, with arguments. Nagios exit codes: 0 passes, 1 warns (and
    passes unless ``warning_fails``), anything else fails. It is told the target in its environment
    (KERNLB_ADDRESS, KERNLB_PORT, KERNLB_SERVICE_ADDRESS, KERNLB_SERVICE_PORT)."""

    command: tuple[str, ...]
    user: str = "nobody"
    warning_fails: bool = False


@dataclass(frozen=True, slots=True)
class AgentCheck:
    """HAProxy's agent check: the server says ``up``, ``down``, ``drain``, ``75%`` on one line.
    ``send`` goes out first."""

    port: int
    send: str = ""


@dataclass(frozen=True, slots=True)
class Several:
    """Passes when ``need`` of ``checks`` pass: all of them, any, or n."""

    checks: tuple[SimpleCheck, ...]
    need: int


SimpleCheck = (
    IcmpCheck
    | TcpCheck
    | HttpCheck
    | TlsCheck
    | UdpCheck
    | DnsCheck
    | GrpcCheck
    | ExecCheck
    | AgentCheck
)
Check = SimpleCheck | Several


class Way(NamedTuple):
    """Of a probe at the VIP, as it is now: the address of ours that the server is to answer, and
    why packets cannot be carried, "" where they can. ``arp``: the server answers ARP for the VIP,
    and takes its packets from the balancer."""

    source: IPAddress | None
    trouble: str = ""
    arp: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """The forwarding path of a probe at the VIP: packets with ``mark`` to ``vip`` go to exactly
    one server. ``look`` says how it is now; ``hint`` what to look at on a server that answers at
    its own address only."""

    mark: int
    vip: IPAddress
    source: IPAddress | None = field(default=None, compare=False)
    look: Callable[[], Way] | None = field(default=None, compare=False, repr=False)
    hint: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """What a probe talks to: a server, whose address and port these are. With ``carried``, packets
    are addressed to the VIP instead, at ``service_port``."""

    address: IPAddress
    port: int
    service_address: IPAddress | None = None  # told to programs
    service_port: int = 0
    carried: Carried | None = None

    @property
    def to(self) -> IPAddress:
        """Where packets are addressed to."""
        return self.carried.vip if self.carried is not None else self.address

    def to_port(self, port: int | None) -> int:
        """``port`` is the check's own, None for the target's."""
        if port is not None:
            return port
        return self.service_port if self.carried is not None else self.port


class WhenAllDown(StrEnum):
    """What a service does when none of its servers is good."""

    REJECT = "reject"  # no server: new connections are refused
    FAIL_OPEN = "fail-open"  # all of them, as if they were good
    SORRY = "sorry"  # the sorry servers


class OnDown(StrEnum):
    REMOVE = "remove"
    INHIBIT = "inhibit"  # weight 0: established connections stay


class Initial(StrEnum):
    WAIT = "wait"  # a new server waits for its first good probe
    UP = "up"


@dataclass(frozen=True, slots=True)
class Damping:
    """A server whose condition changed more than ``changes`` times within ``period`` seconds is
    held down until it has not changed for ``hold`` seconds. ``changes`` 0: off."""

    changes: int = 6
    period: float = 300.0
    hold: float = 60.0


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """What verdicts mean to one service.

    ``quorum`` is the weight that must be good for the service to count as serving, regained at
    ``quorum`` + ``hysteresis``. With ``withdraw_vip`` its VIP is withdrawn below the quorum. At
    least ``keep`` (0..1) of the servers' number stay in the kernel whatever their health: the
    least bad of them. ``passive``: what the datapath sees of servers is heard as well (XDP).
    """

    on_down: OnDown = OnDown.REMOVE
    initial: Initial = Initial.WAIT
    quorum: int = 1
    hysteresis: int = 0
    withdraw_vip: bool = False
    keep: float = 0.0
    when_all_down: WhenAllDown = WhenAllDown.SORRY
    damping: Damping = Damping()
    passive: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """How one server is watched."""

    check: Check
    timing: Timing = Timing()
    via: Via = Via.SERVER
