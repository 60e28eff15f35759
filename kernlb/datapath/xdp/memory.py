"""How large the tables are, and what that costs, known before they are made.

The formulas are those by which the kernel itself accounts for a map (``map_mem_usage`` of
kernel/bpf/arraymap.c, hashtab.c and devmap.c, Linux 6.4), good to a page and a percent.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, fields
from pathlib import Path

from kernlb.datapath.xdp.layout import CONN_WAYS, MOST_SERVERS
from kernlb.datapath.xdp.libbpf import MapShape, Object, maps, possible_cpus

_MOST = 1 << 30

_ARRAY_HEADER = 320
_HASH_HEADER = 896
_HASH_ELEMENT = 48
_HASH_BUCKET = 16

PER_SERVER = ("servers", "loads", "recounts", "server_counters", "signals")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Entries. Connection tables come in buckets of CONN_WAYS, a power of two of them."""

    services: int = 1024
    servers: int = 16_384
    slots: int = 1 << 20  # ids of servers: members of services, tables of hash schedulers
    conns4: int = 1 << 20
    conns6: int = 1 << 18

    def __post_init__(self) -> None:
        for each in fields(self):
            value, most = getattr(self, each.name), _MOST
            if each.name == "servers":
                most = MOST_SERVERS
            if not 1 <= value <= most:
                raise ValueError(f"cannot size {each.name}: {value} is not in 1 to {most}")

    @property
    def buckets4(self) -> int:
        return _power_of_two(-(-self.conns4 // CONN_WAYS))

    @property
    def buckets6(self) -> int:
        return _power_of_two(-(-self.conns6 // CONN_WAYS))

    def of_maps(self) -> dict[str, int]:
        """``max_entries`` of each map whose size is to be chosen."""
        return {
            "service_ids": 2 * self.services,  # an entry for each of their addresses as well
            **dict.fromkeys(("services", "service_counters"), self.services),
            **dict.fromkeys(PER_SERVER, self.servers),
            "slots": self.slots,
            "conns4": self.buckets4,
            "conns6": self.buckets6,
        }


def size_maps(loadable: Object, sizes: Sizes) -> None:
    for name, entries in sizes.of_maps().items():
        loadable.resize(name, entries)


def memory(sizes: Sizes, path: Path) -> dict[str, int]:
    """Bytes of kernel memory by map, were the object loaded with these sizes. Makes nothing."""
    with Object.open(path) as loadable:
        size_maps(loadable, sizes)
        return {name: footprint(loadable.shape(name)) for name in loadable.map_names}


def footprint(shape: MapShape) -> int:
    """Bytes of kernel memory that a map of this shape takes."""
    entries, key, value = shape.max_entries, _round(shape.key_size, 8), _round(shape.value_size, 8)
    match shape.type:
        case maps.HASH | maps.LRU_HASH:
            spare = possible_cpus() if shape.type == maps.HASH else 0
            elements = (entries + spare) * (_HASH_ELEMENT + key + value)
            return _HASH_HEADER + _power_of_two(entries) * _HASH_BUCKET + elements
        case maps.PERCPU_ARRAY:
            return _ARRAY_HEADER + entries * (8 + value * possible_cpus())
        case maps.DEVMAP_HASH:
            return _ARRAY_HEADER + _power_of_two(entries) * 8
        case maps.ARRAY if shape.flags & maps.MMAPABLE:
            return mmap.PAGESIZE + _round(entries * value, mmap.PAGESIZE)
        case maps.ARRAY:
            return _ARRAY_HEADER + entries * value
    raise ValueError(f"cannot tell the memory of a map of type {shape.type}")


def _round(value: int, step: int) -> int:
    return -(-value // step) * step


def _power_of_two(value: int) -> int:
    """The next one, the value itself included."""
    return 1 << (value - 1).bit_length()
