"""The maps as the control plane holds them: memory to read and write, and tables to look up.

Memory is what the program sees, at once; each store of it is as wide as the view it goes through.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from kernlb.datapath.xdp.layout import (
    SERVER,
    SERVICE,
    SLOT_SIZE,
    Run,
    Server,
    Service,
    run_word,
)
from kernlb.datapath.xdp.loading import Loaded
from kernlb.datapath.xdp.memory import Sizes

_STEP = SLOT_SIZE // 4


class Table(Protocol):
    """A map by keys: see libbpf.Map."""

    @property
    def stride(self) -> int: ...
    def lookup(self, key: bytes) -> bytes | None: ...
    def update(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> bool: ...
    def keys(self) -> Iterable[bytes]: ...
    def items(self) -> Iterable[tuple[bytes, bytes]]: ...
    def read_array(self, first: int = 0, count: int | None = None) -> bytes: ...


_MEMORY = ("services", "servers", "loads", "recounts", "slots", "filter", "settings")
_TABLES = (
    *("service_ids", "service_counters", "server_counters", "reasons"),
    *("devices", "conns4", "conns6", "fragments", "signals"),
)


@dataclass(frozen=True, slots=True)
class Maps:
    """``sizes`` are entries; memory may go on behind the last of them."""

    sizes: Sizes
    services: memoryview
    servers: memoryview
    loads: memoryview
    recounts: memoryview
    slots: memoryview
    filter: memoryview
    settings: memoryview
    service_ids: Table
    service_counters: Table
    server_counters: Table
    reasons: Table
    devices: Table
    conns4: Table
    conns6: Table
    fragments: Table
    signals: Table
    words: memoryview = field(init=False, repr=False)  # of services, 8 bytes each
    _slots: memoryview = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", self.services.cast("Q"))
        object.__setattr__(self, "_slots", self.slots.cast("I"))

    @classmethod
    def of(cls, loaded: Loaded) -> Maps:
        memory = {name: loaded.maps[name].mmap() for name in _MEMORY}
        tables: dict[str, Table] = {name: loaded.maps[name] for name in _TABLES}
        return cls(sizes=loaded.sizes, **memory, **tables)  # type: ignore[arg-type]

    def service(self, number: int) -> Service:
        return SERVICE.unpack(self.services, number)

    def server(self, number: int) -> Server:
        return SERVER.unpack(self.servers, number)

    def ids(self, run: Run) -> list[int]:
        """What a run of slots holds; one that leaves the map, as much as there is."""
        end = min(run.first + run.count, self.sizes.slots)
        return self._slots[run.first * _STEP : end * _STEP : _STEP].tolist()

    def write_ids(self, run: Run, ids: list[int]) -> None:
        """Each in a store of its own: who reads meanwhile finds an old id or a new one."""
        end = run.first + run.count
        self._slots[run.first * _STEP : end * _STEP : _STEP] = memoryview(array("I", ids))

    def publish(self, service: int, which: str, run: Run) -> None:
        """Swap a service's run of "members" or its "table", in one store."""
        self.words[(service * SERVICE.size + SERVICE.offset[f"{which}_first"]) // 8] = run_word(run)
