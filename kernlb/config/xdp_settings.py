"""The host's XDP datapath as it is wanted: interfaces, sizes of tables, timeouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from kernlb.config.address import is_loopback, parse_address
from kernlb.config.duration import seconds
from kernlb.config.errors import Report
from kernlb.config.xdp_document import XdpDocument, XdpTimeoutsDocument
from kernlb.model import IPAddress

MAX_TIMEOUT = 2**31 // 1000  # seconds: what IPVS takes


def _timeouts(document: XdpTimeoutsDocument) -> Mapping[str, float]:
    names = document.__struct_fields__
    return MappingProxyType({name: seconds(getattr(document, name)) for name in names})


@dataclass(frozen=True, slots=True)
class XdpSettings:
    """``timeouts`` in seconds, by their keys. The rest is entries, as asked for."""

    interfaces: tuple[str, ...] = ()
    mode: Literal["native", "generic"] = "native"
    connections: int = XdpDocument().connections
    connections6: int = XdpDocument().connections6
    services: int = XdpDocument().services
    servers: int = XdpDocument().servers
    slots: int = XdpDocument().slots
    timeouts: Mapping[str, float] = field(default_factory=lambda: _timeouts(XdpTimeoutsDocument()))
    source_addresses: tuple[IPAddress, ...] = ()
    icmp_per_second: int = XdpDocument().icmp_per_second


def read_xdp(document: XdpDocument, report: Report) -> XdpSettings:
    """What is wrong goes to ``report``."""
    for index, name in enumerate(document.interfaces):
        if name in document.interfaces[:index]:
            report.add(("xdp", "interfaces", index), f"{name} is there already")
    timeouts = _timeouts(document.timeouts)
    for name, value in timeouts.items():
        if not 1 <= value <= MAX_TIMEOUT:
            report.add(("xdp", "timeouts", name), f"must be within 1..{MAX_TIMEOUT} seconds")
    return XdpSettings(
        interfaces=tuple(document.interfaces),
        mode=document.mode,
        connections=document.connections,
        connections6=document.connections6,
        services=document.services,
        servers=document.servers,
        slots=document.slots,
        timeouts=timeouts,
        source_addresses=_sources(document.source_addresses, report),
        icmp_per_second=document.icmp_per_second,
    )


def _sources(texts: list[str], report: Report) -> tuple[IPAddress, ...]:
    found: list[IPAddress] = []
    for index, text in enumerate(texts):
        path = ("xdp", "source_addresses", index)
        try:
            address = parse_address(text)
        except ValueError as error:
            report.add(path, str(error))
            continue
        if is_loopback(address):
            report.add(path, f"{address} is a loopback address: no server could answer to it")
        if address in found:
            report.add(path, f"{address} is there already")
        found.append(address)
    return tuple(found)
