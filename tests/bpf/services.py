"""Services and servers of the tests, written into the maps as the program reads them.

Members are ids, oldest first. What changes when a server comes, goes or is weighted anew is what
the control plane promises the program (bpf/README.md): cursors as IPVS moves them, tables of the
hash schedulers from kernlb.schedule.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from kernlb.datapath.xdp import layout
from kernlb.datapath.xdp.layout import Mark
from kernlb.model import Family, ServerKey
from kernlb.schedule import maglev, source_hash
from tests.bpf import records
from tests.bpf.frames import BACK_MAC, CLIENT_MAC, OUR_MAC, OURS, PORT, SERVER_MAC, VIP

if TYPE_CHECKING:
    from tests.bpf.world import World

TABLES = {"sh": source_hash.table, "mh": maglev.table}
VIP_PROTOCOLS = {"tcp": 1, "udp": 2, "sctp": 4}  # enum vip_protocol
TABLE = 4096  # slots set aside for the table of a service
STRIDE = 8  # an array's elements of 4 bytes lie this far apart


@dataclass
class Server:
    """One server as it stands in the map; change it, then ``Service.write(server)``."""

    address: str
    forwarding: str = "dsr"
    tunnel: str = "ipip"
    port: int = 0
    weight: int = 1
    source: str = ""  # ours, of the server's family
    hop_known: bool = True
    interface: str = "front"
    ifindex: int = 0  # instead of that of `interface`
    vlan: int = 0
    mtu: int = 1500
    tunnel_port: int = 6080
    upper: int = 0
    lower: int = 0
    generation: int = 0
    alive: bool = True
    last_weight: int = 0
    id: int = -1

    @property
    def family(self) -> int:
        return ip_address(self.address).version

    @property
    def ours(self) -> str:
        return self.source or OURS[self.family]

    @property
    def macs(self) -> tuple[str, str]:
        """Destination and source on the way to it."""
        return (CLIENT_MAC, OUR_MAC) if self.interface == "front" else (SERVER_MAC, BACK_MAC)


@dataclass
class Service:
    world: World
    id: int
    protocol: str
    family: int
    address: str
    port: int
    scheduler: str
    flags: tuple[str, ...]
    persistence: int  # seconds
    prefix: int
    servers: list[Server] = field(default_factory=list)
    cursor: int = 0  # of rr and wrr, as the control plane last wrote it

    def add(self, address: str, **how) -> Server:
        server = Server(address, **how)
        self.world.services.place(server)
        self.servers.append(server)
        self.write(server)
        if self.scheduler == "wrr":
            self._restart_wrr()
        self._publish()
        return server

    def add_many(self, servers: Sequence[Server]) -> None:
        """As one after another, but published once."""
        for server in servers:
            self.world.services.place(server)
            self.servers.append(server)
            self.write(server)
        if self.scheduler == "wrr":
            self._restart_wrr()
        self._publish()

    def remove(self, server: Server) -> None:
        index = self.servers.index(server)
        cursor = self.read_cursor() & 0xFFFFFFFF
        del self.servers[index]
        server.alive = False
        self.write(server)
        if self.scheduler == "rr" and cursor >= index:
            self.cursor = cursor - (cursor > index)
            if self.cursor == len(self.servers):
                self.cursor = 0  # the head, also when another is added
            self._write_cursor()
        elif self.scheduler == "wrr":
            self._restart_wrr()
        self._publish()

    def weigh(self, server: Server, weight: int) -> None:
        server.last_weight = weight or server.weight or server.last_weight
        server.weight = weight
        self.write(server)
        if self.scheduler == "wrr":
            self._restart_wrr()
        self._publish()

    def write(self, server: Server) -> None:
        """The entry of a server, and of what its answers need."""
        value = records.server_value(server, self.id, self.world.network.interfaces)
        layout.SERVER.pack_into(self.world.memory["servers"], server.id, value)
        if server.forwarding in ("nat", "fullnat"):
            self.world.services.mark(server.address, Mark.SERVER)

    def read_cursor(self) -> int:
        return layout.SERVICE.unpack(self.world.memory["services"], self.id).cursor

    def owner(self, slot: int) -> Server:
        """Of a slot of its table."""
        at = (self._table_at + slot) * STRIDE
        identity = int.from_bytes(self.world.memory["slots"][at : at + STRIDE], sys.byteorder)
        return next(each for each in self.servers if each.id == identity)

    @property
    def _members_at(self) -> int:
        return self.id * self.world.sizes.members

    @property
    def _table_at(self) -> int:
        sizes = self.world.sizes
        return sizes.services * sizes.members + self.id * TABLE

    def _restart_wrr(self) -> None:
        """ip_vs_wrr.c, ip_vs_wrr_dest_changed(); an index equal to the count is the list's head."""
        step, most = self.steps
        weight = self.read_cursor() >> 32
        if weight > most or not weight:
            weight = most
        elif step > 1:
            weight = weight // step * step + 1
        self.cursor = weight << 32 | len(self.servers)
        self._write_cursor()

    @property
    def steps(self) -> tuple[int, int]:
        """wrr: greatest common divisor, and the largest weight less what IPVS takes off it."""
        weights = [server.weight for server in self.servers if server.weight > 0]
        step = math.gcd(*weights) or 1
        return step, max(weights, default=0) - (step - 1)

    def _write_cursor(self) -> None:
        offset, size = layout.SERVICE.places["cursor"]
        at = self.id * layout.SERVICE.size + offset
        self.world.memory["services"][at : at + size] = self.cursor.to_bytes(size, sys.byteorder)

    def _publish(self) -> None:
        members = [server.id for server in self.servers]
        self._write_slots(self._members_at, members)
        slots = self._dealt() if self.scheduler in TABLES else []
        self._write_slots(self._table_at, slots)
        runs = (self._members_at, len(members)), (self._table_at, len(slots))
        self.cursor = self.read_cursor()
        value = records.service_value(self, *runs)
        layout.SERVICE.pack_into(self.world.memory["services"], self.id, value)

    def _dealt(self) -> list[int]:
        newest_first = [
            (self._key(server), server.weight or server.last_weight * (self.scheduler == "mh"))
            for server in reversed(self.servers)
        ]
        family = Family.IPV4 if self.family == 4 else Family.IPV6
        ids = {self._key(server): server.id for server in self.servers}
        owners = TABLES[self.scheduler](newest_first, family) or []
        return [ids[key] for key in owners]

    def _key(self, server: Server) -> ServerKey:
        return ServerKey(ip_address(server.address), server.port or self.port)

    def _write_slots(self, first: int, ids: Sequence[int]) -> None:
        content = b"".join(each.to_bytes(STRIDE, sys.byteorder) for each in ids)
        at = first * STRIDE
        self.world.memory["slots"][at : at + len(content)] = content


