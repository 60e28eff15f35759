"""Takes out of the kernel what kernlb made, with no daemon at work.

What that is was written down before it was made (``runtime``, ``replies``), or is known by where
it is (pins) or by what it is (services that carry probes). Nothing else is touched. VIPs go before
the services behind them; what cannot be done is told, the rest is done all the same, and is
forgotten on disk once it is gone. Twice equals once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from kernlb.daemon.events import Events, sentence
from kernlb.daemon.replies import Replies
from kernlb.daemon.runtime import RuntimeState
from kernlb.daemon.vips import AddressDoor
from kernlb.datapath import Datapath, DatapathUnavailableError
from kernlb.datapath.ipvs.probing import ProbeServices
from kernlb.datapath.xdp import loading, pinned
from kernlb.datapath.xdp.libbpf import require_libbpf
from kernlb.datapath.xdp.probing import ProbeProgram
from kernlb.model import DatapathKind, ServiceRef, VirtualService
from kernlb.plan import Stage
from kernlb.reconcile import diff
from kernlb.vip.plan import Holding, RemoveVip, VipOp

LOADED = Path("/proc/net/ip_vs")  # there while the module is


class Ipvs(Datapath, Protocol):
    def probing(self) -> list[VirtualService]: ...


class Service(NamedTuple):
    """``servers``: how many; -1 where the maps cannot be read."""

    name: str
    ref: ServiceRef
    servers: int


@dataclass(frozen=True, slots=True)
class Left:
    """What of kernlb's is in the kernel. ``sysctls``: name, value now, value before kernlb."""

    services: Sequence[Service] = ()
    vips: Sequence[Holding] = ()
    xdp: pinned.Pinned | None = None
    probes: int = 0  # services of IPVS that carry probes
    sysctls: Sequence[tuple[str, str, str]] = ()

    @property
    def nothing(self) -> bool:
        return not (self.services or self.vips or self.xdp or self.probes or self.sysctls)


@dataclass(slots=True)
class Unloading:
    """Of this network namespace. ``ipvs``: None where the kernel has none loaded."""

    state: Path
    pins: Path
    ipvs: Ipvs | None
    addresses: AddressDoor
    events: Events
    errors: list[str] = field(default_factory=list)

    async def look(self) -> Left:
        """Reads, never writes. Raises OSError, RuntimeStateError."""
        runtime = RuntimeState.load(self.state)
        xdp = pinned.look(self.pins)
        present = await self.addresses.present() if runtime.vips else frozenset()
        return Left(
            services=sorted([*self._of_ipvs(runtime), *_of_xdp(runtime, xdp)], key=str),
            vips=sorted(runtime.vips & present, key=str),
            xdp=xdp,
            probes=len(self.ipvs.probing()) if self.ipvs is not None else 0,
            sysctls=Replies(self.state, self.events).changed(),
        )

    async def run(self) -> Left:
        """Take it out; what was there. ``errors`` has a sentence for each thing that stays."""
        left = await self.look()
        runtime = RuntimeState.load(self.state)
        for vip in sorted(runtime.vips, key=str):
            await self._remove_vip(runtime, vip)
        self._try(lambda: self._remove_services(runtime))
        self._try(lambda: self._remove_xdp(runtime))
        self._try(self._end_probing)
        return left

    # -- one thing each

    def _of_ipvs(self, runtime: RuntimeState) -> Iterable[Service]:
        names = {ref: name for ref, name in runtime.owned.items() if _is_ipvs(ref)}
        if self.ipvs is None:
            return
        for key, state in self.ipvs.read([ref.key for ref in names]).items():
            ref = ServiceRef(DatapathKind.IPVS, key)
            yield Service(names[ref], ref, len(state.servers))

    async def _remove_vip(self, runtime: RuntimeState, vip: Holding) -> None:
        try:
            await self.addresses.apply(RemoveVip(vip))
            runtime.vips.discard(vip)
            runtime.save()
        except OSError as error:
            self.errors.append(sentence(error))

    def _remove_services(self, runtime: RuntimeState) -> None:
        owned = [ref for ref in runtime.owned if _is_ipvs(ref)]
        stay = set()
        if self.ipvs is not None:
            plan = diff({}, self.ipvs.read([ref.key for ref in owned]))
            for failure in self.ipvs.apply(plan.stage(Stage.BREAK)):
                stay.add(failure.op.key)
                self.errors.append(str(failure))
        runtime.disown(ref for ref in owned if ref.key not in stay)
        if self.ipvs is not None:
            self.errors += ProbeServices(self.ipvs).carry({}).values()

    def _remove_xdp(self, runtime: RuntimeState) -> None:
        loading.unload(self.pins)
        runtime.disown([ref for ref in runtime.owned if not _is_ipvs(ref)])

    def _end_probing(self) -> None:
        replies = Replies(self.state, self.events)
        if not replies.in_use:
            return
        with suppress(DatapathUnavailableError):  # then no program of ours was ever there
            require_libbpf()
            ProbeProgram().carry({})
        replies.want(frozenset())
        replies.end()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self.errors.append(sentence(error))


def _of_xdp(runtime: RuntimeState, xdp: pinned.Pinned | None) -> Iterable[Service]:
    """Those in the maps; of maps that cannot be read, those that are written down."""
    if xdp is None:
        return
    names = {ref: name for ref, name in runtime.owned.items() if not _is_ipvs(ref)}
    if xdp.services is None:
        yield from (Service(name, ref, -1) for ref, name in names.items())
        return
    for key, servers in xdp.services.items():
        ref = ServiceRef(DatapathKind.XDP, key)
        yield Service(names.get(ref, ""), ref, servers)


def _is_ipvs(ref: ServiceRef) -> bool:
    return ref.datapath is DatapathKind.IPVS


def prepare(state: Path, pins: Path) -> Unloading:
    """With the doors of this host. Loads no module of the kernel. Raises OSError."""
    from kernlb.datapath.ipvs import IPVSDatapath

    ipvs = IPVSDatapath() if LOADED.exists() else None
    events = Events(time.time)
    return Unloading(state, pins, ipvs, LateAddresses(), events)


class LateAddresses:
    """The door to addresses, imported when it is asked: pyroute2 takes its time."""

    async def present(self) -> Set[Holding]:
        from kernlb.vip.netlink import Addresses

        return await Addresses().present()

    async def apply(self, op: VipOp) -> bool:
        from kernlb.vip.netlink import Addresses

        return await Addresses().apply(op)

    async def close(self) -> None:
        pass


@contextmanager
def alone(socket: Path) -> Iterator[None]:
    """No daemon starts meanwhile: its socket is taken. Raises OSError where one runs."""
    from kernlb.control import access

    made = not socket.parent.exists()
    door = access.listen(socket, "")
    try:
        yield
    finally:
        door.close()
        socket.unlink(missing_ok=True)
        if made:
            with suppress(OSError):
                socket.parent.rmdir()
