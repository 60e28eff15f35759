"""Settings of one host: /etc/kernlb/kernlb.yaml, absent or in part absent.

What services default to, and what belongs to the host and to no service: IPVS's timeouts, its
connection-sync daemon, its sysctls; XDP's interfaces, tables and timeouts.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from msgspec import UNSET, UnsetType

from kernlb.config.checks import read_watch
from kernlb.config.duration import seconds
from kernlb.config.errors import ConfigError, Fault, Report
from kernlb.config.health import read_policy
from kernlb.config.health_settings import HealthSettings, read_monitor
from kernlb.config.settings_document import (
    AUDIT_INTERVAL,
    CONTROL_GROUP,
    METRICS_LISTEN,
    METRICS_SERVERS,
    OVERVIEW_INTERVAL,
    DefaultsDocument,
    SettingsDocument,
    SyncDocument,
    SysctlsDocument,
    TimeoutsDocument,
)
from kernlb.config.shape import read_document
from kernlb.config.syntax import MAX_BYTES, lines_of
from kernlb.config.xdp_settings import XdpSettings, read_xdp
from kernlb.health.check import HealthPolicy, Watch
from kernlb.limits import XDP_SCHEDULERS
from kernlb.model import DatapathKind, Forwarding, IPAddress, Scheduler, parse_endpoint


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a service has that does not say otherwise. ``drain_timeout`` in seconds, None: a
    drained server keeps its connections. ``vip_interface`` None: addresses are left alone.
    ``check`` None: servers are not asked."""

    datapath: DatapathKind = DatapathKind.IPVS
    scheduler: Scheduler = Scheduler.WLC
    forwarding: Forwarding = Forwarding.NAT
    vip_interface: str | None = None
    drain_timeout: float | None = None
    check: Watch | None = None
    health: HealthPolicy = field(default_factory=HealthPolicy)


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
    """``metrics_listen`` None: no metrics listener. Intervals in seconds. ``metrics_servers``: more
    than this many have no metrics each."""

    defaults: Defaults = Defaults()
    audit_interval: float = AUDIT_INTERVAL
    overview_interval: float = OVERVIEW_INTERVAL
    metrics_listen: str | None = METRICS_LISTEN
    metrics_servers: int = METRICS_SERVERS
    ipvs: IpvsSettings = IpvsSettings()
    xdp: XdpSettings = field(default_factory=XdpSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    control_group: str = CONTROL_GROUP


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
        defaults=_defaults(document.defaults, report),
        audit_interval=_interval("audit_interval", document.audit_interval, report),
        overview_interval=_interval("overview_interval", document.overview_interval, report),
        metrics_listen=_listen(document.metrics_listen, report),
        metrics_servers=document.metrics_servers,
        ipvs=IpvsSettings(
            timeouts=_timeouts(document.ipvs.timeouts, report),
            sync=_sync(document.ipvs.sync, report),
            sysctls=_sysctls(document.ipvs.sysctls),
        ),
        xdp=read_xdp(document.xdp, report),
        health=read_monitor(document.health, report),
        control_group=document.control_group,
    )
    if settings.defaults.datapath is DatapathKind.XDP and not settings.xdp.interfaces:
        report.add(("defaults", "datapath"), "xdp needs an interface under xdp.interfaces")
    if report:
        raise report.error(lambda: lines_of(text, source))
    return settings


def _defaults(document: DefaultsDocument, report: Report) -> Defaults:
    xdp = document.datapath is DatapathKind.XDP
    if xdp and document.scheduler not in XDP_SCHEDULERS:
        report.add(("defaults", "scheduler"), f"{document.scheduler} is not in datapath xdp")
    if document.forwarding is Forwarding.FULLNAT and not xdp:
        report.add(("defaults", "forwarding"), "fullnat goes with datapath xdp only")
    drain = 0.0 if document.drain_timeout is UNSET else seconds(document.drain_timeout)
    interface = document.vip_interface
    return Defaults(
        datapath=document.datapath,
        scheduler=document.scheduler,
        forwarding=document.forwarding,
        vip_interface=None if interface is UNSET else interface,
        drain_timeout=drain or None,
        check=None
        if document.check is UNSET
        else read_watch(document.check, ("defaults", "check"), report),
        health=HealthPolicy()
        if document.health is UNSET
        else read_policy(document.health, HealthPolicy(), ("defaults", "health"), report),
    )


def _interval(name: str, duration: str | float, report: Report) -> float:
    interval = seconds(duration)
    if interval < 1:
        report.add((name,), "must be 1 second at least")
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
