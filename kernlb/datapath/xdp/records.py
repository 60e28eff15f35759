"""Services and servers of the model as the maps hold them, there and back. Pure.

What is written is read again to the last bit: that is what makes a difference between desired and
observed worth acting on.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from kernlb.datapath.xdp.layout import (
    SERVER,
    SERVICE,
    SERVICE_ID,
    TICKS_PER_SECOND,
    AddressFamily,
    Encapsulation,
    Forward,
    Schedule,
    Server,
    ServerFlag,
    Service,
    ServiceFlag,
    ServiceId,
    address_bytes,
    address_of,
)
from kernlb.model import (
    AddressKey,
    Forwarding,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServerKey,
    Tunnel,
    TunnelType,
    VirtualService,
)

PROTOCOLS = {L4Protocol.TCP: 6, L4Protocol.UDP: 17, L4Protocol.SCTP: 132}
SCHEDULES = {each: Schedule[each.name] for each in map(Scheduler, ("rr", "wrr", "lc", "wlc"))}
SCHEDULES |= {Scheduler.SH: Schedule.SH, Scheduler.MH: Schedule.MH}
FORWARDS = {each: Forward[each.name] for each in Forwarding}
TUNNELS = {each: Encapsulation[each.name] for each in TunnelType}
FALLBACKS = {Scheduler.SH: SchedulerFlag.SH_FALLBACK, Scheduler.MH: SchedulerFlag.MH_FALLBACK}
PORTS = {Scheduler.SH: SchedulerFlag.SH_PORT, Scheduler.MH: SchedulerFlag.MH_PORT}

_PROTOCOLS: dict[int, L4Protocol] = {number: each for each, number in PROTOCOLS.items()}
_SCHEDULERS: dict[int, Scheduler] = {number: each for each, number in SCHEDULES.items()}
_FORWARDINGS: dict[int, Forwarding] = {number: each for each, number in FORWARDS.items()}
_TUNNELS: dict[int, TunnelType] = {number: each for each, number in TUNNELS.items()}

_TRANSLATED = (Forwarding.NAT, Forwarding.FULLNAT)
_ALIVE = int(ServerFlag.ALIVE)
_NO_PORT = bytes(2)
_NO_HOP = (bytes(16), 0, bytes(6), bytes(6))  # source, ifindex, both Ethernet addresses

MAX_TICKS = 2**31 - 1  # ages are compared modulo 2^32

Identity = tuple[bytes, int, bytes]  # of a server within its service: addr, family, declared port
_IDENTITY = Struct("=16s 38x B 15x 2s 56x")
_CONFIGURED = Struct("=16s 38x B B I 4x 2x B x 2s 2s 4x I I 44x")  # what an operator decides
_SERVICE_CONFIGURED = slice(SERVICE.offset["scheduler"], SERVICE.offset["max_weight"])


def service_id(key: AddressKey) -> bytes:
    """The key of `service_ids`."""
    port = key.port.to_bytes(2, "big")
    protocol = PROTOCOLS[key.protocol]
    return SERVICE_ID.pack(ServiceId(address_bytes(key.address), port, protocol, _family(key)))


def vip_id(key: AddressKey) -> bytes:
    """Of the entry that says which protocols its address has services of."""
    return SERVICE_ID.pack(ServiceId(address_bytes(key.address), bytes(2), 0, _family(key)))


def service_key(data: bytes) -> AddressKey | None:
    """None where it is an address's."""
    number = SERVICE_ID.unpack(data)
    if number.protocol not in _PROTOCOLS:
        return None
    address = address_of(number.addr, number.family)
    return AddressKey(_PROTOCOLS[number.protocol], address, int.from_bytes(number.port, "big"))


