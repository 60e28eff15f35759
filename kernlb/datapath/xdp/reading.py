"""Services and servers out of the maps: what they say, not what was written."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from kernlb.datapath.xdp import records
from kernlb.datapath.xdp.layout import (
    SERVER,
    SIGNALS,
    U32,
    Reason,
    ServerFlag,
    Service,
    ServiceFlag,
    Signals,
)
from kernlb.datapath.xdp.maps import Maps
from kernlb.model import AddressKey, ServerKey, ServiceKey, ServiceState, VirtualService

_FLAGS = SERVER.offset["flags"]


def number_of(maps: Maps, key: ServiceKey) -> int | None:
    """Of the service in the map `services`; None where it is absent."""
    if not isinstance(key, AddressKey):
        return None
    found = maps.service_ids.lookup(records.service_id(key))
    if found is None:
        return None
    number: int = U32.unpack(found)[0]
    if number >= maps.sizes.services or not maps.service(number).flags & ServiceFlag.ALIVE:
        return None
    return number


def numbers(maps: Maps) -> dict[AddressKey, int]:
    """Every service that packets find."""
    found = {}
    for data, value in maps.service_ids.items():
        number = U32.unpack(value)[0]
        key = records.service_key(data)
        if key is None or number >= maps.sizes.services:
            continue
        if maps.service(number).flags & ServiceFlag.ALIVE:
            found[key] = number
    return found


def members(maps: Maps, service: Service) -> list[int]:
    """Ids of the servers that it has, oldest first."""
    end, flags = maps.sizes.servers, maps.servers
    return [
        number
        for number in maps.ids(service.members)
        if number < end and flags[number * SERVER.size + _FLAGS] & ServerFlag.ALIVE
    ]


def services(maps: Maps) -> list[VirtualService]:
    return [records.service_of(maps.service(number)) for number in numbers(maps).values()]


def state(maps: Maps, key: ServiceKey) -> ServiceState | None:
    number = number_of(maps, key)
    if number is None:
        return None
    service = maps.service(number)
    servers = tuple(records.server_of(maps.servers, each) for each in members(maps, service))
    return ServiceState(records.service_of(service), servers)


def fingerprint(maps: Maps, key: ServiceKey) -> bytes | None:
    """The order of the servers does not count, as nobody can ask for one."""
    number = number_of(maps, key)
    if number is None:
        return None
    digest = blake2b(records.configured_service(maps.services, number), digest_size=16)
    found = members(maps, maps.service(number))
    digest.update(repr(sorted(records.configured(maps.servers, n) for n in found)).encode())
    return digest.digest()


def reasons(maps: Maps) -> dict[Reason, int]:
    """Packets of all CPUs."""
    content = memoryview(maps.reasons.read_array()).cast("Q").tolist()
    cpus = maps.reasons.stride // 8
    return {each: sum(content[each * cpus : (each + 1) * cpus]) for each in Reason}


def signals(maps: Maps, keys: Iterable[ServiceKey]) -> dict[ServiceKey, dict[ServerKey, Signals]]:
    """By server; all CPUs together."""
    found = {}
    for key in keys:
        number = number_of(maps, key)
        if number is not None:
            numbers = members(maps, maps.service(number))
            found[key] = {records.server_key(maps.servers, n): _signals(maps, n) for n in numbers}
    return found


def _signals(maps: Maps, server: int) -> Signals:
    content = maps.signals.lookup(U32.pack(server)) or b""
    each = (SIGNALS.unpack(memoryview(content), n) for n in range(len(content) // SIGNALS.size))
    return Signals(*map(sum, zip(*each, strict=True)))
