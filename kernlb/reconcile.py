"""diff(desired, observed): what has to change, in an order that keeps traffic flowing.

Pure: compares values, writes nothing. Both sides are limited by the caller to the services it
concerns; an observed service that is not desired is removed, so what is foreign must not be
passed in.

Ordering rules (make before break):

1. services are added and edited, then their servers added, edited up;
2. only then are weights taken to 0, servers removed, services removed;
3. what did not change is in no op: its counters, connections and scheduler cursor stay;
4. what the kernel refuses holds back capacity, and not the dead (:func:`still_due`).

From these follows what the property tests hold: at every step each unchanged server of a kept
service is there with its weight, and a service that serves before and after serves throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernlb.intent import IN_KERNEL, Intent
from kernlb.model import ServiceKey, ServiceState
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    Plan,
    RemoveServer,
    RemoveService,
    Stage,
    server_of,
)

States = Mapping[ServiceKey, ServiceState]


def diff(desired: States, observed: States) -> Plan:
    """The plan that makes ``observed`` hold what ``desired`` says; empty if it does."""
    make: list[Op] = []
    breaks: list[Op] = []
    for key, state in desired.items():
        before = observed.get(key)
        if before is state:
            continue
        for op in _diff_service(state, before):
            (make if op.stage is Stage.MAKE else breaks).append(op)
    breaks.extend(
        RemoveService(state.service) for key, state in observed.items() if key not in desired
    )
    return Plan((*make, *breaks))


def _diff_service(desired: ServiceState, observed: ServiceState | None) -> list[Op]:
    if observed is None:
        added: list[Op] = [AddService(desired.service)]
        added.extend(AddServer(desired.key, server) for server in desired.servers)
        return added
    ops: list[Op] = []
    if observed.service != desired.service:
        ops.append(EditService(observed.service, desired.service))
    before = observed.by_key()
    for server in desired.servers:
        old = before.pop(server.key, None)
        if old is None:
            ops.append(AddServer(desired.key, server))
        elif old != server:
            ops.append(EditServer(desired.key, old, server))
    ops.extend(RemoveServer(desired.key, server) for server in before.values())
    return ops


def still_due(
    breaks: Iterable[Op], refused: Iterable[Op], intent: Intent | None, held: ServiceState | None
) -> list[Op]:
    """Those BREAK ops of a service that may be sent although MAKE ops of it were refused.

    All of them, if no server was refused: a setting that stays as it was is no capacity. Else
    those that take out servers which a verdict, a hold or the end of their turn wants out, as
    long as one that is meant to serve does, or none is meant to. ``held`` is what the kernel
    holds by now; what merely is no longer declared waits for its replacement."""
    if not any(isinstance(op, AddServer | EditServer) for op in refused):
        return list(breaks)
    if intent is None or held is None:
        return []
    meant = {server.key for server in intent.state.servers if server.weight}
    if meant and not any(server.weight and server.key in meant for server in held.servers):
        return []
    out = {key for key, role in intent.roles.items() if IN_KERNEL[role] != "declared"}
    return [op for op in breaks if server_of(op) in out]