def service_record(service: VirtualService) -> Service:
    """Without servers, at the start of its turns."""
    key = service.key
    assert isinstance(key, AddressKey)  # limits.of_service() refuses the others
    flags, prefix, seconds = ServiceFlag.ALIVE, 0, 0
    if service.one_packet:
        flags |= ServiceFlag.ONE_PACKET
    if PORTS.get(service.scheduler) in service.flags:
        flags |= ServiceFlag.HASH_PORT
    if FALLBACKS.get(service.scheduler) in service.flags:
        flags |= ServiceFlag.FALLBACK
    if service.persistence is not None:
        flags |= ServiceFlag.PERSISTENT
        prefix, seconds = service.persistence.prefix, service.persistence.timeout
    return Service(
        *(0, 0, 0, 0),
        scheduler=SCHEDULES[service.scheduler],
        flags=flags,
        family=_family(key),
        protocol=PROTOCOLS[key.protocol],
        addr=address_bytes(key.address),
        netmask=(((1 << prefix) - 1) << 128 - prefix).to_bytes(16, "big"),
        persistence=min(round(seconds * TICKS_PER_SECOND), MAX_TICKS),
        port=key.port.to_bytes(2, "big"),
        prefix=prefix,
        max_weight=0,
        step=1,
        cursor=0,
        persistence_seconds=seconds,
    )


def service_of(record: Service) -> VirtualService:
    scheduler, flags = _SCHEDULERS[record.scheduler], set()
    if record.flags & ServiceFlag.HASH_PORT:
        flags.add(PORTS[scheduler])
    if record.flags & ServiceFlag.FALLBACK:
        flags.add(FALLBACKS[scheduler])
    persistence = None
    if record.flags & ServiceFlag.PERSISTENT:
        persistence = Persistence(record.persistence_seconds, record.prefix)
    address = address_of(record.addr, record.family)
    return VirtualService(
        AddressKey(_PROTOCOLS[record.protocol], address, int.from_bytes(record.port, "big")),
        scheduler,
        frozenset(flags),
        persistence,
        one_packet=bool(record.flags & ServiceFlag.ONE_PACKET),
    )


def server_record(
    server: RealServer, identity: Identity, key: AddressKey, service: int, generation: int
) -> Server:
    """Alive, its next hop not known."""
    address, family, port = identity
    tunnel = server.tunnel
    translated = server.forwarding in _TRANSLATED and key.port
    return Server(  # in order and by place: a hundred thousand are made at a time
        address,
        *_NO_HOP,
        service,
        generation,
        _ALIVE,
        family,
        FORWARDS[server.forwarding],
        server.weight,
        port if translated else _NO_PORT,
        0,  # mtu
        _NO_PORT,  # vlan
        TUNNELS[tunnel.type] if tunnel else 0,
        tunnel.port.to_bytes(2, "big") if tunnel else _NO_PORT,
        port,
        0,  # outer_sum
        server.upper_threshold,
        server.lower_threshold,
        server.weight,
    )


def server_of(servers: memoryview, number: int) -> RealServer:
    """Element ``number`` of the map `servers`."""
    addr, family, forwarding, weight, tunnel, tunnel_port, port, upper, lower = configured(
        servers, number
    )
    method = _FORWARDINGS[forwarding]
    outer = None
    if method is Forwarding.TUNNEL:
        outer = _tunnel(tunnel, tunnel_port)
    port_number = int.from_bytes(port, "big")
    return RealServer(address_of(addr, family), port_number, weight, method, outer, upper, lower)


def configured(
    servers: memoryview, number: int
) -> tuple[bytes, int, int, int, int, bytes, bytes, int, int]:
    """What of a server's entry is the operator's."""
    found: tuple[bytes, int, int, int, int, bytes, bytes, int, int]
    found = _CONFIGURED.unpack_from(servers, number * SERVER.size)
    return found


def identity(servers: memoryview, number: int) -> Identity:
    found: Identity = _IDENTITY.unpack_from(servers, number * SERVER.size)
    return found


def identity_of(key: ServerKey) -> Identity:
    return address_bytes(key.address), key.address.version, key.port.to_bytes(2, "big")


def server_key(servers: memoryview, number: int) -> ServerKey:
    addr, family, port = identity(servers, number)
    return ServerKey(address_of(addr, family), int.from_bytes(port, "big"))


def configured_service(services: memoryview, number: int) -> bytes:
    start = number * SERVICE.size
    config = services[start + _SERVICE_CONFIGURED.start : start + _SERVICE_CONFIGURED.stop]
    seconds = start + SERVICE.offset["persistence_seconds"]
    return bytes(config) + bytes(services[seconds : seconds + 4])


@lru_cache(maxsize=1024)
def _tunnel(number: int, port: bytes) -> Tunnel:
    return Tunnel(_TUNNELS[number], int.from_bytes(port, "big"))


def _family(key: AddressKey) -> AddressFamily:
    return AddressFamily.IPV4 if key.address.version == 4 else AddressFamily.IPV6
