"""What readers are told: summaries from memory, details and counters from the kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import structs

from kernlb import __version__
from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import (
    DatapathStatus,
    ProblemKind,
    ServiceStatsView,
    ServiceSummary,
    ServiceView,
    Status,
    SyncState,
    VipView,
)
from kernlb.control.protocol_health import Health
from kernlb.control.protocol_xdp import Explanation, MapDump, XdpStatus
from kernlb.daemon.audit import Audit
from kernlb.daemon.changes import Changes
from kernlb.daemon.events import sentence
from kernlb.daemon.health_views import NOBODY, HealthOverview
from kernlb.daemon.loop import Reconciler
from kernlb.daemon.outcome import Report
from kernlb.daemon.views import (
    fault_view,
    foreign_summary,
    service_view,
    stats_view,
    summary,
    vip_views,
)
from kernlb.daemon.vips import wanted_vips
from kernlb.datapath import Datapath, DatapathUnavailableError
from kernlb.declaration import Declaration
from kernlb.intent import Admin, Intent
from kernlb.model import (
    AddressKey,
    DatapathKind,
    L4Protocol,
    ServerKey,
    ServiceRef,
    parse_service_key,
)

_SHOWN_EVENTS = 20


class Xdp(Protocol):
    """The host's XDP as readers see it (daemon.xdp.XdpHost). Calls raise OSError."""

    def status(self) -> XdpStatus: ...

    def explain(
        self, protocol: L4Protocol, client: ServerKey, to: ServerKey, within: bool, interface: str
    ) -> Explanation:
        """``service`` is left open. Raises ValueError for what cannot be asked."""

    def dump(self, maps: Sequence[str]) -> list[MapDump]:
        """None named: all but those of connections. Raises ValueError for unknown ones."""


