"""Declarations to text that ``ipvsadm -R`` takes; what ipvsadm has no word for is named.

Weights are those that were declared: what a drain or a check made of them is in
``kernlb ipvsadm -S``. The text has no comments, for ``ipvsadm -R`` takes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kernlb.declaration import Declaration
from kernlb.health.check import HealthPolicy
from kernlb.migrate.ipvsadm import rules
from kernlb.migrate.ipvsadm.making import LABEL
from kernlb.migrate.ipvsadm.names import Names
from kernlb.migrate.report import Loss, Place, Report
from kernlb.model import DatapathKind, Forwarding, ServiceState


class Written(NamedTuple):
    """The text, and what is not in it."""

    text: str
    losses: tuple[Loss, ...]


def write_rules(declarations: Mapping[str, Declaration], names: Names) -> Written:
    """All services, in ipvsadm's order."""
    report = Report()
    states: dict[int, ServiceState] = {}
    for name in sorted(declarations):
        declaration = declarations[name]
        place = Place(declaration.source)
        for what, why in _lost(declaration):
            report.lost(what, why, place, name)
        for what, why in _changed(declaration):
            report.changed(what, why, place, name)
        kept = [each for each in declaration.servers if each.forwarding is not Forwarding.FULLNAT]
        states[id(declaration)] = ServiceState(declaration.service, tuple(kept))
    lines = [
        line
        for state in rules.services_in_order(list(states.values()))
        for line in rules.lines(state, names, restorable=True)
    ]
    return Written("".join(f"{line}\n" for line in lines), report.losses)


def _lost(declaration: Declaration) -> Iterator[tuple[str, str]]:
    """What a document says and ipvsadm cannot."""
    for server in declaration.servers:
        if server.forwarding is Forwarding.FULLNAT:
            yield f"server {server.key}", "IPVS has no forwarding fullnat"
    for server in declaration.sorry_servers:
        yield f"sorry_server {server.key}", "ipvsadm has no servers that wait"
    if declaration.watches:
        count = len(declaration.watches)
        yield "check", f"ipvsadm checks no servers ({count} are checked)"
    if declaration.health != HealthPolicy():
        yield "health", "ipvsadm knows of no verdicts"
    if declaration.vip is not None:
        where = f"{declaration.address} on {declaration.vip.interface}"
        yield f"vip {where}", "ipvsadm puts no addresses: ip address add"
    if declaration.drain_timeout is not None:
        yield "drain_timeout", "ipvsadm drains by weight 0, without a deadline"
    if declaration.labels.items() - LABEL.items() or declaration.server_labels:
        yield "labels", "ipvsadm has none"


def _changed(declaration: Declaration) -> Iterator[tuple[str, str]]:
    if declaration.datapath is DatapathKind.XDP:
        yield "datapath xdp", "becomes IPVS"
