"""The service document as types: what an operator may write, before it means anything.

From these come the conversion, the JSON Schema and the reference page, so each key is described
here and nowhere else. Keys left out are UNSET: what they default to may depend on the host.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from kernlb.model import (
    MAX_FWMARK,
    MAX_PORT,
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
MAX_THRESHOLD = 2**31 - 1
MAX_LABELS = 64

# $ alone lets one line end through at the very end, in Python though not in ECMA 262.
_END = r"$(?!\n)"
DURATION_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d)" + _END
LABEL_KEY_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?" + _END
LABEL_VALUE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*" + _END
# IFNAMSIZ is 16 with the NUL; see dev_valid_name() in net/core/dev.c
INTERFACE_PATTERN = r"^[!-.0-9;-~]{1,15}" + _END


def doc(description: str, **schema: Any) -> Meta:
    """What a key means, and what else an editor should know of it."""
    return Meta(description=description, extra_json_schema=schema or None)


Address = Annotated[
    str,
    Meta(
        max_length=64,
        extra_json_schema={
            "title": "an IP address",
            "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}],
            "examples": ["192.0.2.10", "2001:db8::10"],
        },
    ),
]
Port = Annotated[int, Meta(ge=0, le=MAX_PORT)]
AnyPort = Literal["any"]
Weight = Annotated[int, Meta(ge=0, le=MAX_WEIGHT)]
Threshold = Annotated[int, Meta(ge=0, le=MAX_THRESHOLD)]
Duration = Annotated[
    Annotated[str, Meta(pattern=DURATION_PATTERN)] | Annotated[float, Meta(ge=0, le=1e9)],
    Meta(
        extra_json_schema={
            "title": 'a duration: seconds, or text as "500ms", "90s", "5m", "1h", "1d"',
            "examples": [300, "5m"],
        }
    ),
]
Interface = Annotated[
    str,
    Meta(
        pattern=INTERFACE_PATTERN,
        extra_json_schema={"title": "the name of an interface (1 to 15 characters)"},
    ),
]
Labels = Annotated[
    dict[
        Annotated[
            str,
            Meta(
                pattern=LABEL_KEY_PATTERN,
                extra_json_schema={
                    "title": "a label key: 1 to 63 letters, digits or . _ / - within"
                },
            ),
        ],
        Annotated[
            str,
            Meta(
                max_length=255,
                pattern=LABEL_VALUE_PATTERN,
                extra_json_schema={
                    "title": "text on one line, 255 characters at most (numbers in quotes)"
                },
            ),
        ],
    ],
    Meta(max_length=MAX_LABELS),
]


OnlyFalse = Annotated[bool, Meta(extra_json_schema={"title": "false"})]  # true has no meaning


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
        Annotated[str, Meta(pattern="^sip" + _END, extra_json_schema={"title": '"sip"'})]
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
        SorryServerDocument | UnsetType,
        doc("The server used when no real server can serve."),
    ] = UNSET
    drain_timeout: Annotated[
        Duration | UnsetType,
        doc("When a drained server's connections are dropped; 0: never. Default: the host's."),
    ] = UNSET
    labels: Annotated[Labels | UnsetType, doc("Labels of this service.")] = UNSET
    servers: Annotated[
        Annotated[list[ServerDocument], Meta(max_length=MAX_SERVERS)],
        doc("The real servers.", default=[]),
    ] = []
