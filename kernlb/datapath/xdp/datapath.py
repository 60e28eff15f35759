"""XDP as a :class:`kernlb.datapath.Datapath`: the maps of a program that is loaded.

It owns nothing that the maps do not: made anew on the same maps it goes on where another stopped,
however that one ended. Beyond the seam it offers what only XDP has: next hops, the sweep, and the
program's settings. Calls are for one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from kernlb import limits
from kernlb.datapath import Failure, Features, ServiceStats
from kernlb.datapath.xdp import adopting, applying, reading
from kernlb.datapath.xdp.hops import Outcome
from kernlb.datapath.xdp.layout import (
    ABI_VERSION,
    SETTINGS,
    TICKS_PER_SECOND,
    TIMEOUTS,
    U32,
    Reason,
    State,
)
from kernlb.datapath.xdp.loading import ATTACHED, Loaded
from kernlb.datapath.xdp.maps import Maps
from kernlb.datapath.xdp.records import MAX_TICKS
from kernlb.datapath.xdp.stats import Stats
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
    """Whoever loaded the program keeps it loaded; ``closing`` lets go of it."""

    def __init__(
        self,
        maps: Maps,
        tag: str = "",
        clock: Callable[[], float] = time.monotonic,
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        """``tag`` is the program's; ``clock`` seconds, monotonic."""
        self.maps = maps
        self._tag = tag
        self._closing = closing
        self._inventory = adopting.adopt(maps, clock)
        self._hops = self._inventory.hops
        self._stats = Stats(maps, clock)

    @classmethod
    def of(cls, loaded: Loaded) -> XDPDatapath:
        return cls(Maps.of(loaded), loaded.programs[ATTACHED].tag, closing=loaded.close)

    @property
    def kind(self) -> DatapathKind:
        return DatapathKind.XDP

    @property
    def version(self) -> str:
        return f"ABI {ABI_VERSION}, program {self._tag}" if self._tag else f"ABI {ABI_VERSION}"

    def close(self) -> None:
        self._closing()

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

    def sweep_begins(self) -> None:
        """A sweep of all connections begins: see slots.ServerIds."""
        self._inventory.server_ids.sweep_begins()

    def sweep_ended(self) -> None:
        """It has been everywhere, and ids that were at rest may be used again."""
        self._inventory.server_ids.sweep_ended()
        self._stats.forget()

    # What the program goes by, and what it counted.

    def set_timeouts(self, seconds: Mapping[State, float]) -> None:
        """Of connections by their state; those that are not named stay."""
        settings = SETTINGS.unpack(self.maps.settings)
        ticks = list(TIMEOUTS.unpack(settings.timeouts))
        for state, value in seconds.items():
            ticks[state] = min(max(1, round(value * TICKS_PER_SECOND)), MAX_TICKS)
        words = self.maps.settings.cast("I")
        for state in State:
            words[state] = ticks[state]

    def timeouts(self) -> dict[State, float]:
        """Seconds."""
        settings = SETTINGS.unpack(self.maps.settings)
        ticks = TIMEOUTS.unpack(settings.timeouts)
        return {state: ticks[state] / TICKS_PER_SECOND for state in State}

    def limit_icmp(self, per_second: int) -> None:
        """Errors and resets that one CPU sends, at most; 0: as many as it takes."""
        self.maps.settings.cast("I")[SETTINGS.offset["icmp_per_second"] // 4] = per_second

    def reasons(self) -> dict[Reason, int]:
        """Packets by what became of them."""
        return {reason: self._sum(reason) for reason in Reason}

    def _sum(self, reason: Reason) -> int:
        value = self.maps.reasons.lookup(U32.pack(reason)) or b""
        return sum(memoryview(value).cast("Q"))
