"""The program alone in the kernel, with small tables that the tests fill and read themselves.

Nothing of the control plane is used but the door to libbpf and the layout of the values: what a
test puts into the maps is what the program sees. No pins; gone with the last descriptor.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kernlb.datapath.xdp import layout
from kernlb.datapath.xdp.libbpf import Map, Object, maps, possible_cpus
from kernlb.datapath.xdp.libbpf.object import XDP_HAS_FRAGS
from kernlb.datapath.xdp.loading import object_path
from kernlb.datapath.xdp.memory import PER_SERVER
from tests.bpf import connections, records
from tests.bpf.connections import TIMEOUTS, Connection
from tests.bpf.network import Network
from tests.bpf.services import TABLE, Service, Services

ABORTED, DROP, PASS, TX, REDIRECT = range(5)
SEED = 0x0123456789ABCDEF


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one packet."""

    verdict: int
    frame: bytes
    reasons: Mapping[str, int]  # those that were counted


class Sizes(NamedTuple):
    services: int = 16  # and as many VIPs
    servers: int = 256
    members: int = 256  # a service
    conns4: int = 256  # buckets
    conns6: int = 256
    cpus: int = 0  # that share fullnat's ports; 0: as many as there are

    def of_maps(self) -> dict[str, int]:
        return {
            "service_ids": 2 * self.services,
            **dict.fromkeys(("services", "service_counters"), self.services),
            **dict.fromkeys(PER_SERVER, self.servers),
            "slots": self.services * (self.members + TABLE),
            **{name: getattr(self, name) for name in ("conns4", "conns6")},
        }


