"""intent(declaration, verdicts, admin): what the kernel should hold for one service.

Pure. Three voices are heard, in this order:

1. the declaration says which servers there are and what they weigh;
2. an operator may drain or disable a server (``Admin``); that outranks any verdict;
3. the health monitor's verdicts take servers out or bring them back.

When no server of the service can take a connection, the sorry server joins with its own weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kernlb.declaration import Declaration
from kernlb.model import RealServer, ServerKey, ServiceState


class Verdict(StrEnum):
    """What the health monitor says of a server. No verdict at all counts as UP."""

    UP = "up"
    DOWN = "down"  # out of the kernel
    INHIBITED = "inhibited"  # in the kernel with weight 0


class AdminMode(StrEnum):
    DRAINING = "draining"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Admin:
    """An operator's hold on a server: no new connections (DRAINING) or none at all (DISABLED).

    ``since`` and ``deadline`` are seconds since the epoch; a drain whose deadline has passed
    drops what connections are left. ``deadline`` None: it never passes.
    """

    mode: AdminMode
    since: float
    deadline: float | None = None

    def expired(self, now: float) -> bool:
        return self.deadline is not None and now >= self.deadline


class Role(StrEnum):
    """The part a server plays now, and hence whether and how the kernel holds it."""

    UP = "up"
    DRAINING = "draining"
    DRAINED = "drained"
    DISABLED = "disabled"
    DOWN = "down"
    INHIBITED = "inhibited"
    SORRY = "sorry"
    STANDBY = "standby"


# The weight of each role in the kernel: None = not there, "declared" = as declared.
IN_KERNEL: dict[Role, str | int | None] = {
    Role.UP: "declared",
    Role.DRAINING: 0,
    Role.DRAINED: None,
    Role.DISABLED: None,
    Role.DOWN: None,
    Role.INHIBITED: 0,
    Role.SORRY: "declared",
    Role.STANDBY: None,
}

_BY_VERDICT = {
    Verdict.UP: Role.UP,
    Verdict.DOWN: Role.DOWN,
    Verdict.INHIBITED: Role.INHIBITED,
}

Verdicts = Mapping[ServerKey, Verdict]
Admins = Mapping[ServerKey, Admin]


@dataclass(frozen=True, slots=True)
class Intent:
    """``state`` is what the kernel should hold; ``roles`` say why, for every declared server."""

    state: ServiceState
    roles: Mapping[ServerKey, Role]


def intend(declaration: Declaration, verdicts: Verdicts, admin: Admins, now: float) -> Intent:
    """The intent for one service. ``now`` in seconds since the epoch."""
    roles: dict[ServerKey, Role] = {}
    servers: list[RealServer] = []
    serves = False
    for server in declaration.servers:
        role = (
            _role(verdicts.get(server.key), admin.get(server.key), now)
            if (verdicts or admin)
            else Role.UP
        )
        roles[server.key] = role
        weight = IN_KERNEL[role]
        if weight is None:
            continue
        held = server if weight == "declared" else server.with_weight(int(weight))
        serves = serves or held.weight > 0
        servers.append(held)
    sorry = declaration.sorry_server
    if sorry is not None:
        role = Role.STANDBY if serves else Role.SORRY
        roles[sorry.key] = role
        if role is Role.SORRY:
            servers.append(sorry)
    return Intent(ServiceState(declaration.service, tuple(servers)), roles)


def _role(verdict: Verdict | None, admin: Admin | None, now: float) -> Role:
    if admin is not None:
        if admin.mode is AdminMode.DISABLED:
            return Role.DISABLED
        return Role.DRAINED if admin.expired(now) else Role.DRAINING
    return _BY_VERDICT[verdict] if verdict is not None else Role.UP
