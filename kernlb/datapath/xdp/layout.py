"""The values of the maps as the program sees them: the mirror of bpf/abi.h. Pure.

A struct of C is a named tuple here, with its :class:`Layout` beside it; a test holds names,
offsets, sizes and numbers to the C ones. Addresses and ports are bytes, in the network's order,
as in packets; an IPv4 address is the first 4 of 16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Generic, NamedTuple, TypeVar

from kernlb.model import IPAddress

ABI_VERSION = 1
TICK_SHIFT = 26  # a tick is 2^26 ns of the monotonic clock
FILTER_SIZE = 65536
SOURCE_PORT_FIRST = 1024
CONN_WAYS = 4
TEMPLATE_PROTOCOL = 0x40
NONE = 0xFFFFFFFF

TICKS_PER_SECOND = 10**9 / (1 << TICK_SHIFT)
MOST_SERVERS = 1 << 24  # an id has 24 bits in a connection, a generation the 8 above


class AddressFamily(IntEnum):
    IPV4 = 4
    IPV6 = 6


class Forward(IntEnum):
    DSR, TUNNEL, NAT, FULLNAT = range(4)


class Encapsulation(IntEnum):
    IPIP, GUE, GRE = range(3)


class Schedule(IntEnum):
    RR, WRR, LC, WLC, SH, MH = range(6)


class ServiceFlag(IntFlag):
    ALIVE = 1 << 0
    ONE_PACKET = 1 << 1
    HASH_PORT = 1 << 2
    FALLBACK = 1 << 3
    PERSISTENT = 1 << 4


class ServerFlag(IntFlag):
    ALIVE = 1 << 0
    HOP_KNOWN = 1 << 2


class State(IntEnum):
    """Of a connection."""

    NONE, ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT = range(8)
    LAST_ACK, LISTEN, SYNACK, UDP = range(8, 12)
    SCTP_INIT, SCTP_ESTABLISHED, SCTP_CLOSING, TEMPLATE = range(12, 16)


class ConnFlag(IntFlag):
    USED = 1 << 0
    BUSY = 1 << 1
    REVERSE = 1 << 2
    ACTIVE = 1 << 3
    BOTH_WAYS = 1 << 4
    CONFIRMED = 1 << 5


class VipProtocol(IntFlag):
    """What an address has services of: the value of ServiceId(address, 0, protocol 0)."""

    TCP = 1 << 0
    UDP = 1 << 1
    SCTP = 1 << 2


class Mark(IntFlag):
    """What an address may be, in the filter."""

    VIP = 1 << 0
    ANY_PORT = 1 << 1
    SERVER = 1 << 2


class Reason(IntEnum):
    """Why a packet met its fate."""

    NOT_OURS, NO_SERVICE, FORWARDED, REPLY, ICMP_FORWARDED = range(5)
    ECHO_ANSWERED, TOO_BIG_ANSWERED, TTL_ANSWERED, REFUSED = range(5, 9)
    MALFORMED, FRAGMENT_UNPLACED, NO_SERVER, NO_CONNECTION, TABLE_FULL = range(9, 14)
    NO_SOURCE_PORT, NO_NEIGHBOUR, NO_ROUTE, TOO_BIG, TTL_EXPIRED = range(14, 19)
    ICMP_UNMATCHED, NO_HEADROOM, UNSUPPORTED = range(19, 22)


class ChosenBy(IntEnum):
    NOT, CONNECTION, TEMPLATE, SCHEDULER = range(4)


class Abi(NamedTuple):
    version: int
    services: int
    servers: int
    slots: int
    conns4: int  # buckets
    conns6: int
    hash_seed: int


class Settings(NamedTuple):
    timeouts: bytes  # TIMEOUTS: ticks by State
    icmp_per_second: int


class ServiceId(NamedTuple):
    """struct service_key"""

    addr: bytes
    port: bytes
    protocol: int
    family: int


class Run(NamedTuple):
    """Entries of the map `slots`."""

    first: int
    count: int  # type: ignore[assignment]  # of a tuple, and not missed


class Service(NamedTuple):
    members_first: int
    members_count: int
    table_first: int
    table_count: int
    scheduler: int
    flags: int
    family: int
    protocol: int
    addr: bytes
    netmask: bytes
    persistence: int
    port: bytes
    prefix: int
    max_weight: int
    step: int
    cursor: int
    persistence_seconds: int

    @property
    def members(self) -> Run:
        return Run(self.members_first, self.members_count)

    @property
    def table(self) -> Run:
        return Run(self.table_first, self.table_count)


class Server(NamedTuple):
    addr: bytes
    source: bytes
    hop_ifindex: int
    hop_dst: bytes
    hop_src: bytes
    service: int
    generation: int
    flags: int
    family: int
    forwarding: int
    weight: int
    port: bytes
    mtu: int
    vlan: bytes
    tunnel: int
    tunnel_port: bytes
    declared_port: bytes
    outer_sum: int
    upper: int
    lower: int
    last_weight: int


class Load(NamedTuple):
    active: int
    inactive: int
    persistent: int
    overloaded: int


class Conn(NamedTuple):
    """One entry of a connection table; its addresses follow."""

    word_server: int
    word_tag: int
    word_state: int
    word_flags: int
    seen: int
    peer: int
    sport: bytes
    dport: bytes
    source_port: bytes
    protocol: int


class Counters(NamedTuple):
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int
    connections: int


class Signals(NamedTuple):
    """What packets give away about a server's health."""

    begun: int
    syn_again: int
    unreachable: int