class Overview:
    """Reads; changes nothing."""

    def __init__(
        self,
        reconciler: Reconciler,
        audit: Audit,
        changes: Changes,
        missing: Sequence[DatapathStatus],
        clock: Callable[[], float],
        xdp: Xdp | None = None,
        health: HealthOverview | None = None,
    ) -> None:
        self.started = clock()
        self._summaries: dict[
            str, tuple[tuple[Declaration, Intent, Report], ServiceSummary]
        ] = {}  # by name, of services in force
        self._reconciler = reconciler
        self._audit = audit
        self._changes = changes
        self._missing = missing
        self._xdp = xdp
        self._health = health

    def services(self) -> list[ServiceSummary]:
        """Every declared service, then the foreign ones. From memory."""
        reconciler = self._reconciler
        declared = list(map(self._summary, self.declared(())))
        if len(self._summaries) > 2 * len(declared):
            self._summaries = {each.name: self._summaries[each.name] for each in declared}
        declared += [
            ServiceSummary(name, "", "", "", "", 0, 0, SyncState.INVALID, error=self._why(name))
            for name in sorted(reconciler.desired.held)
        ]
        foreign = self._audit.foreign
        return declared + [foreign_summary(ref, foreign[ref]) for ref in sorted(foreign, key=str)]

    def _summary(self, declaration: Declaration) -> ServiceSummary:
        """Made anew only where something else is so than the last time."""
        now = (declaration, self.intended(declaration), self.report(declaration))
        known = self._summaries.get(declaration.name)
        if known is None or any(a is not b for a, b in zip(known[0], now, strict=True)):
            known = self._summaries[declaration.name] = now, summary(*now)
        return known[1]

    def _why(self, name: str) -> str:
        """What is wrong with the file of a service that was never good."""
        source = self._changes.source(name)
        return next((str(fault) for fault in self._changes.faults if fault.file == source), "")

    def report(self, declaration: Declaration) -> Report:
        report = self._reconciler.reports.of(declaration.ref)
        faults = [f for f in self._changes.faults if f.file == declaration.source]
        if faults and report.state is SyncState.SYNCED:
            return Report(SyncState.INVALID, f"the last good version is in force: {faults[0]}")
        return report

    def declared(self, names: Sequence[str]) -> list[Declaration]:
        """The named services, all where none is named, by name. Raises RequestRefusedError."""
        declarations = self._reconciler.desired.declarations
        return [self._declaration(name) for name in names or sorted(declarations)]

    def in_force(self, declaration: Declaration) -> bool:
        """False once another has taken its place."""
        return self._reconciler.desired.declarations.get(declaration.name) is declaration

    def intended(self, declaration: Declaration) -> Intent:
        """What the kernel should hold for a service in force."""
        return self._reconciler.desired.intended(declaration)

    def holds(self, name: str) -> Mapping[ServerKey, Admin]:
        return self._reconciler.runtime.holds(name)

    def service(self, name: str) -> ServiceView:
        """One service, its kernel side freshly read. Raises RequestRefusedError."""
        declaration = self._declaration(name)
        reconciler, ref = self._reconciler, declaration.ref
        datapath = reconciler.datapaths.get(ref.datapath)
        observed = datapath.read([ref.key]).get(ref.key) if datapath is not None else None
        return service_view(
            declaration,
            reconciler.desired.intended(declaration),
            self.report(declaration),
            observed,
            reconciler.runtime.holds(name),
        )

    async def services_in_full(self) -> list[ServiceView]:
        """Every declared service as :meth:`service` tells it."""
        views = []
        for name in sorted(self._reconciler.desired.declarations):
            if name in self._reconciler.desired.declarations:  # others had their turn meanwhile
                views.append(self.service(name))
            await asyncio.sleep(0)
        return views

    async def stats(self, names: Sequence[str]) -> list[ServiceStatsView]:
        """Counters of the named services, of all where none is named: read service by service;
        others get their turn in between."""
        desired, views = self._reconciler.desired, []
        for declaration in self.declared(names):
            ref = declaration.ref
            datapath = self._reconciler.datapaths.get(ref.datapath)
            if datapath is not None and self.in_force(declaration):
                stats = datapath.stats([ref.key]).get(ref.key)
                if stats is not None:
                    state = desired.intended(declaration).state
                    views.append(stats_view(declaration.name, state, stats))
            await asyncio.sleep(0)
        return views

    def status(self) -> Status:
        reconciler, desired = self._reconciler, self._reconciler.desired
        declarations = desired.declarations.values()
        intents = [desired.intended(each) for each in declarations]
        counts = {state.value: 0 for state in SyncState}
        for each in declarations:
            counts[self.report(each).state] += 1
        counts[SyncState.INVALID] += len(desired.held)
        counts[SyncState.FOREIGN] += len(self._audit.foreign)
        return Status(
            version=__version__,
            pid=os.getpid(),
            started=self.started,
            datapaths=[
                *(_available(kind, each) for kind, each in reconciler.datapaths.items()),
                *self._missing,
            ],
            services={state: count for state, count in counts.items() if count},
            servers=sum(len(each.servers) for each in declarations),
            serving=sum(server.weight > 0 for each in intents for server in each.state.servers),
            drift_repaired=reconciler.reports.drift_repaired,
            last_audit=self._audit.finished,
            audit_interval=self._audit.interval,
            foreign=sorted(str(ref.key) for ref in self._audit.foreign),
            vips=self._vips(),
            faults=[fault_view(fault) for fault in self._changes.faults],
            events=reconciler.events.latest(_SHOWN_EVENTS),
            xdp=self.xdp(),
            health=self._health.monitor() if self._health and self._health.in_use else None,
        )

    def xdp(self) -> XdpStatus | None:
        """How XDP is; None where it is not in use."""
        return self._xdp.status() if self._xdp is not None else None

    async def health(self, names: Sequence[str]) -> Health:
        """How the servers of the named services are, of all where none is named."""
        desired = self._reconciler.desired
        if self._health is None:
            return Health(NOBODY, [])
        return await self._health.health(self.declared(names), desired.intended)

    def explain(
        self,
        protocol: L4Protocol,
        client: ServerKey,
        to: ServerKey,
        *,
        within: bool = False,
        interface: str = "",
    ) -> Explanation:
        """What would become of a packet, and why. Raises RequestRefusedError."""
        by_ref = self._reconciler.desired
        keys = [AddressKey(protocol, to.address, port) for port in (to.port, 0)]
        refs = [ServiceRef(kind, key) for key in keys for kind in DatapathKind]
        found = next((ref for ref in refs if ref in by_ref), None)
        if found is not None and found.datapath is not DatapathKind.XDP:
            title = f"cannot explain {found.key}: datapath {found.datapath} carries it, not xdp"
            raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title)
        try:
            told = self._asked().explain(protocol, client, to, within, interface)
        except (ValueError, OSError) as error:
            title = f"cannot explain {protocol} from {client} to {to}: {sentence(error)}"
            raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title) from error
        if not told.key:
            return told
        ref = ServiceRef(DatapathKind.XDP, parse_service_key(told.key))
        name = by_ref[ref].name if ref in by_ref else ""
        return structs.replace(told, service=name)

    def dump(self, maps: Sequence[str]) -> list[MapDump]:
        """Maps of XDP as text. Raises RequestRefusedError."""
        try:
            return self._asked().dump(maps)
        except (ValueError, OSError) as error:
            raise RequestRefusedError(ProblemKind.INVALID_REQUEST, sentence(error)) from error

    def _asked(self) -> Xdp:
        if self._xdp is None:
            missing = [each.detail for each in self._missing if each.kind == DatapathKind.XDP]
            why = missing[0] if missing else "xdp.interfaces in kernlb.yaml names none"
            title = f"datapath xdp is not in use on this host: {why}"
            raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title)
        return self._xdp

    def _vips(self) -> list[VipView]:
        reconciler, desired = self._reconciler, self._reconciler.desired
        declared = desired.declarations.values()
        return vip_views(
            wanted_vips(declared),
            wanted_vips(each for each in declared if each.ref not in desired.withdrawn),
            reconciler.runtime.vips,
            reconciler.vips.present,
        )

    def _declaration(self, name: str) -> Declaration:
        declaration = self._reconciler.desired.declarations.get(name)
        if declaration is None:
            raise RequestRefusedError(ProblemKind.NOT_FOUND, f"there is no service {name}")
        return declaration


def _available(kind: DatapathKind, datapath: Datapath) -> DatapathStatus:
    try:
        return DatapathStatus(kind, True, datapath.version)
    except DatapathUnavailableError as error:
        return DatapathStatus(kind, False, detail=sentence(error))
