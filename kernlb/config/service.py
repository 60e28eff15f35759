"""A service document to a declaration: what must hold between keys, and why.

``shape`` has made sure that each value is of its kind; here they are held against each other and
against what the kernel does with them. Where a refusal is the kernel's, its source is cited.
"""

from __future__ import annotations

import re

from msgspec import UNSET, UnsetType

from kernlb import limits
from kernlb.config.address import is_loopback, parse_address, prefix_of
from kernlb.config.document import PersistenceDocument, ServiceDocument, VipDocument
from kernlb.config.duration import seconds
from kernlb.config.errors import ConfigError, Fault, Report
from kernlb.config.health import hold_policy, read_policy
from kernlb.config.health_document import HealthDocument
from kernlb.config.servers import ServerReader
from kernlb.config.settings import Defaults
from kernlb.config.shape import read_document
from kernlb.config.syntax import lines_of
from kernlb.config.watches import WatchReader
from kernlb.declaration import Declaration, Vip
from kernlb.model import (
    DEFAULT_FLAGS,
    AddressKey,
    DatapathKind,
    Family,
    FwmarkKey,
    L4Protocol,
    Persistence,
    Scheduler,
    SchedulerFlag,
    ServiceKey,
    VirtualService,
)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
NAME_RULE = "a name has 1 to 63 of a-z, 0-9, dot, _ and -, a letter or digit in front"

DEFAULT_PERSISTENCE = 300  # ipvsadm's
MAX_PERSISTENCE = 31 * 24 * 60 * 60  # ipvsadm's


