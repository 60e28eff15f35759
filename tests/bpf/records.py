"""Services and servers of the tests as the values of the maps (kernlb.datapath.xdp.layout)."""

from __future__ import annotations

from enum import IntEnum
from ipaddress import ip_address, ip_network
from struct import unpack
from typing import TYPE_CHECKING

from kernlb.datapath.xdp import layout
from kernlb.datapath.xdp.layout import ServerFlag, ServiceFlag
from tests.bpf.frames import NUMBER

if TYPE_CHECKING:
    from tests.bpf.network import Interfaces
    from tests.bpf.services import Server, Service


def names(enum: type[IntEnum]) -> list[str]:
    return [each.name.lower() for each in enum]


REASONS = names(layout.Reason)
STATES = names(layout.State)
CONN_FLAGS = names(layout.ConnFlag)


def ticks(seconds: float) -> int:
    return round(seconds * layout.TICKS_PER_SECOND)


def packed(address: str) -> bytes:
    return layout.address_bytes(ip_address(address))


def _port(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def service_id(service: Service) -> bytes:
    key = layout.ServiceId(
        packed(service.address), _port(service.port), NUMBER[service.protocol], service.family
    )
    return layout.SERVICE_ID.pack(key)


def vip_id(service: Service) -> bytes:
    """The entry that says which protocols an address has services of."""
    key = layout.ServiceId(packed(service.address), _port(0), 0, service.family)
    return layout.SERVICE_ID.pack(key)


def service_value(
    service: Service, members: tuple[int, int], table: tuple[int, int]
) -> layout.Service:
    flags = ServiceFlag(0)
    for name in service.flags:
        flags |= ServiceFlag[name.upper()]
    network = ip_network(f"{service.address}/{service.prefix}", strict=False)
    step, most = service.steps
    return layout.Service(
        *members,
        *table,
        scheduler=layout.Schedule[service.scheduler.upper()],
        flags=flags,
        family=service.family,
        protocol=NUMBER[service.protocol],
        addr=packed(service.address),
        netmask=network.netmask.packed,
        persistence=ticks(service.persistence),
        port=_port(service.port),
        prefix=service.prefix,
        max_weight=most,
        step=step,
        cursor=service.cursor,
        persistence_seconds=service.persistence,
    )


def server_value(server: Server, service: int, interfaces: Interfaces) -> layout.Server:
    dst, src = server.macs
    outer = packed(server.address)[:4] + packed(server.ours)[:4]
    known = ServerFlag.HOP_KNOWN if server.hop_known else ServerFlag(0)
    return layout.Server(
        addr=packed(server.address),
        source=packed(server.ours),
        hop_ifindex=server.ifindex or getattr(interfaces, server.interface),
        hop_dst=_mac(dst),
        hop_src=_mac(src),
        service=service,
        generation=server.generation,
        flags=known | (ServerFlag.ALIVE if server.alive else ServerFlag(0)),
        family=server.family,
        forwarding=layout.Forward[server.forwarding.upper()],
        weight=server.weight,
        port=_port(server.port),
        mtu=server.mtu,
        vlan=_port(server.vlan),
        tunnel=layout.Encapsulation[server.tunnel.upper()],
        tunnel_port=_port(server.tunnel_port if server.tunnel == "gue" else 0),
        declared_port=_port(server.port),
        outer_sum=sum(unpack("=4H", outer)) if server.family == 4 else 0,
        upper=server.upper,
        lower=server.lower,
        last_weight=server.last_weight,
    )