class FragmentId(NamedTuple):
    """struct fragment_key"""

    addr: bytes
    id: bytes
    protocol: int
    family: int


class Fragment(NamedTuple):
    conn: int
    server: int
    seen: int
    answers: int


class NeighbourId(NamedTuple):
    """struct neighbour_key"""

    addr: bytes
    ifindex: int
    family: int


class ReturnId(NamedTuple):
    """struct return_key"""

    addr: bytes


class ReturnHop(NamedTuple):
    """How a client was heard whose neighbour the kernel does not know."""

    hop_ifindex: int
    hop_dst: bytes
    hop_src: bytes
    vlan: bytes
    seen: int  # tick


class Explanation(NamedTuple):
    reason: int
    service: int
    server: int
    chosen_by: int
    conn: int
    state: int
    ifindex: int
    by_fib: int


class Sweep(NamedTuple):
    family: int
    first: int
    count: int  # type: ignore[assignment]
    recount: int
    used: int = 0
    expired: int = 0
    half_open: int = 0


T = TypeVar("T", bound=tuple[object, ...])
Data = bytes | bytearray | memoryview


class Layout(Generic[T]):
    """Where the fields of a tuple lie in the struct. ``form``: a format of the module struct for
    each field in order, and one such as 4x for padding."""

    def __init__(self, record: type[T], form: str) -> None:
        names: Iterator[str] = iter(getattr(record, "_fields"))  # noqa: B009 (of a named tuple)
        self.record = record
        self.struct = Struct("=" + form)
        self.size = self.struct.size
        self.places: dict[str, tuple[int, int]] = {}  # field -> offset, size
        at = 0
        for word in form.split():
            size = Struct("=" + word).size
            if not word.endswith("x"):
                self.places[next(names)] = at, size
            at += size
        self.offset = {name: place for name, (place, _) in self.places.items()}

    def pack(self, record: T) -> bytes:
        return self.struct.pack(*record)

    def pack_into(self, buffer: memoryview, index: int, record: T) -> None:
        """As element ``index`` of an array."""
        self.struct.pack_into(buffer, index * self.size, *record)

    def unpack(self, data: Data, index: int = 0) -> T:
        """Element ``index`` of an array."""
        return self._made(self.struct.unpack_from(data, index * self.size))

    def unpack_all(self, data: Data) -> Iterator[T]:
        return map(self._made, self.struct.iter_unpack(data))

    def _made(self, values: tuple[object, ...]) -> T:
        made: T = tuple.__new__(self.record, values)
        return made


ABI = Layout(Abi, "I I I I I I Q")
SETTINGS = Layout(Settings, "64s I 60x")
TIMEOUTS = Struct("=16I")
SERVICE_ID = Layout(ServiceId, "16s 2s B B")
RUN = Layout(Run, "I I")
SERVICE = Layout(Service, "I I I I 4x B B B B 16s 16s I 2s B x I I Q I 44x")
SERVER = Layout(Server, "16s 16s I 6s 6s I B B B B I 2s H 2s B x 2s 2s I I I I 40x")
LOAD = Layout(Load, "I I I I")
CONN = Layout(Conn, "I H B B I I 2s 2s 2s B x")
COUNTERS = Layout(Counters, "Q Q Q Q Q")
SIGNALS = Layout(Signals, "Q Q Q")
FRAGMENT_ID = Layout(FragmentId, "32s 4s B B 2x")
FRAGMENT = Layout(Fragment, "I I I I")
NEIGHBOUR_ID = Layout(NeighbourId, "16s I I")
RETURN_ID = Layout(ReturnId, "16s")
RETURN_HOP = Layout(ReturnHop, "I 6s 6s 2s 2x I")
EXPLANATION = Layout(Explanation, "I I I I I I I I")
SWEEP = Layout(Sweep, "I I I I I I I 4x")

U32, U64 = Struct("=I"), Struct("=Q")
SLOT_SIZE = 8  # of 4 bytes, and elements of arrays begin at multiples of 8
CONN_SIZES = {AddressFamily.IPV4: 32, AddressFamily.IPV6: 64}  # with both addresses


def address_bytes(address: IPAddress) -> bytes:
    return address.packed.ljust(16, b"\0")


def address_of(data: bytes, family: int) -> IPAddress:
    return IPv4Address(data[:4]) if family == AddressFamily.IPV4 else IPv6Address(data)


def run_word(run: Run) -> int:
    """As it is stored at once."""
    word: int = U64.unpack(RUN.pack(run))[0]
    return word


def server_ref(server: int, generation: int) -> int:
    """As connections name a server."""
    return server | generation << 24


def server_of_ref(ref: int) -> tuple[int, int]:
    """Id and generation."""
    return ref & MOST_SERVERS - 1, ref >> 24
