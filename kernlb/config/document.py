"""The service document as types: what an operator may write, before it means anything.

From these come the conversion, the JSON Schema and the reference page, so each key is described
here and nowhere else. Keys left out are UNSET: what they default to may depend on the host.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from kernlb.config.check_document import CheckDocument
from kernlb.config.check_words import CheckName
from kernlb.config.health_document import HealthDocument
from kernlb.config.values import (
    END,
    Address,
    AnyPort,
    Duration,
    Interface,
    Labels,
    OnlyFalse,
    Port,
    Threshold,
    Weight,
    doc,
)
from kernlb.model import (
    MAX_FWMARK,
    MAX_WEIGHT,
    DatapathKind,
    Family,
    Forwarding,
    L4Protocol,
    Scheduler,
    SchedulerFlag,
    TunnelType,
)

MAX_SERVERS = 16_384
MAX_SORRY_SERVERS = 64


class _Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """gc=False: documents are trees, made and dropped within one call."""


class TunnelDocument(_Document, frozen=True):
    """Encapsulation towards the real servers."""

    type: Annotated[TunnelType, doc("Encapsulation.", default="ipip")] = TunnelType.IPIP
    port: Annotated[
        Port | UnsetType, doc("UDP port of the tunnel's far end; for gue, and only there.")
    ] = UNSET
    checksum: Annotated[bool, doc("Checksum the outer header (gue, gre).", default=False)] = False


class PersistenceDocument(_Document, frozen=True):
    """Clients of one network stay on one server."""

    timeout: Annotated[
        Duration | UnsetType,
        doc(
            "How long after the last connection ended; whole seconds, 31 days at most.", default=300
        ),
    ] = UNSET
    netmask: Annotated[
        Address | UnsetType,
        doc("Size of a client network, IPv4.", default="255.255.255.255"),
    ] = UNSET
    prefix: Annotated[
        Annotated[int, Meta(ge=1, le=128)] | UnsetType,
        doc("Size of a client network as a prefix length; instead of netmask."),
    ] = UNSET
    engine: Annotated[
        Annotated[str, Meta(pattern="^sip" + END, extra_json_schema={"title": '"sip"'})]
        | UnsetType,
        doc("Persistence engine: sip keeps a Call-ID on one server. UDP only.", enum=["sip"]),
    ] = UNSET


class VipDocument(_Document, frozen=True):
    """Where kernlb puts the service's address."""

    interface: Annotated[Interface, doc("Gets the address, as /32 or /128.")]
    announce: Annotated[
        Interface | OnlyFalse | UnsetType,
        doc(
            "Announces the address there by gratuitous ARP or unsolicited neighbour "
            "advertisements; false: nowhere. Default: the interface, except lo."
        ),
    ] = UNSET


class SorryServerDocument(_Document, frozen=True):
    """The server used when no real server of the service can serve."""

    address: Annotated[Address, doc("Its address.")]
    port: Annotated[Port | UnsetType, doc("Its port. Default: the service's.")] = UNSET
    weight: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_WEIGHT)], doc("Its weight while in use.", default=1)
    ] = 1
    forwarding: Annotated[
        Forwarding | UnsetType, doc("Forwarding method. Default: the service's.")
    ] = UNSET
    tunnel: Annotated[TunnelDocument | UnsetType, doc("Encapsulation. Default: the service's.")] = (
        UNSET
    )
    upper_threshold: Annotated[
        Threshold, doc("No new connections above this many; 0: no limit.", default=0)
    ] = 0
    lower_threshold: Annotated[
        Threshold, doc("New connections again below this many; 0: at 3/4 of the upper.", default=0)
    ] = 0
    local: Annotated[
        bool,
        doc("It is on the balancer itself: its address may be a VIP. IPVS only.", default=False),
    ] = False
    labels: Annotated[Labels | UnsetType, doc("Labels of this server.")] = UNSET


