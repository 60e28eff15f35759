"""Health documents to policies: what verdicts mean to a service, key by key over the host's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec import UNSET

from kernlb.config.duration import seconds
from kernlb.config.errors import Path, Report
from kernlb.config.health_document import DampingDocument, HealthDocument
from kernlb.config.share import share
from kernlb.health.check import Damping, HealthPolicy, WhenAllDown
from kernlb.model import DatapathKind, RealServer

_OFF = Damping(changes=0)


def read_policy(
    document: HealthDocument, usual: HealthPolicy, path: Path, report: Report
) -> HealthPolicy:
    """The policy of a document, where it says nothing that of ``usual``."""
    names = ("on_down", "initial", "quorum", "hysteresis", "withdraw_vip", "when_all_down")
    said: dict[str, Any] = {
        name: getattr(document, name)
        for name in (*names, "passive")
        if getattr(document, name) is not UNSET
    }
    if document.keep is not UNSET and document.depool_threshold is not UNSET:
        report.add(
            (*path, "depool_threshold"), "does not go with keep: they are two words for one thing"
        )
    for keep in (document.keep, document.depool_threshold):
        if keep is not UNSET:
            said["keep"] = share(keep)
    if document.damping is True:
        report.add((*path, "damping"), "must be a mapping, or false, not true")
    elif isinstance(document.damping, DampingDocument):
        said["damping"] = _damping(document.damping, usual.damping, (*path, "damping"), report)
    elif document.damping is False:
        said["damping"] = _OFF
    return replace(usual, **said)


def hold_policy(
    policy: HealthPolicy,
    document: HealthDocument,
    *,
    datapath: DatapathKind,
    has_vip: bool,
    servers: tuple[RealServer, ...],
    has_sorry: bool,
    unchecked: bool,
    report: Report,
) -> HealthPolicy:
    """A service's policy held against the service. What is the host's and cannot be here is left
    out; what is the service's own and cannot be is a fault. ``unchecked``: it has servers, and no
    check of any."""
    if has_sorry and policy.when_all_down is not WhenAllDown.SORRY:
        if document.when_all_down is not UNSET:
            report.add(
                ("health", "when_all_down"),
                f"{policy.when_all_down} does not go with sorry_server, which would never be used",
            )
        policy = replace(policy, when_all_down=WhenAllDown.SORRY)
    if policy.passive and datapath is not DatapathKind.XDP:
        if document.passive is not UNSET:
            report.add(("health", "passive"), "goes with datapath xdp only: IPVS does not tell")
        policy = replace(policy, passive=False)
    if policy.passive and unchecked:
        if document.passive is not UNSET and not report:  # else a check may be what is faulty
            report.add(
                ("health", "passive"),
                "goes with a check only: what clients meet is heard beside probes",
            )
        policy = replace(policy, passive=False)
    if policy.withdraw_vip and not has_vip:
        if document.withdraw_vip is not UNSET:
            report.add(
                ("health", "withdraw_vip"),
                "goes with vip only: this address is not kernlb's to take",
            )
        policy = replace(policy, withdraw_vip=False)
    _hold_quorum(policy, document, servers, report)
    return policy


def _hold_quorum(
    policy: HealthPolicy,
    document: HealthDocument,
    servers: tuple[RealServer, ...],
    report: Report,
) -> None:
    """Where no server weighs anything, nothing is meant to serve yet."""
    needed = policy.quorum + policy.hysteresis
    there = sum(server.weight for server in servers)
    if needed == 1 or not 0 < there < needed:
        return
    key = "quorum" if document.hysteresis is UNSET or policy.quorum > there else "hysteresis"
    sum_ = f"{policy.quorum} + {policy.hysteresis}" if policy.hysteresis else f"{policy.quorum}"
    whose = "" if getattr(document, key) is not UNSET else ", by the host's defaults"
    report.add(
        ("health", key),
        f"asks for more than there is: {sum_}{whose}, and the servers weigh {there} together",
    )


def _damping(document: DampingDocument, usual: Damping, path: Path, report: Report) -> Damping:
    if not usual.changes:
        usual = Damping()
    period = usual.period if document.period is UNSET else seconds(document.period)
    hold = usual.hold if document.hold is UNSET else seconds(document.hold)
    for key, value in (("period", period), ("hold", hold)):
        if not 1 <= value <= 86_400:
            report.add((*path, key), "must be within 1s..1d")
    changes = usual.changes if document.changes is UNSET else document.changes
    return Damping(changes, period, hold)
