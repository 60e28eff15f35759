"""Values of the daemon, dressed for the control protocol. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import asdict

from kernlb.config import Fault
from kernlb.control import protocol
from kernlb.control.protocol import (
    Change,
    CountersView,
    Moved,
    OpView,
    PersistenceView,
    ServerState,
    ServerStatsView,
    ServerView,
    ServiceStatsView,
    ServiceSummary,
    ServiceView,
    SyncState,
    TunnelView,
    VipView,
)
from kernlb.daemon.outcome import Outcome, Report
from kernlb.datapath import Counters, ServerStats, ServiceStats
from kernlb.declaration import Declaration
from kernlb.intent import Admin, Intent, Role
from kernlb.model import (
    RealServer,
    ServerKey,
    ServiceRef,
    ServiceState,
    VirtualService,
    endpoint,
)
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    RemoveServer,
    RemoveService,
)
from kernlb.vip.plan import AddVip, Holding, VipOp

_STATES: dict[Role, ServerState] = {role: ServerState(role.value) for role in Role}


def fault_view(fault: Fault) -> protocol.Fault:
    return protocol.Fault(fault.message, fault.file, fault.line, fault.key)


def change_view(
    outcome: Outcome,
    *,
    applied: bool = False,
    faults: Iterable[Fault] = (),
    warnings: Iterable[str] = (),
) -> Change:
    return Change(
        ops=_in_order(outcome),
        applied=applied,
        moved=[
            Moved(str(ref.key), moved.scheduler, moved.share)
            for ref, moved in outcome.moved.items()
            if moved.share > 0
        ],
        warnings=list(warnings),
        faults=[fault_view(fault) for fault in faults],
    )


def _in_order(outcome: Outcome) -> list[OpView]:
    """VIPs come after the servers behind them and go before the services they lead to."""
    last = [op for op in outcome.ops if isinstance(op, RemoveService)]
    first = [op for op in outcome.ops if not isinstance(op, RemoveService)] if last else outcome.ops
    return [*map(_op_view, first), *map(_vip_op_view, outcome.vip_ops), *map(_op_view, last)]


def _op_view(op: Op) -> OpView:
    match op:
        case AddService() | AddServer():
            action = "add"
        case EditService() | EditServer():
            action = "edit"
        case _:
            action = "remove"
    server = ""
    if isinstance(op, AddServer | RemoveServer):
        server = str(op.server.key)
    elif isinstance(op, EditServer):
        server = str(op.new.key)
    what = "server" if server else "service"
    return OpView(action, what, str(op.key), str(op), server)


def _vip_op_view(op: VipOp) -> OpView:
    action = "add" if isinstance(op, AddVip) else "remove"
    return OpView(action, "vip", str(op.vip), str(op))


def summary(declaration: Declaration, intent: Intent, report: Report) -> ServiceSummary:
    servers = intent.state.servers
    methods = {server.forwarding for server in declaration.servers}
    return ServiceSummary(
        name=declaration.name,
        key=str(declaration.service.key),
        datapath=declaration.datapath,
        scheduler=declaration.service.scheduler,
        forwarding=next(iter(methods)) if len(methods) == 1 else "mixed" if methods else "",
        servers=len(declaration.servers),
        serving=sum(server.weight > 0 for server in servers),
        state=report.state,
        labels=dict(declaration.labels),
        error=report.error,
    )


def foreign_summary(ref: ServiceRef, service: VirtualService) -> ServiceSummary:
    return ServiceSummary(
        name="",
        key=str(ref.key),
        datapath=ref.datapath,
        scheduler=service.scheduler,
        forwarding="",
        servers=0,
        serving=0,
        state=SyncState.FOREIGN,
    )


def service_view(
    declaration: Declaration,
    intent: Intent,
    report: Report,
    observed: ServiceState | None,
    holds: Mapping[ServerKey, Admin],
) -> ServiceView:
    """``observed`` is the service as just read from the kernel, None: it is not there."""
    service = declaration.service
    held = {server.key: server.weight for server in intent.state.servers}
    there = observed.by_key() if observed is not None else {}
    servers = [*declaration.servers, *declaration.sorry_servers]
    persistence = service.persistence
    return ServiceView(
        name=declaration.name,
        key=str(service.key),
        datapath=declaration.datapath,
        scheduler=service.scheduler,
        flags=sorted(service.flags),
        state=report.state,
        servers=[
            _server_view(
                server,
                held.get(server.key, 0),
                intent.roles[server.key],
                there.get(server.key),
                holds.get(server.key),
                declaration.server_labels.get(server.key, {}),
            )
            for server in servers
        ],
        file=declaration.source,
        one_packet=service.one_packet,
        persistence=PersistenceView(
            persistence.timeout, persistence.prefix, persistence.engine or ""
        )
        if persistence is not None
        else None,
        vip_interface=declaration.vip.interface if declaration.vip is not None else "",
        labels=dict(declaration.labels),
        error=report.error,
    )


def _server_view(
    server: RealServer,
    effective: int,
    role: Role,
    observed: RealServer | None,
    hold: Admin | None,
    labels: Mapping[str, str],
) -> ServerView:
    tunnel = server.tunnel
    return ServerView(
        address=str(server.address),
        port=server.port,
        forwarding=server.forwarding,
        weight=server.weight,
        effective_weight=effective,
        state=_STATES[role],
        in_kernel=observed is not None,
        kernel_weight=observed.weight if observed is not None else None,
        tunnel=TunnelView(tunnel.type, tunnel.port, tunnel.checksum) if tunnel else None,
        upper_threshold=server.upper_threshold,
        lower_threshold=server.lower_threshold,
        since=hold.since if hold is not None else 0.0,
        deadline=hold.deadline or 0.0 if hold is not None else 0.0,
        labels=dict(labels),
    )


def stats_view(name: str, state: ServiceState, stats: ServiceStats) -> ServiceStatsView:
    return ServiceStatsView(
        name=name,
        key=str(state.key),
        counters=_counters(stats.counters),
        servers=[
            _server_stats(server, stats.servers.get(server.key, ServerStats()))
            for server in state.servers
        ],
    )


def _server_stats(server: RealServer, stats: ServerStats) -> ServerStatsView:
    return ServerStatsView(
        server=endpoint(server.address, server.port),
        weight=server.weight,
        active=stats.active,
        inactive=stats.inactive,
        persistent=stats.persistent,
        counters=_counters(stats.counters),
    )


def _counters(counters: Counters) -> CountersView:
    return CountersView(**asdict(counters))


def vip_views(
    wanted: Iterable[Holding],
    announced: Container[Holding],
    owned: Set[Holding],
    present: Container[Holding],
) -> list[VipView]:
    """``announced`` are those of ``wanted`` that are not withdrawn."""
    return [
        VipView(str(vip.address), vip.interface, vip in owned, vip in present, vip not in announced)
        for vip in sorted({*wanted, *owned}, key=str)
    ]
