"""What kernlb balances: virtual services and real servers, as frozen values.

This module owns the vocabulary that every other part speaks. It refuses I/O, parsing of
documents (``config`` does that) and any knowledge of how a datapath encodes these values.

Rules:

* addresses are ``ipaddress`` values, never strings;
* a value that exists is consistent within itself; whether it makes sense beside other values
  (duplicate servers, families that cannot be mixed) is for ``config`` to say;
* equal values mean an equal kernel state: nothing here is cosmetic, so that a difference
  between two values is always a change worth making.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

IPAddress = IPv4Address | IPv6Address

MAX_WEIGHT = 65535
MAX_PORT = 65535
MAX_FWMARK = 2**32 - 1


class Family(StrEnum):
    """Address family of a virtual service or a real server."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @classmethod
    def of(cls, address: IPAddress) -> Family:
        return cls.IPV4 if address.version == 4 else cls.IPV6

    @property
    def max_prefix(self) -> int:
        """Length in bits of an address of this family."""
        return 32 if self is Family.IPV4 else 128


class L4Protocol(StrEnum):
    """Transport protocol of a virtual service."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


class Forwarding(StrEnum):
    """How a packet reaches its real server (DESIGN: forwarding method)."""

    NAT = "nat"
    TUNNEL = "tunnel"
    DSR = "dsr"
    FULLNAT = "fullnat"  # the source as well; XDP only


class TunnelType(StrEnum):
    """Encapsulation used by ``Forwarding.TUNNEL``."""

    IPIP = "ipip"
    GUE = "gue"
    GRE = "gre"


class DatapathKind(StrEnum):
    """Which kernel datapath carries a service."""

    IPVS = "ipvs"
    XDP = "xdp"


class Scheduler(StrEnum):
    """How new connections are spread over real servers; the kernel's own names."""

    RR = "rr"
    WRR = "wrr"
    LC = "lc"
    WLC = "wlc"
    SH = "sh"
    MH = "mh"
    DH = "dh"
    SED = "sed"
    NQ = "nq"
    FO = "fo"
    OVF = "ovf"
    LBLC = "lblc"
    LBLCR = "lblcr"
    TWOS = "twos"


class SchedulerFlag(StrEnum):
    """Switches of the hash schedulers (ipvsadm --sched-flags)."""

    SH_FALLBACK = "sh-fallback"
    SH_PORT = "sh-port"
    MH_FALLBACK = "mh-fallback"
    MH_PORT = "mh-port"

    @property
    def scheduler(self) -> Scheduler:
        """The only scheduler that understands this flag."""
        return Scheduler(self.value.partition("-")[0])


DEFAULT_FLAGS: dict[Scheduler, frozenset[SchedulerFlag]] = {
    # Without fallback, the table slots of a server with weight 0 answer nobody: a drained
    # server would black-hole its share (net/netfilter/ipvs/ip_vs_{mh,sh}.c, is_unavailable).
    Scheduler.SH: frozenset({SchedulerFlag.SH_FALLBACK}),
    Scheduler.MH: frozenset({SchedulerFlag.MH_FALLBACK}),
}


@dataclass(frozen=True, slots=True)
class AddressKey:
    """A virtual service named by what clients connect to."""

    protocol: L4Protocol
    address: IPAddress
    port: int  # 1..65535; 0: every port, in IPVS only with persistence
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.protocol, self.address, self.port)))

    def __hash__(self) -> int:
        return self._hash  # kept: keys are looked up far oftener than made, and dear to hash

    @property
    def family(self) -> Family:
        return Family.of(self.address)

    def __str__(self) -> str:
        return f"{self.protocol}/{endpoint(self.address, self.port)}"


@dataclass(frozen=True, slots=True)
class FwmarkKey:
    """A virtual service named by a firewall mark that a packet filter sets."""

    family: Family
    fwmark: int  # 1..2**32-1

    def __str__(self) -> str:
        return f"fwmark/{self.family}/{self.fwmark}"


ServiceKey = AddressKey | FwmarkKey