class Services:
    """All that are in the maps now."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._next_service = 1  # 0 is what an unwritten entry would name
        self._next_server = 1
        self.made: list[Service] = []
        self._protocols: dict[str, int] = {}  # of each VIP

    def add(
        self,
        protocol: str,
        family: int,
        *,
        port: int = PORT,
        address: str = "",
        scheduler: str = "rr",
        flags: tuple[str, ...] = (),
        persistence: int = 0,
        prefix: int = 0,
    ) -> Service:
        """``port`` 0: every port."""
        address = address or VIP[family]
        service = Service(
            self._world,
            self._next_service,
            protocol,
            family,
            address,
            port,
            scheduler,
            ("alive", *flags, *(("persistent",) if persistence else ())),
            persistence,
            prefix or (32 if family == 4 else 128),
        )
        self._next_service += 1
        service._publish()
        self.made.append(service)
        self._name(records.service_id(service), service.id)
        self._protocols[address] = self._protocols.get(address, 0) | VIP_PROTOCOLS[protocol]
        self._name(records.vip_id(service), self._protocols[address])
        self.mark(address, Mark.VIP if port else Mark.VIP | Mark.ANY_PORT)
        return service

    def remove(self, service: Service) -> None:
        for server in list(service.servers):
            service.remove(server)
        self._world.maps["service_ids"].delete(records.service_id(service))
        service.flags = ()
        service._publish()

    def _name(self, key: bytes, value: int) -> None:
        self._world.maps["service_ids"].update(key, value.to_bytes(4, sys.byteorder))

    def place(self, server: Server) -> None:
        """Give it an id, unless a test chose one, and no connections."""
        if server.id < 0:
            server.id = self._next_server
            self._next_server += 1
        layout.LOAD.pack_into(self._world.memory["loads"], server.id, layout.Load(0, 0, 0, 0))
        server.last_weight = server.weight

    def mark(self, address: str, mark: Mark) -> None:
        self._world.filter[cell(address)] |= mark


def cell(address: str) -> int:
    """Of the filter."""
    word = 0
    content = ip_address(address).packed
    for at in range(0, len(content), 4):
        word ^= int.from_bytes(content[at : at + 4], "big")
    return (word * 0x9E3779B1 & 0xFFFFFFFF) >> 16