class World:
    """Made once, reset for each test."""

    def __init__(self, network: Network, sizes: Sizes | None = None) -> None:
        self.network, self.sizes = network, (sizes := sizes or Sizes())
        with Object.open(object_path()) as loadable, network.entered():
            for name, entries in sizes.of_maps().items():
                loadable.resize(name, entries)
            constants = {
                "hash_seed": SEED,
                "conns4_mask": sizes.conns4 - 1,
                "conns6_mask": sizes.conns6 - 1,
                "cpus": sizes.cpus or possible_cpus(),
            }
            loadable.set_rodata(constants)
            for name in ("kernlb", "explain"):
                loadable.set_flags(name, XDP_HAS_FRAGS)
            loadable.load()
            self.maps = {
                name: loadable.map(name) for name in loadable.map_names if "ro" not in name
            }
            self.programs = {name: loadable.program(name) for name in loadable.program_names}
            for index in network.interfaces:
                self.maps["devices"].update(_u32(index), _u32(index))
        self.memory = {
            name: self.maps[name].mmap()
            for name in ("services", "servers", "slots", "loads", "recounts")
        }
        self.filter = self.maps[".data.filter"].mmap()
        self.settings = self.maps[".data.settings"].mmap()
        self.cpus = constants["cpus"]
        self.services = Services(self)

    def reset(self) -> None:
        """No services, no connections, IPVS's timeouts, nothing counted."""
        for view in (*self.memory.values(), self.filter):
            view[:] = bytes(len(view))
        timeouts = (records.ticks(TIMEOUTS.get(state, 0)) for state in records.STATES)
        self.settings[: layout.SETTINGS.size] = layout.SETTINGS.pack(
            layout.Settings(layout.TIMEOUTS.pack(*timeouts), icmp_per_second=0)
        )
        for each in self._read_by_call():
            if each.type in (maps.HASH, maps.LRU_HASH):
                for key in list(each.keys()):
                    each.delete(key)
            elif each.per_cpu:
                self._zero(each)
        for family in (4, 6):
            self.write_conns(family, bytes(len(self.read_conns(family))))
        self.services = Services(self)

    def _read_by_call(self) -> list[Map]:
        """Maps whose content is not in our memory; not `devices`, which is configuration."""
        mapped = {*self.memory, "devices"}
        return [
            each for name, each in self.maps.items() if name not in mapped and "data" not in name
        ]

    def _zero(self, array: Map) -> None:
        content, nothing = array.read_array(), bytes(array.stride)
        for index in range(array.max_entries):
            if content[index * array.stride :][: array.stride] != nothing:
                array.update(_u32(index), nothing)

    def service(self, protocol: str = "tcp", family: int = 4, **how) -> Service:
        """A new service; see Services.add."""
        return self.services.add(protocol, family, **how)

    def limit_answers(self, per_second: int) -> None:
        at = layout.SETTINGS.offset["icmp_per_second"]
        self.settings[at : at + 4] = _u32(per_second)

    def set_timeout(self, state: str, seconds: float) -> None:
        at = layout.SETTINGS.offset["timeouts"] + 4 * records.STATES.index(state)
        self.settings[at : at + 4] = _u32(records.ticks(seconds))

    def send(
        self, frame: bytes, program: str = "kernlb", ingress: str = "front", metadata: int = 0
    ) -> Sent:
        """``metadata`` bytes lie in front of the frame and take that much of its headroom."""
        before = self.reasons()
        data = bytes(metadata) + frame
        index = getattr(self.network.interfaces, ingress)
        context = struct.pack("=6I", metadata, len(data), 0, index, 0, 0)
        with self.network.entered():
            result = self.programs[program].test_run(data, ctx=context)
        return Sent(result.retval, result.packet[metadata:], dict(self.reasons() - before))

    def reasons(self) -> Counter[str]:
        counted = self.maps["reasons"]
        values = counted.read_array()
        return Counter(
            {
                name: sum(struct.unpack_from(f"={possible_cpus()}Q", values, at * counted.stride))
                for at, name in enumerate(records.REASONS)
            }
        )

    def explanation(self) -> layout.Explanation:
        return layout.EXPLANATION.unpack(self.maps["explanations"].lookup(_u32(0)) or b"")

    def counters(self, name: str, index: int) -> layout.Counters:
        """Of a server or service, all CPUs together."""
        each = map(layout.COUNTERS.unpack, self.maps[name].values_per_cpu(_u32(index)) or ())
        return layout.Counters(*map(sum, zip(*each, strict=True)))

    def load(self, server: int) -> layout.Load:
        """Connections of a server."""
        return layout.LOAD.unpack(self.memory["loads"], server)

    def recount(self, server: int) -> layout.Load:
        """What the sweep has counted."""
        return layout.LOAD.unpack(self.maps["recounts"].lookup(_u32(server)) or b"")

    def overload(self, server: int) -> None:
        """As if it had met its upper threshold."""
        self.memory["loads"][server * layout.LOAD.size + layout.LOAD.offset["overloaded"]] = 1

    def read_conns(self, family: int) -> bytes:
        return self.maps[f"conns{family}"].read_array()

    def write_conns(self, family: int, content: bytes) -> None:
        table = self.maps[f"conns{family}"]
        size, before = table.stride, self.read_conns(family)
        for at in range(0, len(content), size) if content != before else ():
            if content[at : at + size] != before[at : at + size]:
                table.update(_u32(at // size), content[at : at + size])

    def connections(self, family: int = 4, reverse: bool = False) -> list[Connection]:
        """Entries in use; those of servers' answers only when asked for."""
        found = connections.parse(self.read_conns(family), family)
        return [each for each in found if each.reverse == reverse]

    def connection(self, family: int = 4) -> Connection:
        """The only one there is."""
        (only,) = self.connections(family)
        return only

    def age(self, seconds: float, family: int = 4) -> None:
        """Let every entry be that much older."""
        content, size = bytearray(self.read_conns(family)), layout.CONN_SIZES[family]
        for at in range(0, len(content), size):
            if content[at + 7]:
                (seen,) = struct.unpack_from("=I", content, at + 8)
                older = (seen - records.ticks(seconds)) % 2**32
                struct.pack_into("=I", content, at + 8, older)
        self.write_conns(family, bytes(content))

    def forget(self, connection: Connection) -> None:
        """Empty its place, as if it had never been."""
        self._write_entry(connection, lambda entry: bytes(len(entry)))
        load = self.load(connection.server)
        active = "active" in connection.flags
        load = load._replace(active=load.active - active, inactive=load.inactive - (not active))
        layout.LOAD.pack_into(self.memory["loads"], connection.server, load)

    def expire(self, connection: Connection) -> None:
        """Let one entry be older than any timeout."""
        old = _u32((connection.seen - records.ticks(3600)) % 2**32)
        at = layout.CONN.offset["seen"]
        self._write_entry(connection, lambda entry: entry[:at] + old + entry[at + 4 :])

    def _write_entry(self, connection: Connection, change: Callable[[bytes], bytes]) -> None:
        content = bytearray(self.read_conns(connection.family))
        size = layout.CONN_SIZES[connection.family]
        at = connection.index * size
        content[at : at + size] = change(bytes(content[at : at + size]))
        self.write_conns(connection.family, bytes(content))

    def put_in_state(self, state: str, family: int = 4) -> None:
        """The only connection; its server's load follows when a packet moves it on."""
        value, at = bytes([records.STATES.index(state)]), layout.CONN.offset["word_state"]
        change = lambda entry: entry[:at] + value + entry[at + 1 :]  # noqa: E731
        self._write_entry(self.connection(family), change)

    def sweep(self, family: int = 4, recount: bool = False) -> layout.Sweep:
        """Free what has expired, in the whole table."""
        count = getattr(self.sizes, f"conns{family}")
        asked = layout.Sweep(family, 0, count, int(recount))
        result, answer = self.programs["sweep"].run_syscall(layout.SWEEP.pack(asked))
        assert result == 0
        return layout.SWEEP.unpack(answer)

    def age_fragments(self, seconds: float) -> None:
        """Let the first fragments that are remembered have come that much earlier."""
        remembered = self.maps["fragments"]
        for key, value in list(remembered.items()):
            fragment = layout.FRAGMENT.unpack(value)
            older = (fragment.seen - records.ticks(seconds)) % 2**32
            remembered.update(key, layout.FRAGMENT.pack(fragment._replace(seen=older)))

    def everything(self) -> dict[str, object]:
        """The content of every map but `explanations`."""
        content: dict[str, object] = {name: bytes(view) for name, view in self.memory.items()}
        content["filter"], content["settings"] = bytes(self.filter), bytes(self.settings)
        for each in self._read_by_call():
            if each.name != "explanations":
                array = each.type in (maps.ARRAY, maps.PERCPU_ARRAY)
                content[each.name] = each.read_array() if array else sorted(each.items())
        return content

    def close(self) -> None:
        for each in (*self.maps.values(), *self.programs.values()):
            each.close()


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
