"""What the daemon said, as values of the doctor. The call itself is the command line's."""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.control.protocol import ServiceSummary, Status, SyncState
from kernlb.doctor.daemon import Daemon, Standing


def answered(status: Status, services: Sequence[ServiceSummary], socket: str) -> Daemon:
    health, xdp = status.health, status.xdp
    interfaces = xdp.interfaces if xdp else []
    return Daemon(
        True,
        socket,
        version=status.version,
        pid=status.pid,
        started=status.started,
        last_audit=status.last_audit,
        audit_interval=status.audit_interval,
        drift_repaired=status.drift_repaired,
        drift_events=tuple(e.text for e in status.events if e.text.startswith("drift repaired")),
        standings=tuple(
            Standing(each.name, each.state.value, each.error, each.servers, each.serving)
            for each in services
            if each.name and each.state is not SyncState.FOREIGN
        ),
        targets=health.targets if health else 0,
        late_p99=health.lateness.p99 if health else 0.0,
        suspended=bool(health and health.suspended),
        suspensions=health.suspensions if health else 0,
        all_failing=bool(health and health.partition_held),
        withdrawn=frozenset(vip.address for vip in status.vips if vip.withdrawn),
        xdp_modes={each.name: each.mode for each in interfaces},
        xdp_errors={each.name: each.error for each in interfaces if each.error},
        xdp_tables=tuple((each.name, each.used, each.size) for each in xdp.tables) if xdp else (),
        xdp_unresolved=tuple((each.service, each.server, each.reason) for each in xdp.unresolved)
        if xdp
        else (),
        xdp_warnings=tuple(xdp.warnings) if xdp else (),
        datapaths_missing=tuple(
            (each.kind, each.detail) for each in status.datapaths if not each.available
        ),
    )


def silent(why: str, socket: str, error: BaseException | None = None) -> Daemon:
    """``error``: what stopped the call."""
    refusing = isinstance(error, ConnectionRefusedError)
    return Daemon(False, socket, why, refusing, isinstance(error, PermissionError))
