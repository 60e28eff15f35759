"""A daemon without a process: its own parts joined as app.py joins them, on a strict fake kernel.

A :class:`World` outlives its daemon: ``restart`` makes every object of it anew over the same
files, state directory, kernel and interfaces, as after a kill -9.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from functools import wraps
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kernlb.control.protocol import ServerState, ServiceSummary, SyncState
from kernlb.control.watching import Watchers
from kernlb.daemon.audit import Audit
from kernlb.daemon.board import Board
from kernlb.daemon.changes import Changes
from kernlb.daemon.deadlines import Deadlines
from kernlb.daemon.desired import Desired, Health
from kernlb.daemon.documents import Documents
from kernlb.daemon.events import Events
from kernlb.daemon.figures import Figures
from kernlb.daemon.health_views import HealthOverview
from kernlb.daemon.loop import Reconciler
from kernlb.daemon.runtime import RuntimeState
from kernlb.daemon.sampler import Sampler
from kernlb.daemon.status import Overview, Xdp
from kernlb.daemon.vips import VipKeeper
from kernlb.datapath import Datapath, Failure, Refusal
from kernlb.datapath.fake import FakeDatapath
from kernlb.model import (
    AddressKey,
    DatapathKind,
    L4Protocol,
    RealServer,
    Scheduler,
    ServiceKey,
    ServiceRef,
    ServiceState,
    VirtualService,
)
from kernlb.plan import AddService, Op
from kernlb.store import Store
from kernlb.vip.plan import AddVip, Holding, VipOp

Wish = dict[str, Any]


class Kernel(FakeDatapath):
    """The strict fake, counting calls and writing down what happened in which order.

    ``before_each`` is called with every op just before it is applied."""

    def __init__(self, journal: list[str], states: Iterable[ServiceState] = ()) -> None:
        super().__init__(states)
        self.calls: Counter[str] = Counter()
        self.looked_at: set[ServiceKey] = set()
        self.before_each: Callable[[Op], None] = lambda op: None
        self._journal = journal

    def services(self) -> list[VirtualService]:
        self.calls["services"] += 1
        return super().services()

    def read(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceState]:
        keys = list(keys)
        self.calls["read"] += len(keys)
        self.looked_at.update(keys)
        return super().read(keys)

    def fingerprint(self, key: ServiceKey) -> bytes | None:
        self.calls["fingerprint"] += 1
        return super().fingerprint(key)

    def apply(self, ops: Sequence[Op]) -> list[Failure]:
        refused: list[Failure] = []
        for op in ops:
            self.before_each(op)
            self._journal.append(" ".join(str(op).split()))
            refused += super().apply([op])
        return refused

    def refuse_ops(self, *texts: str) -> None:
        """Refuse every op that prints with one of ``texts`` in it; none: take everything."""
        self.refuse(
            lambda _, op: Refusal.OTHER if any(text in " ".join(str(op).split()) for text in texts)
            else None
        )  # fmt: skip


class Interfaces:
    """Addresses on interfaces: the door of the VIP keeper, in memory."""

    def __init__(self, journal: list[str]) -> None:
        self.addresses: set[Holding] = set()
        self.announced: list[Holding] = []
        self.names = {"eth0", "lo"}
        self.broken: str | None = None  # why addresses cannot be read
        self.calls: Counter[str] = Counter()
        self._journal = journal

    async def present(self) -> Set[Holding]:
        self.calls["present"] += 1
        if self.broken:
            raise OSError(self.broken)
        return frozenset(self.addresses)

    async def apply(self, op: VipOp) -> bool:
        self.calls["apply"] += 1
        changed = (op.vip in self.addresses) is not isinstance(op, AddVip)
        if isinstance(op, AddVip):
            if op.vip.interface not in self.names:
                raise OSError(f"cannot add {op.vip}: there is no such interface")
            self.addresses.add(op.vip)
            if op.announce and changed:
                self.announced.append(op.vip)
        else:
            self.addresses.discard(op.vip)
        self._journal.append(" ".join(str(op).split()))
        return changed

    async def close(self) -> None: ...


class World:
    """Files, kernel, interfaces and clock, and the daemon among them."""

    def __init__(self, root: Path, *foreign: ServiceState) -> None:
        self.root = root
        self.directory = root / "services.d"
        self.directory.mkdir()
        self.now = 1_000_000.0
        self.journal: list[str] = []
        self.kernel = Kernel(self.journal, foreign)
        self.interfaces = Interfaces(self.journal)
        self.xdp_kernel: FakeDatapath | None = None  # a host without XDP, until one is put here
        self.xdp: Xdp | None = None
        self.health_overview: HealthOverview | None = None
        self.restart()

    def restart(self) -> None:
        """A new daemon, which has not yet read anything but its runtime state."""

        def clock() -> float:
            return self.now

        datapaths: dict[DatapathKind, Datapath] = {DatapathKind.IPVS: self.kernel}
        if self.xdp_kernel is not None:
            datapaths[DatapathKind.XDP] = self.xdp_kernel
        self.events = Events(clock)
        self.runtime = RuntimeState.load(self.root / "state")
        self.vips = VipKeeper(self.runtime, self.events, lambda: self.interfaces)
        self.desired = Desired(self.runtime, clock, self.make_health(datapaths))
        self.reconciler = Reconciler(datapaths, self.runtime, self.desired, self.vips, self.events)
        self.deadlines = Deadlines(self.reconciler, clock)
        self.audit = Audit(self.reconciler, 60.0, clock)
        self.store = Store(self.directory)
        self.changes = Changes(
            Documents(self.store, datapaths),
            self.reconciler,
            clock,
            self.deadlines.changed,
            lambda: None,
        )
        self.overview = Overview(
            self.reconciler, self.audit, self.changes, [], clock, self.xdp, self.health_overview
        )
        self.sampler = Sampler(datapaths, self.desired, clock, 5.0)
        self.board = Board(self.overview, self.sampler, self.health_overview, clock)
        self.watchers = Watchers(self.board, self.events)
        self.most_servers = 1000
        self.figures = Figures(
            self.overview,
            self.sampler,
            self.health_overview,
            self.events,
            lambda: self.most_servers,
        )

    def make_health(self, datapaths: Mapping[DatapathKind, Datapath]) -> Health | None:
        """Nobody watches servers here; see health_world.py."""
        return None

    # -- what an operator does

    def write(self, name: str, wish: Wish | str) -> None:
        text = wish if isinstance(wish, str) else json.dumps(wish, indent=1)
        (self.directory / f"{name}.yaml").write_text(text)

    def text(self, name: str) -> str:
        return (self.directory / f"{name}.yaml").read_text()

    async def start(self, **wishes: Wish) -> None:
        """Write documents, and have a daemon start with them; forget how it got there."""
        for name, wish in wishes.items():
            self.write(name, wish)
        await self.changes.start()
        self.forget()

    def forget(self) -> None:
        """Begin a new page of the journal."""
        self.journal.clear()
        self.kernel.calls.clear()
        self.kernel.looked_at.clear()
        self.interfaces.calls.clear()

    async def put(self, name: str, wish: Wish, **how: bool) -> None:
        switches = {"replace": False, "adopt": False, "dry_run": False} | how
        await self.changes.put(name, wish, **switches)

    # -- what there is to see

    def weights(self, key: ServiceKey) -> dict[str, int] | None:
        """The servers of a service in the kernel; None: it is not there."""
        state = self.kernel.state.get(key)
        return None if state is None else {str(s.address): s.weight for s in state.servers}

    def listed(self) -> dict[str, ServiceSummary]:
        """``service ls``, each name once."""
        summaries = self.overview.services()
        names = [each.name or each.key for each in summaries]
        assert len(set(names)) == len(names), f"a service is listed twice: {names}"
        return dict(zip(names, summaries, strict=True))

    def state(self, name: str) -> SyncState:
        return self.listed()[name].state

    def role(self, name: str, address: str) -> ServerState:
        servers = self.overview.service(name).servers
        return next(server.state for server in servers if server.address == address)

    def told(self) -> str:
        return "\n".join(f"{event.cause}: {event.text}" for event in self.events)

    def saved(self) -> dict[str, Any]:
        """The runtime state as it is on disk now."""
        found: dict[str, Any] = json.loads((self.root / "state" / "state.json").read_bytes())
        return {"owned": {}, "vips": [], "admin": []} | found


def web(*servers: str, address: str = "192.0.2.10", port: int = 80, **more: object) -> Wish:
    """A document; a server is ``ADDRESS`` or ``ADDRESS*WEIGHT``."""
    parts = [server.partition("*") for server in servers]
    return {
        "address": address,
        "port": port,
        "servers": [{"address": a, "weight": int(weight or 1)} for a, _, weight in parts],
        **more,
    }


def key(port: int = 80, address: str = "192.0.2.10") -> AddressKey:
    return AddressKey(L4Protocol.TCP, ip_address(address), port)


def ref(port: int = 80, address: str = "192.0.2.10") -> ServiceRef:
    return ServiceRef(DatapathKind.IPVS, key(port, address))


def foreign(port: int = 80, *servers: str) -> ServiceState:
    """A service that somebody made with ipvsadm."""
    return ServiceState(
        VirtualService(key(port), Scheduler.RR),
        tuple(RealServer(ip_address(server), 80, 3) for server in servers),
    )


def on(address: str, interface: str = "eth0") -> Holding:
    return Holding(ip_address(address), interface)


def holds_before_adding(world: World) -> Callable[[Op], None]:
    """A check for ``Kernel.before_each``: who is about to be made is owned, on disk."""

    def check(op: Op) -> None:
        if isinstance(op, AddService):
            assert f"ipvs:{op.key}" in world.saved()["owned"], f"{op.key} is not owned yet"

    return check


def story(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that awaits."""

    @wraps(test)
    def run(*arguments: object, **named: object) -> None:
        async def whole() -> None:
            async with asyncio.timeout(30):
                await test(*arguments, **named)

        asyncio.run(whole())

    return run


def servers_of(states: Mapping[ServiceKey, ServiceState], named: ServiceKey) -> set[str]:
    return {str(server.address) for server in states[named].servers}
