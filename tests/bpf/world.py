"""The program alone in the kernel, with small tables that the tests fill and read themselves.

Nothing of the control plane is used but the door to libbpf and the layout of the values: what a
test puts into the maps is what the program sees. No pins; gone with the last descriptor.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kernlb.datapath.xdp import layout
from kernlb.datapath.xdp.libbpf import Object, possible_cpus
from kernlb.datapath.xdp.libbpf.object import XDP_HAS_FRAGS
from kernlb.datapath.xdp.loading import object_path
from tests.bpf import records
from tests.bpf.network import Network
from tests.bpf.services import Service, Services

ABORTED, DROP, PASS, TX, REDIRECT = range(5)
SEED = 0x0123456789ABCDEF
TIMEOUTS = {  # seconds: ip_vs_proto_tcp.c, _udp.c, _sctp.c
    "none": 2,
    "established": 900,
    "syn_sent": 120,
    "syn_recv": 60,
    "fin_wait": 120,
    "time_wait": 120,
    "close": 10,
    "close_wait": 60,
    "last_ack": 30,
    "listen": 120,
    "synack": 120,
    "udp": 300,
    "sctp_init": 30,
    "sctp_established": 900,
    "sctp_closing": 60,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one packet."""

    verdict: int
    frame: bytes
    reasons: Mapping[str, int]  # those that were counted


@dataclass(frozen=True, slots=True)
class Connection:
    """One entry of a connection table that is in use. ``age`` is in ticks."""

    family: int
    index: int
    source: str
    sport: int
    destination: str
    dport: int
    protocol: int
    server: int
    generation: int
    state: str
    flags: frozenset[str]
    seen: int
    peer: int
    source_port: int

    @property
    def reverse(self) -> bool:
        return "reverse" in self.flags


class Sizes(NamedTuple):
    services: int = 16  # and as many VIPs
    servers: int = 256
    slots: int = 65536
    conns4: int = 64  # buckets
    conns6: int = 64
    cpus: int = 0  # that share fullnat's ports; 0: as many as there are

    def of_maps(self) -> dict[str, int]:
        return {
            "service_ids": 2 * self.services,
            **dict.fromkeys(("services", "service_counters"), self.services),
            **dict.fromkeys(("servers", "loads", "recounts", "server_counters"), self.servers),
            **{name: getattr(self, name) for name in ("slots", "conns4", "conns6")},
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
            name: self.maps[name].mmap() for name in ("services", "servers", "slots", "loads")
        }
        self.filter = self.maps[".data.filter"].mmap()
        self.settings = self.maps[".data.settings"].mmap()
        self.services = Services(self)

    def reset(self) -> None:
        """No services, no connections, IPVS's timeouts, nothing counted."""
        for view in (*self.memory.values(), self.filter):
            view[:] = bytes(len(view))
        timeouts = (records.ticks(TIMEOUTS.get(state, 0)) for state in records.STATES)
        self.settings[: layout.SETTINGS.size] = layout.SETTINGS.pack(
            layout.Settings(layout.TIMEOUTS.pack(*timeouts), icmp_per_second=0)
        )
        for name in ("service_ids", "fragments"):
            for key in list(self.maps[name].keys()):
                self.maps[name].delete(key)
        for family in (4, 6):
            self.write_conns(family, bytes(len(self.read_conns(family))))
        for name in ("server_counters", "service_counters", "reasons", "budgets"):
            for index in range(self.maps[name].max_entries):
                self.maps[name].update(_u32(index), bytes(self.maps[name].stride))
        self.services = Services(self)

    def service(self, protocol: str = "tcp", family: int = 4, **how) -> Service:
        """A new service; see Services.add."""
        return self.services.add(protocol, family, **how)

    def limit_answers(self, per_second: int) -> None:
        at = layout.SETTINGS.offset["icmp_per_second"]
        self.settings[at : at + 4] = _u32(per_second)

    def send(self, frame: bytes, program: str = "kernlb", ingress: str = "front") -> Sent:
        before = self.reasons()
        index = getattr(self.network.interfaces, ingress)
        with self.network.entered():
            result = self.programs[program].test_run(frame, ingress_ifindex=index)
        return Sent(result.retval, result.packet, dict(self.reasons() - before))

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

    def overload(self, server: int) -> None:
        """As if it had met its upper threshold."""
        self.memory["loads"][server * layout.LOAD.size + layout.LOAD.offset["overloaded"]] = 1

    def read_conns(self, family: int) -> bytes:
        return self.maps[f"conns{family}"].read_array()

    def write_conns(self, family: int, content: bytes) -> None:
        table = self.maps[f"conns{family}"]
        if content != self.read_conns(family):
            for index in range(table.max_entries):
                bucket = content[index * table.stride :][: table.stride]
                table.update(_u32(index), bucket)

    def connections(self, family: int = 4, reverse: bool = False) -> list[Connection]:
        """Entries in use; those of servers' answers only when asked for."""
        content, size = self.read_conns(family), layout.CONN_SIZES[family]
        found = [
            _connection(content[at : at + size], at // size, family)
            for at in range(0, len(content), size)
            if content[at + 7]
        ]
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

    def put_in_state(self, state: str, family: int = 4) -> None:
        """The only connection; its server's load follows when a packet moves it on."""
        content = bytearray(self.read_conns(family))
        at = self.connection(family).index * layout.CONN_SIZES[family]
        content[at + layout.CONN.offset["word_state"]] = records.STATES.index(state)
        self.write_conns(family, bytes(content))

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
        """The content of every map that packets change, but `explanations` and `reasons`."""
        content: dict[str, object] = {name: bytes(view) for name, view in self.memory.items()}
        for name in ("conns4", "conns6", "server_counters", "service_counters"):
            content[name] = self.maps[name].read_array()
        content["fragments"] = sorted(self.maps["fragments"].items())
        content["filter"] = bytes(self.filter)
        return content

    def close(self) -> None:
        for each in (*self.maps.values(), *self.programs.values()):
            each.close()


def _connection(entry: bytes, index: int, family: int) -> Connection:
    conn = layout.CONN.unpack(entry)
    size = 4 if family == 4 else 16
    source, destination = (
        layout.address_of(entry[at : at + size], family)
        for at in (layout.CONN.size, layout.CONN.size + size)
    )
    server, generation = layout.server_of_ref(conn.word_server)
    flags = (name for bit, name in enumerate(records.CONN_FLAGS) if conn.word_flags >> bit & 1)
    return Connection(
        family=family,
        index=index,
        source=str(source),
        sport=int.from_bytes(conn.sport, "big"),
        destination=str(destination),
        dport=int.from_bytes(conn.dport, "big"),
        protocol=conn.protocol,
        server=server,
        generation=generation,
        state=records.STATES[conn.word_state],
        flags=frozenset(flags),
        seen=conn.seen,
        peer=conn.peer,
        source_port=int.from_bytes(conn.source_port, "big"),
    )


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