class ServerDocument(_Document, frozen=True):
    """One real server."""

    address: Annotated[Address, doc("Its address.")]
    port: Annotated[
        Port | UnsetType,
        doc("Its port. Default: the service's. Only nat and fullnat can have another."),
    ] = UNSET
    weight: Annotated[
        Weight | UnsetType, doc("Its share; 0: no new connections. Default: the service's.")
    ] = UNSET
    forwarding: Annotated[
        Forwarding | UnsetType, doc("Forwarding method. Default: the service's.")
    ] = UNSET
    tunnel: Annotated[TunnelDocument | UnsetType, doc("Encapsulation. Default: the service's.")] = (
        UNSET
    )
    upper_threshold: Annotated[
        Threshold | UnsetType,
        doc("No new connections above this many; 0: no limit. Default: the service's."),
    ] = UNSET
    lower_threshold: Annotated[
        Threshold | UnsetType,
        doc(
            "New connections again below this many; 0: at 3/4 of the upper. Default: the service's."
        ),
    ] = UNSET
    check: Annotated[
        CheckName | CheckDocument | UnsetType,
        doc("How it is checked: a type, or a mapping; none: not. Default: as the service says."),
    ] = UNSET
    local: Annotated[
        bool,
        doc("It is on the balancer itself: its address may be a VIP. IPVS only.", default=False),
    ] = False
    labels: Annotated[Labels | UnsetType, doc("Labels of this server.")] = UNSET


class ServiceDocument(_Document, frozen=True):
    """A virtual service: what clients connect to, and its real servers."""

    address: Annotated[Address | UnsetType, doc("The virtual address (VIP).")] = UNSET
    port: Annotated[
        Port | AnyPort | UnsetType,
        doc("The virtual port; 0 or any: every port, with ipvs only if persistent."),
    ] = UNSET
    protocol: Annotated[L4Protocol | UnsetType, doc("Transport protocol.", default="tcp")] = UNSET
    fwmark: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_FWMARK)] | UnsetType,
        doc("A firewall mark that a packet filter sets, instead of address, port and protocol."),
    ] = UNSET
    family: Annotated[
        Family | UnsetType, doc("Address family of a fwmark service.", default="ipv4")
    ] = UNSET
    datapath: Annotated[
        DatapathKind | UnsetType, doc("Which kernel datapath carries it. Default: the host's.")
    ] = UNSET
    scheduler: Annotated[
        Scheduler | UnsetType, doc("How new connections are spread. Default: the host's.")
    ] = UNSET
    scheduler_flags: Annotated[
        Annotated[list[SchedulerFlag], Meta(max_length=8)] | UnsetType,
        doc("Switches of sh and mh. Default: fallback on; an empty list: none."),
    ] = UNSET
    forwarding: Annotated[
        Forwarding | UnsetType,
        doc("Forwarding method of its servers. Default: the host's."),
    ] = UNSET
    tunnel: Annotated[
        TunnelDocument | UnsetType, doc("Encapsulation, where forwarding is tunnel.")
    ] = UNSET
    persistence: Annotated[
        PersistenceDocument | Duration | UnsetType,
        doc("Keep clients on their server: settings, or only the timeout."),
    ] = UNSET
    one_packet: Annotated[bool, doc("Schedule every datagram anew. UDP only.", default=False)] = (
        False
    )
    weight: Annotated[Weight, doc("Weight of servers that name none.", default=1)] = 1
    upper_threshold: Annotated[
        Threshold, doc("upper_threshold of servers that name none.", default=0)
    ] = 0
    lower_threshold: Annotated[
        Threshold, doc("lower_threshold of servers that name none.", default=0)
    ] = 0
    vip: Annotated[
        VipDocument | OnlyFalse | UnsetType,
        doc(
            "Where kernlb puts the address; false: it is somebody else's to put. "
            "Default: the host's interface, if it names one."
        ),
    ] = UNSET
    sorry_server: Annotated[
        SorryServerDocument
        | Annotated[list[SorryServerDocument], Meta(max_length=MAX_SORRY_SERVERS)]
        | UnsetType,
        doc("The server used when no real server can serve; or a list of them."),
    ] = UNSET
    check: Annotated[
        CheckName | CheckDocument | UnsetType,
        doc("How its servers are checked: a type, or a mapping; none: not. Default: the host's."),
    ] = UNSET
    health: Annotated[HealthDocument | UnsetType, doc("What the verdicts on its servers mean.")] = (
        UNSET
    )
    drain_timeout: Annotated[
        Duration | UnsetType,
        doc("When a drained server's connections are dropped; 0: never. Default: the host's."),
    ] = UNSET
    labels: Annotated[Labels | UnsetType, doc("Labels of this service.")] = UNSET
    servers: Annotated[
        Annotated[list[ServerDocument], Meta(max_length=MAX_SERVERS)],
        doc("The real servers.", default=[]),
    ] = []
