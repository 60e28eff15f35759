"""The settings document as types: what may be written in kernlb.yaml, key by key."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from kernlb.config.check_document import CheckDocument
from kernlb.config.check_words import CheckName
from kernlb.config.health_document import HealthDocument, MonitorDocument
from kernlb.config.values import Address, Duration, Interface, OnlyFalse, Port, doc
from kernlb.config.xdp_document import XdpDocument
from kernlb.model import DatapathKind, Forwarding, Scheduler

METRICS_LISTEN = "127.0.0.1:9107"
METRICS_SERVERS = 20_000
AUDIT_INTERVAL = 60.0
OVERVIEW_INTERVAL = 5.0
CONTROL_GROUP = "kernlb"


class _Document(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class DefaultsDocument(_Document, frozen=True):
    """What services have that do not say otherwise."""

    datapath: Annotated[DatapathKind, doc("Which kernel datapath.", default="ipvs")] = (
        DatapathKind.IPVS
    )
    scheduler: Annotated[Scheduler, doc("Scheduler.", default="wlc")] = Scheduler.WLC
    forwarding: Annotated[Forwarding, doc("Forwarding method.", default="nat")] = Forwarding.NAT
    vip_interface: Annotated[
        Interface | UnsetType,
        doc("Interface that gets the addresses of services. Default: none does."),
    ] = UNSET
    drain_timeout: Annotated[
        Duration | UnsetType,
        doc("When a drained server's connections are dropped; 0: never.", default=0),
    ] = UNSET
    check: Annotated[
        CheckName | CheckDocument | UnsetType,
        doc("How servers are checked: a type, or a mapping.", default="none"),
    ] = UNSET
    health: Annotated[HealthDocument | UnsetType, doc("What verdicts on servers mean.")] = UNSET


class TimeoutsDocument(_Document, frozen=True):
    """Timeouts of IPVS connections, whole seconds. Left out: left alone."""

    tcp: Annotated[Duration | UnsetType, doc("Established TCP connections.")] = UNSET
    tcpfin: Annotated[Duration | UnsetType, doc("TCP connections after a FIN.")] = UNSET
    udp: Annotated[Duration | UnsetType, doc("UDP flows.")] = UNSET


class SyncDocument(_Document, frozen=True):
    """One connection-sync daemon."""

    role: Annotated[
        Literal["master", "backup"], doc("master sends the connection table, backup receives it.")
    ]
    interface: Annotated[Interface, doc("Carries the multicast traffic.")]
    sync_id: Annotated[
        Annotated[int, Meta(ge=0, le=255)], doc("Tells groups of balancers apart.", default=0)
    ] = 0
    max_length: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | UnsetType, doc("Largest sync message, bytes.")
    ] = UNSET
    group: Annotated[Address | UnsetType, doc("Multicast group.", default="224.0.0.81")] = UNSET
    port: Annotated[Port | UnsetType, doc("UDP port.", default=8848)] = UNSET
    ttl: Annotated[Annotated[int, Meta(ge=1, le=255)] | UnsetType, doc("TTL.", default=1)] = UNSET


Switch = Annotated[
    bool | Annotated[int, Meta(ge=0, le=1)], Meta(extra_json_schema={"title": "true or false"})
]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class SysctlsDocument(_Document, frozen=True):
    """net.ipv4.vs.*; see Documentation/networking/ipvs-sysctl.rst of the kernel."""

    amemthresh: Annotated[Count | UnsetType, doc("Pages of free memory to keep.")] = UNSET
    backup_only: Annotated[
        Switch | UnsetType, doc("Forward nothing while the sync daemon is a backup.")
    ] = UNSET
    cache_bypass: Annotated[
        Switch | UnsetType, doc("Forward to the original address when no cache serves.")
    ] = UNSET
    conn_reuse_mode: Annotated[
        Annotated[int, Meta(ge=0, le=3)] | UnsetType,
        doc(
            "How a new connection from a port still in use is taken: bit 0 reschedules it once the "
            "old one has ended, bit 1 already in FIN_WAIT where the server is not heard."
        ),
    ] = UNSET
    conntrack: Annotated[
        Switch | UnsetType, doc("Keep netfilter's connection tracking for balanced connections.")
    ] = UNSET
    drop_entry: Annotated[
        Annotated[int, Meta(ge=0, le=3)] | UnsetType, doc("Drop entries under memory pressure.")
    ] = UNSET
    drop_packet: Annotated[
        Annotated[int, Meta(ge=0, le=3)] | UnsetType, doc("Drop packets under memory pressure.")
    ] = UNSET
    expire_nodest_conn: Annotated[
        Switch | UnsetType, doc("End connections at once when their server is removed.")
    ] = UNSET
    expire_quiescent_template: Annotated[
        Switch | UnsetType, doc("Forget persistence on servers of weight 0.")
    ] = UNSET
    ignore_tunneled: Annotated[Switch | UnsetType, doc("Pass tunnelled packets by.")] = UNSET
    nat_icmp_send: Annotated[
        Switch | UnsetType, doc("Answer nat servers with ICMP where there is no connection.")
    ] = UNSET
    pmtu_disc: Annotated[Switch | UnsetType, doc("Path MTU discovery towards servers.")] = UNSET
    run_estimation: Annotated[Switch | UnsetType, doc("Estimate rates.")] = UNSET
    schedule_icmp: Annotated[
        Switch | UnsetType, doc("Schedule ICMP errors that quote no known connection.")
    ] = UNSET
    secure_tcp: Annotated[
        Annotated[int, Meta(ge=0, le=3)] | UnsetType, doc("Defend against half-open connections.")
    ] = UNSET
    sloppy_sctp: Annotated[Switch | UnsetType, doc("Take an SCTP connection at any packet.")] = (
        UNSET
    )
    sloppy_tcp: Annotated[Switch | UnsetType, doc("Take a TCP connection at any packet.")] = UNSET
    snat_reroute: Annotated[Switch | UnsetType, doc("Route the answers of nat servers anew.")] = (
        UNSET
    )
    sync_persist_mode: Annotated[Switch | UnsetType, doc("Sync persistent connections less.")] = (
        UNSET
    )
    sync_ports: Annotated[Count | UnsetType, doc("Threads of the sync daemon.")] = UNSET
    sync_qlen_max: Annotated[Count | UnsetType, doc("Messages that may wait.")] = UNSET
    sync_refresh_period: Annotated[Count | UnsetType, doc("Seconds between repeats.")] = UNSET
    sync_retries: Annotated[Annotated[int, Meta(ge=0, le=7)] | UnsetType, doc("Repeats.")] = UNSET
    sync_sock_size: Annotated[Count | UnsetType, doc("Socket buffer, bytes.")] = UNSET
    sync_version: Annotated[Switch | UnsetType, doc("Version of the sync protocol.")] = UNSET


class IpvsDocument(_Document, frozen=True):
    """What the host's IPVS has beside its services."""

    timeouts: Annotated[TimeoutsDocument, doc("Timeouts of connections.")] = TimeoutsDocument()
    sync: Annotated[
        Annotated[list[SyncDocument], Meta(max_length=2)],
        doc("Connection-sync daemons: one master, one backup at most.", default=[]),
    ] = []
    sysctls: Annotated[
        SysctlsDocument, doc("Sysctls under net.ipv4.vs; those left out are left alone.")
    ] = SysctlsDocument()


