"""What of the maps is in use, and by whom.

Everything here can be found again from the maps themselves (:mod:`.adopting`): nothing is lost
with the process that knew it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kernlb.datapath.xdp import records
from kernlb.datapath.xdp.filter import Filter
from kernlb.datapath.xdp.hop_table import HopTable
from kernlb.datapath.xdp.layout import (
    LOAD,
    SERVER,
    U32,
    Forward,
    Mark,
    Server,
    ServerFlag,
    VipProtocol,
)
from kernlb.datapath.xdp.maps import Maps
from kernlb.datapath.xdp.slots import Runs, ServerIds, ServiceIds
from kernlb.model import AddressKey, IPAddress, ServerKey, ServiceKey

_GENERATION, _FLAGS = SERVER.offset["generation"], SERVER.offset["flags"]
TRANSLATED = (int(Forward.NAT), int(Forward.FULLNAT))  # answers come back through here
GENERATIONS = 255  # 1 and up: 0 is that of an entry which was never a server


@dataclass(slots=True)
class Inventory:
    maps: Maps
    clock: Callable[[], float]
    runs: Runs
    service_ids: ServiceIds
    server_ids: ServerIds
    marks: Filter
    hops: HopTable
    vips: Counter[tuple[IPAddress, str]] = field(default_factory=Counter)  # services by protocol

    # Servers.

    def take_server(self) -> tuple[int, int] | None:
        """An id with its generation, clean of what it was before; None where there is none."""
        number = self.server_ids.take()
        if number is None:
            return None
        before = self.maps.servers[number * SERVER.size + _GENERATION]
        if before:
            for counters in (self.maps.server_counters, self.maps.signals):
                counters.update(U32.pack(number), bytes(counters.stride))
            for loads in (self.maps.loads, self.maps.recounts):
                loads[number * LOAD.size : (number + 1) * LOAD.size] = bytes(LOAD.size)
        return number, before % GENERATIONS + 1

    def write_server(self, number: int, record: Server, key: ServiceKey, server: ServerKey) -> None:
        """All that packets to it and from it need; nothing leads to it yet."""
        if record.forwarding in TRANSLATED:
            self.marks.add(server.address, Mark.SERVER)
        SERVER.pack_into(self.maps.servers, number, record)
        self.hops.enter(number, key, server)

    def retire_servers(self, numbers: list[int]) -> None:
        """Nothing leads to them any more but connections, which end here."""
        for number in numbers:
            at = number * SERVER.size
            record = self.maps.server(number)
            self.maps.servers[at + _FLAGS] = record.flags & ~ServerFlag.ALIVE
            if record.forwarding in TRANSLATED:
                address = records.server_key(self.maps.servers, number).address
                self.marks.remove(address, Mark.SERVER)
            self.hops.leave(number)
        self.server_ids.rest(numbers)

    # Addresses of services.

    def add_vip(self, key: AddressKey) -> None:
        """Packets for it are looked at from now on. Raises OSError where there is no room."""
        self.vips[key.address, key.protocol] += 1
        try:
            self.write_vip(key)
        except OSError:
            self.vips[key.address, key.protocol] -= 1
            raise
        self.marks.add(key.address, vip_marks(key))

    def remove_vip(self, key: AddressKey) -> None:
        self.marks.remove(key.address, vip_marks(key))
        self.vips[key.address, key.protocol] -= 1
        if not self.vips[key.address, key.protocol]:
            del self.vips[key.address, key.protocol]
        self.write_vip(key)

    def write_vip(self, key: AddressKey) -> None:
        """Which protocols its address has services of; no entry where it has none."""
        protocols = VipProtocol(0)
        for protocol in records.PROTOCOLS:
            if self.vips[key.address, protocol]:
                protocols |= VipProtocol[protocol.name]
        if protocols:
            self.maps.service_ids.update(records.vip_id(key), U32.pack(protocols))
        else:
            self.maps.service_ids.delete(records.vip_id(key))


def vip_marks(key: AddressKey) -> Mark:
    return Mark.VIP if key.port else Mark.VIP | Mark.ANY_PORT
