"""The maps in plain memory, as a program would have them that nobody runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from kernlb.datapath.xdp.layout import (
    CONN_SIZES,
    CONN_WAYS,
    COUNTERS,
    FILTER_SIZE,
    LOAD,
    SERVER,
    SERVICE,
    SETTINGS,
    SIGNALS,
    SLOT_SIZE,
    U32,
    AddressFamily,
    Reason,
)
from kernlb.datapath.xdp.loading import Loaded
from kernlb.datapath.xdp.memory import Sizes

CPUS = 2
SMALL = Sizes(services=16, servers=64, slots=400_000, conns4=16, conns6=16)


class PlainMap:
    """What libbpf.Map is to the control plane: of elements in memory, or of keys."""

    def __init__(self, entries: int, size: int, *, array: bool = True) -> None:
        self.max_entries, self.stride = entries, size
        self.memory = bytearray(entries * size if array else 0)
        self._values: dict[bytes, bytes] | None = None if array else {}

    def mmap(self) -> memoryview:
        return memoryview(self.memory)

    def lookup(self, key: bytes) -> bytes | None:
        if self._values is not None:
            return self._values.get(key)
        at = U32.unpack(key)[0] * self.stride
        return bytes(self.memory[at : at + self.stride])

    def update(self, key: bytes, value: bytes) -> None:
        assert len(value) == self.stride
        if self._values is not None:
            if key not in self._values and len(self._values) == self.max_entries:
                raise OSError(7, "full")
            self._values[key] = value
        else:
            at = U32.unpack(key)[0] * self.stride
            self.memory[at : at + self.stride] = value

    def delete(self, key: bytes) -> bool:
        assert self._values is not None
        return self._values.pop(key, None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        assert self._values is not None
        yield from list(self._values.items())

    def keys(self) -> Iterator[bytes]:
        assert self._values is not None
        yield from list(self._values)

    def read_array(self, first: int = 0, count: int | None = None) -> bytes:
        count = self.max_entries - first if count is None else count
        return bytes(self.memory[first * self.stride : (first + count) * self.stride])


class PlainProgram:
    """`sweep` that finds what it is told."""

    tag = "0123456789abcdef"

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer: Callable[[bytes], bytes] = bytes

    def run_syscall(self, ctx: bytes) -> tuple[int, bytes]:
        self.asked.append(ctx)
        return 0, self.answer(ctx)


class Plain:
    """``loaded`` is for whoever wants a loaded program; the maps are for the test."""

    def __init__(self, sizes: Sizes = SMALL) -> None:
        self.maps = {
            "services": PlainMap(sizes.services, SERVICE.size),
            "servers": PlainMap(sizes.servers, SERVER.size),
            "loads": PlainMap(sizes.servers, LOAD.size),
            "recounts": PlainMap(sizes.servers, LOAD.size),
            "slots": PlainMap(sizes.slots, SLOT_SIZE),
            "filter": PlainMap(1, FILTER_SIZE),
            "settings": PlainMap(1, SETTINGS.size),
            "service_ids": PlainMap(2 * sizes.services, 4, array=False),
            "service_counters": PlainMap(sizes.services, COUNTERS.size * CPUS),
            "server_counters": PlainMap(sizes.servers, COUNTERS.size * CPUS),
            "signals": PlainMap(sizes.servers, SIGNALS.size * CPUS),
            "reasons": PlainMap(len(Reason), 8 * CPUS),
            "devices": PlainMap(256, 4, array=False),
            "fragments": PlainMap(64, 16, array=False),
        }
        for name, family, buckets in (
            ("conns4", AddressFamily.IPV4, sizes.buckets4),
            ("conns6", AddressFamily.IPV6, sizes.buckets6),
        ):
            self.maps[name] = PlainMap(buckets, CONN_WAYS * CONN_SIZES[family])
        self.program = PlainProgram()
        programs = {"kernlb": self.program, "sweep": self.program}
        self.loaded = Loaded(
            cast("Any", self.maps), cast("Any", programs), sizes, made=True, warnings=()
        )
        self.now = 1000.0

    def clock(self) -> float:
        return self.now
