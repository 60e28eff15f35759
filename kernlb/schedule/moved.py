"""How many new flows a change sends to another server, for hash schedulers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.model import RealServer, Scheduler, ServerKey, ServiceState
from kernlb.schedule import maglev, source_hash

_TABLES = {Scheduler.MH: maglev.table, Scheduler.SH: source_hash.table}


def moved(before: ServiceState, after: ServiceState) -> float | None:
    """Share (0..1) of new flows that would go to another server than before.

    ``before`` is as the kernel lists it (newest server first). None where the question has no
    answer: a scheduler that does not hash, or no server to move from or to.
    """
    scheduler = after.service.scheduler
    if scheduler is not before.service.scheduler or scheduler not in _TABLES:
        return None
    old = _owners(scheduler, before, before.servers)
    new = _owners(scheduler, after, _kernel_order(before, after), before)
    if old is None or new is None:
        return None
    return sum(was != now for was, now in zip(old, new, strict=True)) / len(old)


def _owners(
    scheduler: Scheduler,
    state: ServiceState,
    servers: Sequence[RealServer],
    before: ServiceState | None = None,
) -> list[ServerKey | None] | None:
    """The server that answers in each slot; None where its owner has weight 0 and the kernel
    falls back to another (or to none)."""
    weighted = [(server.key, server.weight) for server in servers]
    if scheduler is Scheduler.MH and before is not None:
        # ip_vs_mh places a drained server by its last weight above 0 (dest->last_weight)
        last = {server.key: server.weight for server in before.servers}
        weighted = [(key, weight or last.get(key, 0)) for key, weight in weighted]
    table = _TABLES[scheduler](weighted, state.service.family)
    if table is None or not state.serves:
        return None
    serving = {server.key for server in servers if server.weight > 0}
    return [key if key in serving else None for key in table]


def _kernel_order(before: ServiceState, after: ServiceState) -> list[RealServer]:
    """IPVS puts a new server at the head of its list (ip_vs_ctl.c, ip_vs_add_dest)."""
    wanted = after.by_key()
    kept = [wanted.pop(server.key) for server in before.servers if server.key in wanted]
    return [*reversed(wanted.values()), *kept]