def parse_service(
    text: bytes, *, name: str, source: str, defaults: Defaults | None = None
) -> Declaration:
    """The declaration that a document makes. ``source`` is its file (JSON if it ends in .json).

    Raises ConfigError with every fault found, each with file, line and key.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(Fault(f'"{name}" is not a name: {NAME_RULE}', source))
    document = read_document(text, ServiceDocument, source)
    report = Report(source)
    declaration = _declare(document, name, source, defaults or Defaults(), report)
    if declaration is None or report:
        raise report.error(lambda: lines_of(text, source))
    return declaration


def _declare(
    document: ServiceDocument, name: str, source: str, defaults: Defaults, report: Report
) -> Declaration | None:
    datapath = defaults.datapath if document.datapath is UNSET else document.datapath
    key = _key(document, datapath, report)
    if key is None:
        return None
    service = _service(document, key, defaults, report)
    if limit := limits.of_service(datapath, service):
        report.add(tuple(limit.key.split(".")), limit.why)
    forwarding = defaults.forwarding if document.forwarding is UNSET else document.forwarding
    watches = WatchReader(document.check, service, defaults.check, report)
    reader = ServerReader(document, service, forwarding, datapath, watches, report)
    servers, server_labels = reader.servers()
    sorry_servers, sorry_labels = reader.sorry_servers()
    vip = _vip(document, key, defaults, report)
    said = HealthDocument() if document.health is UNSET else document.health
    policy = hold_policy(
        read_policy(said, defaults.health, ("health",), report),
        said,
        datapath=datapath,
        has_vip=vip is not None,
        servers=servers,
        has_sorry=bool(sorry_servers),
        unchecked=bool(servers) and not watches.watches,
        report=report,
    )
    return Declaration(
        name=name,
        datapath=datapath,
        service=service,
        servers=servers,
        sorry_servers=sorry_servers,
        vip=vip,
        drain_timeout=_drain_timeout(document, defaults),
        labels={} if document.labels is UNSET else document.labels,
        server_labels=server_labels | sorry_labels,
        source=source,
        watches=watches.watches,
        health=policy,
        local=frozenset(reader.local),
    )


def _key(document: ServiceDocument, datapath: DatapathKind, report: Report) -> ServiceKey | None:
    if document.fwmark is not UNSET:
        for name in ("address", "port", "protocol"):
            if getattr(document, name) is not UNSET:
                report.add((name,), "does not go with fwmark: the packet filter chooses packets")
        family = Family.IPV4 if document.family is UNSET else document.family
        return FwmarkKey(family, document.fwmark)
    if document.family is not UNSET:
        report.add(("family",), "goes with fwmark only: an address has its own family")
    if document.port is UNSET:
        report.add((), 'has no "port": a service has address and port, or fwmark')
    if document.address is UNSET:
        report.add((), 'has no "address": a service has address and port, or fwmark')
        return None
    try:
        address = parse_address(document.address)
    except ValueError as error:
        report.add(("address",), str(error))
        return None
    if is_loopback(address):
        report.add(("address",), f"{address} is a loopback address: no client could reach it")
    port = document.port if isinstance(document.port, int) else 0  # any
    any_port = port == 0 and document.port is not UNSET
    if any_port and datapath is DatapathKind.IPVS and document.persistence is UNSET:
        report.add(
            ("port",),
            "must be within 1..65535, not 0: a service on every port needs persistence, "
            "or datapath xdp",
        )  # ip_vs_core.c, ip_vs_schedule(): "port zero only supported in persistent services"
    protocol = L4Protocol.TCP if document.protocol is UNSET else document.protocol
    return AddressKey(protocol, address, port)


def _service(
    document: ServiceDocument, key: ServiceKey, defaults: Defaults, report: Report
) -> VirtualService:
    scheduler = defaults.scheduler if document.scheduler is UNSET else document.scheduler
    if document.one_packet and not _carries_udp(key):
        report.add(
            ("one_packet",), "goes with protocol udp only: other protocols have connections"
        )  # ip_vs.h, ip_vs_conn_flags: IP_VS_SVC_F_ONEPACKET counts for IPPROTO_UDP
    return VirtualService(
        key=key,
        scheduler=scheduler,
        flags=_flags(document, scheduler, report),
        persistence=_persistence(document, key, report),
        one_packet=document.one_packet,
    )


def _carries_udp(key: ServiceKey) -> bool:
    return isinstance(key, FwmarkKey) or key.protocol is L4Protocol.UDP


_NO_FLAGS: frozenset[SchedulerFlag] = frozenset()


def _flags(
    document: ServiceDocument, scheduler: Scheduler, report: Report
) -> frozenset[SchedulerFlag]:
    if document.scheduler_flags is UNSET:
        return DEFAULT_FLAGS.get(scheduler, _NO_FLAGS)
    known = [str(flag) for flag in SchedulerFlag if flag.scheduler is scheduler]
    for index, flag in enumerate(document.scheduler_flags):
        path = ("scheduler_flags", index)
        if flag.scheduler is not scheduler:
            has = f"it has {', '.join(known)}" if known else "it has none"
            report.add(path, f"{flag} is no flag of scheduler {scheduler}: {has}")
        elif flag in document.scheduler_flags[:index]:
            report.add(path, f"{flag} is there already")
    return frozenset(document.scheduler_flags)


def _persistence(document: ServiceDocument, key: ServiceKey, report: Report) -> Persistence | None:
    settings = document.persistence
    if settings is UNSET:
        return None
    if not isinstance(settings, PersistenceDocument):
        timeout = _persistence_timeout(settings, ("persistence",), report)
        return Persistence(timeout, key.family.max_prefix)
    timeout = _persistence_timeout(settings.timeout, ("persistence", "timeout"), report)
    engine = None if settings.engine is UNSET else settings.engine
    if engine is not None and not _carries_udp(key):
        report.add(
            ("persistence", "engine"), f"{engine} goes with protocol udp only"
        )  # ip_vs_pe_sip.c, ip_vs_sip_fill_param(): "Only useful with UDP"
    return Persistence(timeout, _prefix(settings, key.family, report), engine)


def _persistence_timeout(
    duration: str | float | UnsetType, path: tuple[str, ...], report: Report
) -> int:
    if duration is UNSET:
        return DEFAULT_PERSISTENCE
    timeout = seconds(duration)
    if timeout != int(timeout) or not 1 <= timeout <= MAX_PERSISTENCE:
        report.add(path, f"must be whole seconds within 1..{MAX_PERSISTENCE} (31 days)")
    return int(timeout)


def _prefix(settings: PersistenceDocument, family: Family, report: Report) -> int:
    if settings.netmask is not UNSET and settings.prefix is not UNSET:
        report.add(("persistence", "prefix"), "does not go with netmask: give one of them")
    if settings.netmask is not UNSET:
        path = ("persistence", "netmask")
        if family is not Family.IPV4:
            report.add(path, "goes with IPv4 only: give prefix for an IPv6 service")
            return family.max_prefix
        try:
            return prefix_of(settings.netmask)
        except ValueError as error:
            report.add(path, str(error))
    if settings.prefix is UNSET:
        return family.max_prefix
    if settings.prefix > family.max_prefix:
        report.add(
            ("persistence", "prefix"),
            f"must be within 1..{family.max_prefix} for {family}, not {settings.prefix}",
        )
    return settings.prefix


def _vip(
    document: ServiceDocument, key: ServiceKey, defaults: Defaults, report: Report
) -> Vip | None:
    vip = document.vip
    if isinstance(key, FwmarkKey):
        if vip is not UNSET and vip is not False:
            report.add(("vip",), "does not go with fwmark: such a service has no address")
        return None
    if vip is UNSET:
        interface = defaults.vip_interface
        return None if interface is None else Vip(interface, _announce_by_default(interface))
    if isinstance(vip, VipDocument):
        if vip.announce is UNSET:
            return Vip(vip.interface, _announce_by_default(vip.interface))
        if vip.announce is True:
            return Vip(vip.interface, vip.interface)
        return Vip(vip.interface, vip.announce or None)
    if vip:
        report.add(("vip",), "must be a mapping with interface, or false, not true")
    return None


def _announce_by_default(interface: str) -> str | None:
    return None if interface == "lo" else interface


def _drain_timeout(document: ServiceDocument, defaults: Defaults) -> float | None:
    if document.drain_timeout is UNSET:
        return defaults.drain_timeout
    return seconds(document.drain_timeout) or None
