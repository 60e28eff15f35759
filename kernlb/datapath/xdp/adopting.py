"""Taking over maps as they are found: empty, in force, or half written by one who was killed.

What packets find is what is in force: services that have a key, and the members of those. All
else is left over, and is cleared: servers in no run, services without a key, marks and protocols
of addresses that have no service. Where a hash table does not go with its members (a kill between
the two) it is dealt anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from kernlb.datapath.xdp import reading, records
from kernlb.datapath.xdp.draft import Draft
from kernlb.datapath.xdp.filter import Filter
from kernlb.datapath.xdp.hop_table import HopTable
from kernlb.datapath.xdp.inventory import TRANSLATED, Inventory, vip_marks
from kernlb.datapath.xdp.layout import (
    SERVER,
    SERVICE,
    SERVICE_ID,
    Mark,
    Run,
    ServerFlag,
    address_of,
)
from kernlb.datapath.xdp.maps import Maps
from kernlb.datapath.xdp.publishing import publish
from kernlb.datapath.xdp.slots import Runs, ServerIds, ServiceIds
from kernlb.model import AddressKey, IPAddress

_FLAGS, _GENERATION = SERVER.offset["flags"], SERVER.offset["generation"]


def adopt(maps: Maps, clock: Callable[[], float] = time.monotonic) -> Inventory:
    """Everything in force stays as it is."""
    services = reading.numbers(maps)
    _drop_dead_keys(maps, services)
    _drop_services_without_key(maps, set(services.values()))
    members = {key: _members(maps, number) for key, number in services.items()}
    used = {server for each in members.values() for server in each}
    left = _drop_servers_without_service(maps, used)
    runs = [run for number in services.values() for run in _runs(maps, number)]
    inventory = Inventory(
        maps,
        clock,
        Runs(maps.sizes.slots, runs),
        ServiceIds(maps.sizes.services, services.values()),
        ServerIds(maps.sizes.servers, used, left),
        Filter(maps.filter),
        HopTable(maps),
    )
    inventory.marks.adopt(_marks(maps, members))
    for key, servers in members.items():
        inventory.vips[key.address, key.protocol] += 1
        for number in servers:
            inventory.hops.enter(number, key, records.server_key(maps.servers, number))
    _mend_vips(inventory, services)
    for key, number in services.items():
        if _misdealt(maps, number, members[key]):
            draft = Draft(inventory, key, number)
            draft.reweighed = True
            publish(draft, in_place=True)
    return inventory


def _members(maps: Maps, number: int) -> list[int]:
    """A run that lists what is not this service's own is put right."""
    service = maps.service(number)
    found = [
        server for server in reading.members(maps, service) if maps.server(server).service == number
    ]
    if len(found) != service.members_count:
        run = Run(service.members_first, len(found))
        maps.write_ids(run, found)
        maps.publish(number, "members", run)
    return found


def _runs(maps: Maps, number: int) -> tuple[Run, Run]:
    service = maps.service(number)
    return service.members, service.table


def _drop_dead_keys(maps: Maps, services: dict[AddressKey, int]) -> None:
    for data in list(maps.service_ids.keys()):
        key = records.service_key(data)
        if key is not None and key not in services:
            maps.service_ids.delete(data)


def _drop_services_without_key(maps: Maps, used: set[int]) -> None:
    alive = bytes(maps.services[SERVICE.offset["flags"] :: SERVICE.size])
    for number in range(maps.sizes.services):
        if alive[number] and number not in used:
            start = number * SERVICE.size
            maps.services[start : start + SERVICE.size] = bytes(SERVICE.size)


def _drop_servers_without_service(maps: Maps, used: set[int]) -> list[int]:
    """Entries that have been servers, and are not: connections may still name them."""
    flags = bytes(maps.servers[_FLAGS :: SERVER.size])
    generations = bytes(maps.servers[_GENERATION :: SERVER.size])
    left = []
    for number in range(maps.sizes.servers):
        if number in used or not (flags[number] or generations[number]):
            continue
        maps.servers[number * SERVER.size + _FLAGS] = flags[number] & ~ServerFlag.ALIVE
        left.append(number)
    return left


def _marks(maps: Maps, members: dict[AddressKey, list[int]]) -> Iterator[tuple[IPAddress, Mark]]:
    for key, servers in members.items():
        yield key.address, vip_marks(key)
        for number in servers:
            record = maps.server(number)
            if record.forwarding in TRANSLATED:
                yield address_of(record.addr, record.family), Mark.SERVER


def _mend_vips(inventory: Inventory, services: dict[AddressKey, int]) -> None:
    wanted = {records.vip_id(key): key for key in services}
    for data in list(inventory.maps.service_ids.keys()):
        if SERVICE_ID.unpack(data).protocol == 0 and data not in wanted:
            inventory.maps.service_ids.delete(data)
    for key in wanted.values():
        inventory.write_vip(key)


def _misdealt(maps: Maps, number: int, members: list[int]) -> bool:
    """Its table names others than its members, or leaves out one that may take connections."""
    service = maps.service(number)
    slots = set(maps.ids(service.table))
    if not slots:
        return False
    weighted = {each for each in members if maps.server(each).weight}
    return not weighted <= slots <= set(members)