class ServerKey(NamedTuple):
    """What tells one real server of a service from another."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        return endpoint(self.address, self.port)


@dataclass(frozen=True, slots=True)
class Persistence:
    """Clients of one network stay on one server for ``timeout`` seconds after their last
    connection ended. ``prefix`` is the length of that network; ``engine`` is a persistence
    engine of the kernel ("sip") or None."""

    timeout: int
    prefix: int
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class VirtualService:
    """What clients connect to, and how their connections are spread."""

    key: ServiceKey
    scheduler: Scheduler = Scheduler.WLC
    flags: frozenset[SchedulerFlag] = frozenset()
    persistence: Persistence | None = None
    one_packet: bool = False

    @property
    def family(self) -> Family:
        return self.key.family


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Encapsulation towards a real server. ``port`` is GUE's UDP port, 0 for the others."""

    type: TunnelType = TunnelType.IPIP
    port: int = 0
    checksum: bool = False


@dataclass(frozen=True, slots=True)
class RealServer:
    """One backend of a service.

    ``weight`` is 0..65535, 0 meaning no new connections. ``tunnel`` is set exactly when
    ``forwarding`` is tunnel. Above ``upper_threshold`` connections the server gets no new ones
    until it falls below ``lower_threshold``; 0 switches either off.
    """

    address: IPAddress
    port: int
    weight: int = 1
    forwarding: Forwarding = Forwarding.NAT
    tunnel: Tunnel | None = None
    upper_threshold: int = 0
    lower_threshold: int = 0

    def __post_init__(self) -> None:
        if (self.tunnel is not None) != (self.forwarding is Forwarding.TUNNEL):
            raise ValueError(f"{self.key}: tunnel is set exactly when forwarding is tunnel")

    @property
    def key(self) -> ServerKey:
        return ServerKey(self.address, self.port)

    def with_weight(self, weight: int) -> RealServer:
        return self if weight == self.weight else replace(self, weight=weight)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A virtual service with its real servers: what a datapath holds, or should hold.

    The order of ``servers`` carries no meaning for equality of two states in a kernel; compare
    with :meth:`by_key` where that matters.
    """

    service: VirtualService
    servers: tuple[RealServer, ...] = ()

    @property
    def key(self) -> ServiceKey:
        return self.service.key

    def by_key(self) -> dict[ServerKey, RealServer]:
        return {server.key: server for server in self.servers}

    @property
    def serves(self) -> bool:
        """True if some server may take a new connection."""
        return any(server.weight > 0 for server in self.servers)


@dataclass(frozen=True, slots=True)
class ServiceRef:
    """A service in a datapath."""

    datapath: DatapathKind
    key: ServiceKey
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.datapath, self.key)))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"{self.datapath}:{self.key}"


def endpoint(address: IPAddress, port: int) -> str:
    """``192.0.2.1:80`` or ``[2001:db8::1]:80``."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


_ENDPOINT = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[^\[\]:]+)):(?P<port>[0-9]{1,5})", re.ASCII)


def parse_endpoint(text: str) -> ServerKey:
    """The reverse of :func:`endpoint`. Raises ValueError with what is wrong."""
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is not address:port ([address]:port for IPv6)')
    address = ip_address(match["v6"] or match["v4"])
    if (address.version == 6) != (match["v6"] is not None):
        raise ValueError(f'"{text}" is not address:port ([address]:port for IPv6)')
    if (port := int(match["port"])) > MAX_PORT:
        raise ValueError(f"port {port} is not within 0..{MAX_PORT}")
    return ServerKey(address, port)


def parse_service_key(text: str) -> ServiceKey:
    """``tcp/192.0.2.1:80`` or ``fwmark/ipv4/7``. Raises ValueError with what is wrong."""
    kind, _, rest = text.partition("/")
    if kind == "fwmark":
        family, _, mark = rest.partition("/")
        if not (mark.isascii() and mark.isdigit()) or not 0 < int(mark) <= MAX_FWMARK:
            raise ValueError(f'"{text}" is not fwmark/ipv4|ipv6/1..{MAX_FWMARK}')
        return FwmarkKey(Family(family), int(mark))
    return AddressKey(L4Protocol(kind), *parse_endpoint(rest))