class SettingsDocument(_Document, frozen=True):
    """Settings of one host."""

    defaults: Annotated[DefaultsDocument, doc("What services default to.")] = DefaultsDocument()
    audit_interval: Annotated[
        Duration, doc("Time in which every service is compared with the kernel once.", default=60)
    ] = AUDIT_INTERVAL
    overview_interval: Annotated[
        Duration,
        doc("Time between readings of all counters; longer where there are many.", default=5),
    ] = OVERVIEW_INTERVAL
    metrics_listen: Annotated[
        Annotated[str, Meta(max_length=64, extra_json_schema={"title": "address:port"})]
        | OnlyFalse,
        doc(
            "Where Prometheus reads metrics, address:port; false: nowhere.", default=METRICS_LISTEN
        ),
    ] = METRICS_LISTEN
    metrics_servers: Annotated[
        Count,
        doc("With more real servers than this, metrics are by service only.", default=20000),
    ] = METRICS_SERVERS
    ipvs: Annotated[IpvsDocument, doc("The host's IPVS.")] = IpvsDocument()
    xdp: Annotated[XdpDocument, doc("The host's XDP datapath.")] = XdpDocument()
    health: Annotated[MonitorDocument, doc("The host's health monitor.")] = MonitorDocument()
    control_group: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[a-z_][a-z0-9_-]{0,31}$(?!\n)",
                extra_json_schema={"title": "the name of a group"},
            ),
        ],
        doc(
            "Members of this group may use the control socket, as root may.", default=CONTROL_GROUP
        ),
    ] = CONTROL_GROUP
