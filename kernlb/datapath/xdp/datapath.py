"""XDP as a :class:`kernlb.datapath.Datapath`: the maps of a program that is loaded.

It owns nothing that the maps do not: made anew on the same maps it goes on where another stopped,
however that one ended. Beyond the seam it offers what only XDP has: next hops, the sweep's ends,
and its maps as text. Calls are for one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from kernlb import limits
from kernlb.datapath import Failure, Features, ServiceStats
from kernlb.datapath.xdp import adopting, applying, dump, reading
from kernlb.datapath.xdp.hops import Outcome
from kernlb.datapath.xdp.layout import ABI_VERSION, U32, Reason, Signals
from kernlb.datapath.xdp.loading import ATTACHED, Loaded
from kernlb.datapath.xdp.maps import Maps
from kernlb.datapath.xdp.stats import Stats
from kernlb.datapath.xdp.sweeping import Swept
from kernlb.model import (
    DatapathKind,
    IPAddress,
    Scheduler,
    ServerKey,
    ServiceKey,
    ServiceState,
    TunnelType,
    VirtualService,
)
from kernlb.plan import Op


class XDPDatapath:
    """Of a program that is loaded; ``close`` lets go of it, and it stays loaded."""

    def __init__(self, loaded: Loaded, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes up what is in the maps. ``clock``: seconds, monotonic."""
        self.maps = Maps.of(loaded)
        self._loaded = loaded
        self._inventory = adopting.adopt(self.maps, clock)
        self._hops = self._inventory.hops
        self._stats = Stats(self.maps, clock)
        self._swept = Swept()

    @property
    def kind(self) -> DatapathKind:
        return DatapathKind.XDP

    @property
    def version(self) -> str:
        return f"ABI {ABI_VERSION}, program {self._loaded.programs[ATTACHED].tag}"

    def close(self) -> None:
        self._loaded.close()

    def features(self) -> Features:
        return Features(
            kind=self.kind,
            version=self.version,
            schedulers=frozenset(limits.XDP_SCHEDULERS),
            tunnels=frozenset(TunnelType),
            mixed_families=True,
            connection_table_size=self.connection_table_size,
        )

    def supports_scheduler(self, scheduler: Scheduler) -> bool:
        return scheduler in limits.XDP_SCHEDULERS

    @property
    def connection_table_size(self) -> int:
        """Entries, of both families together."""
        return self.maps.sizes.conns4 + self.maps.sizes.conns6

    def services(self) -> list[VirtualService]:
        return reading.services(self.maps)

    def read(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceState]:
        states = ((key, reading.state(self.maps, key)) for key in keys)
        return {key: state for key, state in states if state is not None}

    def fingerprint(self, key: ServiceKey) -> bytes | None:
        return reading.fingerprint(self.maps, key)

    def stats(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceStats]:
        return self._stats.read(keys)

    def signals(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, dict[ServerKey, Signals]]:
        """What packets gave away about each server's health, since it was added."""
        return reading.signals(self.maps, keys)

    def apply(self, ops: Sequence[Op]) -> list[Failure]:
        return applying.apply(self._inventory, ops)

    # Next hops (daemon.hops).

    def endpoints(self) -> Iterable[tuple[ServiceKey, ServerKey]]:
        """Every real server that it holds."""
        return list(self._hops.endpoints())

    def set_hop(self, address: IPAddress, outcome: Outcome) -> None:
        """Of every server at this address, those to come included."""
        self._hops.set_hop(address, outcome)

    def forget_hop(self, address: IPAddress) -> None:
        """No server is there any more; forgetting the unknown succeeds."""
        self._hops.forget_hop(address)

    def devices(self) -> list[int]:
        """Interfaces that frames are redirected to, by index."""
        return [int(U32.unpack(key)[0]) for key, _ in self.maps.devices.items()]

    def add_device(self, ifindex: int) -> None:
        """Adding twice equals once. Raises OSError."""
        self.maps.devices.update(U32.pack(ifindex), U32.pack(ifindex))

    def remove_device(self, ifindex: int) -> None:
        """Removing the absent succeeds."""
        self.maps.devices.delete(U32.pack(ifindex))

    # The sweep (sweeping).

    def sweep_begins(self) -> int:
        """A sweep of all connections begins. Returns how many entries of `servers` it may meet."""
        self._inventory.server_ids.sweep_begins()
        return self._inventory.server_ids.end

    def sweep_ended(self, swept: Swept) -> None:
        """It has been everywhere: no connection names a server that was gone when it began."""
        self._inventory.server_ids.sweep_ended()
        self._stats.forget()
        self._swept = swept

    # What there is to tell.

    def tables(self) -> list[tuple[str, int, int]]:
        """Name, entries in use, and entries; connections as of the last whole sweep."""
        sizes, inventory = self.maps.sizes, self._inventory
        return [
            ("services", inventory.vips.total(), sizes.services),
            ("servers", len(inventory.hops), sizes.servers),
            ("slots", sizes.slots - inventory.runs.free, sizes.slots),
            ("conns4", self._swept.used4, sizes.conns4),
            ("conns6", self._swept.used6, sizes.conns6),
        ]

    def reasons(self) -> dict[Reason, int]:
        """Packets by what became of them, since the maps were made."""
        return reading.reasons(self.maps)

    def dump(self, names: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Maps as text, by their names. None named: all but those of connections.

        Raises ValueError for unknown ones."""
        return dump.dump(self.maps, names)
