"""Settings of one host: /etc/kernlb/kernlb.yaml, absent or in part absent.

What services default to, and what belongs to the host and to no service: IPVS's timeouts, its
connection-sync daemon, its sysctls.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from kernlb.config.document import Address, Duration, Interface, OnlyFalse, Port, doc
from kernlb.config.duration import seconds
from kernlb.config.errors import ConfigError, Fault, Report
from kernlb.config.shape import read_document
from kernlb.config.syntax import MAX_BYTES, lines_of
from kernlb.model import DatapathKind, Forwarding, IPAddress, Scheduler, parse_endpoint

METRICS_LISTEN = "127.0.0.1:9107"
AUDIT_INTERVAL = 60.0
CONTROL_GROUP = "kernlb"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a service has that does not say otherwise. ``drain_timeout`` in seconds, None: a
    drained server keeps its connections. ``vip_interface`` None: addresses are left alone."""

    datapath: DatapathKind = DatapathKind.IPVS
    scheduler: Scheduler = Scheduler.WLC
    forwarding: Forwarding = Forwarding.NAT
    vip_interface: str | None = None
    drain_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class SyncDaemon:
    """A connection-sync daemon of the kernel. None: the kernel's own choice."""

    role: Literal["master", "backup"]
    interface: str
    sync_id: int = 0
    max_length: int | None = None
    group: IPAddress | None = None
    port: int | None = None
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of IPVS connections, in seconds; None: left alone."""

    tcp: int | None = None
    tcpfin: int | None = None
    udp: int | None = None


@dataclass(frozen=True, slots=True)
class IpvsSettings:
    """``sysctls`` by their name under net.ipv4.vs; one that is not there is left alone."""

    timeouts: Timeouts = Timeouts()
    sync: tuple[SyncDaemon, ...] = ()
    sysctls: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Settings:
    """``metrics_listen`` None: no metrics listener. ``audit_interval`` in seconds."""

    defaults: Defaults = Defaults()
    audit_interval: float = AUDIT_INTERVAL
    metrics_listen: str | None = METRICS_LISTEN
    ipvs: IpvsSettings = IpvsSettings()
    control_group: str = CONTROL_GROUP


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
        doc("How a new connection from a port still in use is taken: bit 0 reschedules."),
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
    metrics_listen: Annotated[
        Annotated[str, Meta(max_length=64, extra_json_schema={"title": "address:port"})]
        | OnlyFalse,
        doc(
            "Where Prometheus reads metrics, address:port; false: nowhere.", default=METRICS_LISTEN
        ),
    ] = METRICS_LISTEN
    ipvs: Annotated[IpvsDocument, doc("The host's IPVS.")] = IpvsDocument()
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


def load_settings(path: Path) -> Settings:
    """Settings of a file; the defaults where there is none. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        why = errno.errorcode.get(error.errno or 0, "")
        raise ConfigError(Fault(f"cannot be read: {error.strerror} ({why})", str(path))) from error
    return parse_settings(text, source=str(path))


def parse_settings(text: bytes, *, source: str) -> Settings:
    """Settings of a text; an empty one has the defaults. Raises ConfigError."""
    if not any(line.split(b"#", 1)[0].strip() for line in text.splitlines()[:10_000]):
        return Settings()
    document = read_document(text, SettingsDocument, source)
    report = Report(source)
    settings = Settings(
        defaults=_defaults(document.defaults),
        audit_interval=_audit_interval(document.audit_interval, report),
        metrics_listen=_listen(document.metrics_listen, report),
        ipvs=IpvsSettings(
            timeouts=_timeouts(document.ipvs.timeouts, report),
            sync=_sync(document.ipvs.sync, report),
            sysctls=_sysctls(document.ipvs.sysctls),
        ),
        control_group=document.control_group,
    )
    if report:
        raise report.error(lambda: lines_of(text, source))
    return settings


def _defaults(document: DefaultsDocument) -> Defaults:
    drain = 0.0 if document.drain_timeout is UNSET else seconds(document.drain_timeout)
    interface = document.vip_interface
    return Defaults(
        datapath=document.datapath,
        scheduler=document.scheduler,
        forwarding=document.forwarding,
        vip_interface=None if interface is UNSET else interface,
        drain_timeout=drain or None,
    )


def _audit_interval(duration: str | float, report: Report) -> float:
    interval = seconds(duration)
    if interval < 1:
        report.add(("audit_interval",), "must be 1 second at least")
    return interval


def _listen(listen: str | bool, report: Report) -> str | None:
    if listen is False:
        return None
    if listen is True:
        report.add(("metrics_listen",), "must be address:port or false, not true")
        return None
    try:
        if parse_endpoint(listen).port == 0:
            raise ValueError("port 0 is not within 1..65535")
    except ValueError as error:
        report.add(("metrics_listen",), str(error))
    return listen


def _timeouts(document: TimeoutsDocument, report: Report) -> Timeouts:
    def whole(name: str, duration: str | float | UnsetType) -> int | None:
        if duration is UNSET:
            return None
        value = seconds(duration)
        if value != int(value) or not 1 <= value <= 2**31 // 1000:
            report.add(("ipvs", "timeouts", name), "must be whole seconds within 1..2147483")
        return int(value)

    return Timeouts(
        tcp=whole("tcp", document.tcp),
        tcpfin=whole("tcpfin", document.tcpfin),
        udp=whole("udp", document.udp),
    )


def _sync(documents: list[SyncDocument], report: Report) -> tuple[SyncDaemon, ...]:
    daemons: list[SyncDaemon] = []
    for index, document in enumerate(documents):
        path = ("ipvs", "sync", index)
        if any(daemon.role == document.role for daemon in daemons):
            report.add((*path, "role"), f"{document.role} is there already: one of each at most")
        group = None
        if document.group is not UNSET:
            group = _group(document.group, (*path, "group"), report)
        if document.port == 0:
            report.add((*path, "port"), "must be within 1..65535, not 0")
        daemons.append(
            SyncDaemon(
                role=document.role,
                interface=document.interface,
                sync_id=document.sync_id,
                max_length=None if document.max_length is UNSET else document.max_length,
                group=group,
                port=None if document.port is UNSET else document.port,
                ttl=None if document.ttl is UNSET else document.ttl,
            )
        )
    return tuple(daemons)


def _group(text: str, path: tuple[str | int, ...], report: Report) -> IPAddress | None:
    from ipaddress import ip_address

    try:
        group = ip_address(text)
    except ValueError:
        report.add(path, f'"{text}" is not an IP address')
        return None
    if not group.is_multicast:
        report.add(path, f"{text} is not a multicast address")
    return group


def _sysctls(document: SysctlsDocument) -> Mapping[str, int]:
    values = {name: getattr(document, name) for name in document.__struct_fields__}
    return MappingProxyType({name: int(v) for name, v in values.items() if v is not UNSET})
