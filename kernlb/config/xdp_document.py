"""What may be written under ``xdp`` in kernlb.yaml, key by key."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from kernlb.config.values import Address, Duration, Interface, doc

MAX_ENTRIES = 2**30
MAX_SERVERS = 2**24  # an id has 24 bits in an entry of a connection
MAX_INTERFACES = 64

Entries = Annotated[int, Meta(ge=1, le=MAX_ENTRIES)]


class _Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class XdpTimeoutsDocument(_Document, frozen=True):
    """How long an idle connection is remembered, by its state. The defaults are IPVS's."""

    tcp: Annotated[Duration, doc("Established TCP connections.", default="15m")] = "15m"
    tcp_syn_sent: Annotated[
        Duration, doc("TCP: the server has begun a connection.", default="2m")
    ] = "2m"
    tcp_syn_recv: Annotated[
        Duration, doc("TCP: a client has begun one and it is not established.", default="1m")
    ] = "1m"
    tcpfin: Annotated[Duration, doc("TCP connections after a FIN.", default="2m")] = "2m"
    tcp_time_wait: Annotated[
        Duration, doc("TCP: both sides have said that they are done.", default="2m")
    ] = "2m"
    tcp_close: Annotated[Duration, doc("TCP: after a reset.", default="10s")] = "10s"
    tcp_close_wait: Annotated[Duration, doc("TCP: the server said FIN first.", default="1m")] = "1m"
    tcp_last_ack: Annotated[
        Duration, doc("TCP: both FINs seen, the last acknowledgement not.", default="30s")
    ] = "30s"
    udp: Annotated[Duration, doc("UDP flows.", default="5m")] = "5m"
    sctp: Annotated[Duration, doc("Established SCTP associations.", default="15m")] = "15m"
    sctp_init: Annotated[Duration, doc("SCTP: not established yet.", default="1m")] = "1m"
    sctp_closing: Annotated[Duration, doc("SCTP: shutting down.", default="1m")] = "1m"


class XdpDocument(_Document, frozen=True):
    """The host's XDP datapath: where it runs, and how large its tables are."""

    interfaces: Annotated[
        Annotated[list[Interface], Meta(max_length=MAX_INTERFACES)],
        doc("Packets that come in here are balanced. None: XDP is not used.", default=[]),
    ] = []
    mode: Annotated[
        Literal["native", "generic"],
        doc(
            "native: in the driver. generic: behind it, several times slower, for drivers that "
            "have none.",
            default="native",
        ),
    ] = "native"
    connections: Annotated[
        Entries, doc("Entries of the IPv4 connection table, 32 bytes each.", default=2**20)
    ] = 2**20
    connections6: Annotated[
        Entries, doc("Entries of the IPv6 connection table, 64 bytes each.", default=2**18)
    ] = 2**18
    services: Annotated[Entries, doc("Services at most.", default=1024)] = 1024
    servers: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_SERVERS)],
        doc("Real servers at most, of all services.", default=16_384),
    ] = 16_384
    slots: Annotated[
        Entries,
        doc(
            "Members of all services and tables of the hash schedulers, 8 bytes each.",
            default=2**20,
        ),
    ] = 2**20
    timeouts: Annotated[XdpTimeoutsDocument, doc("How long idle connections are remembered.")] = (
        XdpTimeoutsDocument()
    )
    source_addresses: Annotated[
        Annotated[list[Address], Meta(max_length=MAX_INTERFACES)],
        doc(
            "Addresses of this host that fullnat and tunnels send from, instead of the one that "
            "the route to a server prefers.",
            default=[],
        ),
    ] = []
    icmp_per_second: Annotated[
        Annotated[int, Meta(ge=0, le=2**31 - 1)],
        doc("ICMP errors and resets that one CPU sends, at most; 0: no limit.", default=1000),
    ] = 1000
