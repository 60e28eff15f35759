"""Plans: ops print as one line each, and each stands in the stage that keeps traffic flowing."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings

from kernlb.model import (
    AddressKey,
    Forwarding,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    Tunnel,
    TunnelType,
    VirtualService,
)
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
)
from kernlb.reconcile import diff
from tests.unit.states import States, changes

KEY = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
WEB = VirtualService(KEY)
HASHED = replace(
    WEB,
    scheduler=Scheduler.MH,
    flags=frozenset({SchedulerFlag.MH_PORT, SchedulerFlag.MH_FALLBACK}),
    persistence=Persistence(300, 24, "sip"),
)
ONE = RealServer(ip_address("10.0.0.1"), 8080)
FAR = replace(ONE, forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelType.GUE, 6080, True))

PRINTED: list[tuple[Op, Stage, str]] = [
    (AddService(WEB), Stage.MAKE, "+ service tcp/192.0.2.10:80 wlc"),
    (
        AddService(HASHED),
        Stage.MAKE,
        "+ service tcp/192.0.2.10:80 mh flags mh-fallback,mh-port persistence 300s/24 sip",
    ),
    (
        EditService(HASHED, WEB),
        Stage.MAKE,
        "~ service tcp/192.0.2.10:80 scheduler mh -> wlc, flags mh-fallback,mh-port -> none, "
        "persistence 300s/24 sip -> none",
    ),
    (
        EditService(WEB, replace(WEB, one_packet=True)),
        Stage.MAKE,
        "~ service tcp/192.0.2.10:80 one_packet off -> on",
    ),
    (RemoveService(WEB), Stage.BREAK, "- service tcp/192.0.2.10:80"),
    (
        AddServer(KEY, ONE),
        Stage.MAKE,
        "+ server  tcp/192.0.2.10:80 10.0.0.1:8080 weight 1 nat",
    ),
    (
        AddServer(KEY, ONE.with_weight(0)),
        Stage.MAKE,
        "+ server  tcp/192.0.2.10:80 10.0.0.1:8080 weight 0 nat",
    ),
    (
        EditServer(KEY, ONE, FAR),
        Stage.MAKE,
        "~ server  tcp/192.0.2.10:80 10.0.0.1:8080 forwarding nat -> tunnel, "
        "tunnel none -> gue:6080+csum",
    ),
    (
        EditServer(KEY, ONE.with_weight(5), ONE),
        Stage.MAKE,
        "~ server  tcp/192.0.2.10:80 10.0.0.1:8080 weight 5 -> 1",
    ),
    (
        EditServer(KEY, ONE, ONE.with_weight(0)),
        Stage.BREAK,
        "~ server  tcp/192.0.2.10:80 10.0.0.1:8080 weight 1 -> 0",
    ),
    (
        EditServer(KEY, FAR.with_weight(0), ONE.with_weight(0)),
        Stage.MAKE,
        "~ server  tcp/192.0.2.10:80 10.0.0.1:8080 forwarding tunnel -> nat, "
        "tunnel gue:6080+csum -> none",
    ),
    (RemoveServer(KEY, ONE), Stage.BREAK, "- server  tcp/192.0.2.10:80 10.0.0.1:8080"),
]


@pytest.mark.parametrize(("op", "stage", "text"), PRINTED, ids=[row[2] for row in PRINTED])
def test_an_op_prints_as_one_line_and_knows_its_stage(op: Op, stage: Stage, text: str) -> None:
    assert str(op) == text
    assert op.stage is stage


@given(changes())
@settings(max_examples=40, deadline=None)
def test_every_line_of_a_plan_names_its_service(change: tuple[States, States]) -> None:
    observed, desired = change
    plan = diff(desired, observed)
    lines = str(plan).splitlines()
    assert len(lines) == max(1, len(plan))
    assert all(f" {op.key}" in line for op, line in zip(plan, lines, strict=False))
    assert all("  ->" not in line and not line.endswith(" ") for line in lines)


def test_a_plan_of_nothing_says_so_and_is_false() -> None:
    assert not Plan()
    assert str(Plan()) == "no changes"


def test_the_stages_of_a_plan_are_all_of_it() -> None:
    plan = Plan(tuple(op for op, _, _ in PRINTED))
    assert [*plan.stage(Stage.MAKE), *plan.stage(Stage.BREAK)] == sorted(
        plan, key=lambda op: op.stage
    )
