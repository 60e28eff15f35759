"""intent(declaration, standings, admin): what the kernel should hold for one service.

Pure. Three voices are heard, in this order:

1. the declaration says which servers there are and what they weigh;
2. an operator may drain or disable a server (``Admin``); that outranks any verdict;
3. the health monitor's verdicts take servers out or bring them back (``Standing``).

When no server of the service can take a connection, the sorry servers join with their own weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from kernlb.declaration import Declaration
from kernlb.model import RealServer, ServerKey, ServiceState


class Verdict(StrEnum):
    """What the health policy says of a server. No verdict at all counts as UP."""

    UP = "up"
    WAITING = "waiting"  # new, and not found good yet: not in the kernel
    DOWN = "down"  # out of the kernel
    INHIBITED = "inhibited"  # in the kernel with weight 0
    KEPT = "kept"  # bad, and kept all the same: too few would be left
    SPARED = "spared"  # good, and out all the same: the service is below its quorum
    LEAVING = "leaving"  # asks to be drained


class Standing(NamedTuple):
    """A verdict, and the share of the declared weight in percent that the server is to have."""

    verdict: Verdict
    percent: int = 100


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
    WAITING = "waiting"
    DOWN = "down"
    INHIBITED = "inhibited"
    KEPT = "kept"
    SPARED = "spared"
    LEAVING = "leaving"
    SORRY = "sorry"
    STANDBY = "standby"


# The weight of each role in the kernel: None = not there, "declared" = as declared.
IN_KERNEL: dict[Role, str | int | None] = {
    Role.UP: "declared",
    Role.DRAINING: 0,
    Role.DRAINED: None,
    Role.DISABLED: None,
    Role.WAITING: None,
    Role.DOWN: None,
    Role.INHIBITED: 0,
    Role.KEPT: "declared",
    Role.SPARED: 0,
    Role.LEAVING: 0,
    Role.SORRY: "declared",
    Role.STANDBY: None,
}

_BY_VERDICT = {verdict: Role(verdict.value) for verdict in Verdict}

Standings = Mapping[ServerKey, Standing]
Admins = Mapping[ServerKey, Admin]


@dataclass(frozen=True, slots=True)
class Intent:
    """``state`` is what the kernel should hold; ``roles`` say why, for every declared server."""

    state: ServiceState
    roles: Mapping[ServerKey, Role]


def intend(declaration: Declaration, standings: Standings, admin: Admins, now: float) -> Intent:
    """The intent for one service. ``now`` in seconds since the epoch."""
    roles: dict[ServerKey, Role] = {}
    servers: list[RealServer] = []
    serves = False
    heard = bool(standings or admin)
    for server in declaration.servers:
        standing = standings.get(server.key) if heard else None
        role = _role(standing, admin.get(server.key), now) if heard else Role.UP
        roles[server.key] = role
        weight = IN_KERNEL[role]
        if weight is None:
            continue
        if weight == "declared":
            percent = 100 if standing is None else standing.percent
            held = server if percent == 100 else server.with_weight(scaled(server.weight, percent))
        else:
            held = server.with_weight(int(weight))
        serves = serves or held.weight > 0
        servers.append(held)
    for sorry in declaration.sorry_servers:
        roles[sorry.key] = Role.STANDBY if serves else Role.SORRY
        if not serves:
            servers.append(sorry)
    return Intent(ServiceState(declaration.service, tuple(servers)), roles)


def scaled(weight: int, percent: int) -> int:
    """A share of a weight; 0 only where either is 0."""
    return max(1, round(weight * percent / 100)) if weight and percent else 0


def _role(standing: Standing | None, admin: Admin | None, now: float) -> Role:
    if admin is not None:
        if admin.mode is AdminMode.DISABLED:
            return Role.DISABLED
        return Role.DRAINED if admin.expired(now) else Role.DRAINING
    return _BY_VERDICT[standing.verdict] if standing is not None else Role.UP
