"""diff(desired, observed), held to its promises on the strict fake, whatever the order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kernlb.datapath.fake import FakeDatapath, refuse_nth
from kernlb.intent import IN_KERNEL, Intent, Role
from kernlb.model import RealServer, ServerKey, ServiceKey, ServiceState, VirtualService
from kernlb.plan import (
    AddServer,
    AddService,
    Op,
    Plan,
    RemoveServer,
    RemoveService,
    ServiceOp,
    Stage,
    server_of,
)
from kernlb.reconcile import diff, still_due
from tests.unit.states import ADDRESSES, KEYS, States, changes, content, states

Change = tuple[States, States]

property_test = settings(max_examples=40, deadline=None)


@property_test
@given(states())
def test_what_is_as_desired_needs_no_op(held: States) -> None:
    copy = {key: type(state)(state.service, state.servers[::-1]) for key, state in held.items()}
    assert not diff(held, held)
    assert not diff(copy, held)


@property_test
@given(changes())
def test_a_plan_applied_front_to_back_makes_the_kernel_as_desired(change: Change) -> None:
    observed, desired = change
    fake = FakeDatapath(observed.values())
    plan = diff(desired, observed)
    assert [fake.apply([op]) for op in plan] == [[]] * len(plan)
    assert content(fake.state) == content(desired)
    event("the plan has ops" if plan else "there is nothing to do")
    assert_never_interrupted(fake, observed, desired)


@property_test
@given(changes(), st.randoms(use_true_random=False))
def test_any_order_that_the_stages_allow_serves_as_well(change: Change, random: Random) -> None:
    observed, desired = change
    fake = FakeDatapath(observed.values())
    assert fake.apply(shuffled(diff(desired, observed), random)) == []
    assert content(fake.state) == content(desired)
    assert_never_interrupted(fake, observed, desired)


@property_test
@given(changes(), st.randoms(use_true_random=False), st.data())
def test_a_refused_op_takes_nothing_from_a_service(
    change: Change, random: Random, data: st.DataObject
) -> None:
    observed, desired = change
    plan = diff(desired, observed)
    if not plan:
        return
    fake = FakeDatapath(observed.values())
    numbers = st.sets(st.integers(0, len(plan) - 1), min_size=1, max_size=3)
    fake.refuse(refuse_nth(*data.draw(numbers, label="refused")))
    leaving = [role for role, weight in IN_KERNEL.items() if weight != "declared"]
    roles = {
        key: {server: data.draw(st.sampled_from([None, *leaving])) for server in state.by_key()}
        for key, state in observed.items()
    }
    send(fake, shuffled(plan, random), desired, roles)
    assert_never_interrupted(fake, observed, desired)
    # and the next look, with nothing in the way, finishes what was begun
    fake.refuse(lambda _number, _op: None)
    send(fake, list(diff(desired, fake.state)), desired, roles)
    assert content(fake.state) == content(desired)


@property_test
@given(changes())
def test_a_plan_names_only_what_changes(change: Change) -> None:
    observed, desired = change
    plan = diff(desired, observed)
    assert len({(type(op), op.key, server_of(op)) for op in plan}) == len(plan)
    for op in plan:
        assert content(observed).get(op.key) != content(desired).get(op.key)
        if isinstance(op, AddService | RemoveService):
            assert (op.key in desired) != (op.key in observed)
    stages = [op.stage for op in plan]
    assert stages == sorted(stages)


def test_a_service_that_goes_takes_its_servers_along_in_one_op() -> None:
    key = KEYS[0]
    state = next(iter(make_state(key, weights=(1, 2)).values()))
    assert list(diff({}, {key: state})) == [RemoveService(state.service)]


def test_the_last_server_is_replaced_before_it_is_removed() -> None:
    key = KEYS[0]
    observed, desired = make_state(key, weights=(1, None)), make_state(key, weights=(None, 1))
    add, remove = diff(desired, observed)
    assert str(add) == f"+ server  {key} 10.0.0.2:80 weight 1 nat"
    assert isinstance(remove, RemoveServer)


def due(
    roles: Mapping[int, Role], held: Sequence[int | None], desired: Sequence[int | None]
) -> list[str]:
    """The hosts that still go when a server was refused. Weights by host, from 0; None: no such
    server."""
    key = KEYS[0]
    observed, wanted = make_state(key, weights=held), make_state(key, weights=desired)[key]
    breaks = diff({key: wanted}, observed).stage(Stage.BREAK)
    refused = AddServer(key, RealServer(ip_address("10.0.0.99"), 80))
    named = {ServerKey(ADDRESSES[key.family][host], 80): role for host, role in roles.items()}
    sent = still_due(breaks, [refused], Intent(wanted, named), observed[key])
    return [str(server.address) for op in sent if (server := server_of(op)) is not None]


@pytest.mark.parametrize(
    ("roles", "held", "desired", "gone"),
    [
        pytest.param({0: Role.DOWN}, (1, 1), (None, 1), ["10.0.0.1"], id="dead"),
        pytest.param({0: Role.INHIBITED}, (1, 1), (0, 1), ["10.0.0.1"], id="dead, inhibited"),
        pytest.param({0: Role.DISABLED}, (1, 1), (None, 1), ["10.0.0.1"], id="disabled"),
        pytest.param({0: Role.DRAINED}, (0, 1), (None, 1), ["10.0.0.1"], id="drained"),
        pytest.param({0: Role.STANDBY}, (1, 1), (None, 1), ["10.0.0.1"], id="sorry"),
        pytest.param({}, (1, 1), (None, 1), [], id="no longer declared"),
        pytest.param({0: Role.UP}, (1, 1), (0, 1), [], id="declared with weight 0"),
        pytest.param({0: Role.DOWN}, (1, None), (None, 1), [], id="nothing instead"),
        pytest.param({0: Role.DOWN}, (1, 0), (None, 1), [], id="nothing with a weight instead"),
        pytest.param({0: Role.DOWN}, (1, None), (None, 0), ["10.0.0.1"], id="nobody is to serve"),
    ],
)
def test_a_refused_server_keeps_capacity_and_not_the_dead(
    roles: Mapping[int, Role],
    held: Sequence[int | None],
    desired: Sequence[int | None],
    gone: list[str],
) -> None:
    assert due(roles, held, desired) == gone


def make_state(key: ServiceKey, weights: Sequence[int | None]) -> States:
    servers = zip(ADDRESSES[key.family], weights, strict=False)
    return {
        key: ServiceState(
            VirtualService(key),
            tuple(
                RealServer(address, 80, weight) for address, weight in servers if weight is not None
            ),
        )
    }


def shuffled(plan: Plan, random: Random) -> list[Op]:
    """Another order that the stages allow: a service before its servers, MAKE before BREAK."""
    ordered: list[Op] = []
    for stage in Stage:
        ops = list(plan.stage(stage))
        random.shuffle(ops)
        first = {op.key: op for op in ops if isinstance(op, ServiceOp)}
        for op in ops:
            leader = first.pop(op.key, None)
            if leader is not None:
                ordered.append(leader)
            if op is not leader and op not in ordered:
                ordered.append(op)
    assert sorted(map(str, ordered)) == sorted(map(str, plan))
    return ordered


Roles = Mapping[ServiceKey, Mapping[ServerKey, Role | None]]


def send(fake: FakeDatapath, ops: Sequence[Op], desired: States, roles: Roles) -> None:
    """As the loop sends them. ``roles`` are those of servers that are out, None: not declared."""
    refused: dict[ServiceKey, list[Op]] = {}
    for failure in fake.apply([op for op in ops if op.stage is Stage.MAKE]):
        refused.setdefault(failure.op.key, []).append(failure.op)
    breaks = [op for op in ops if op.stage is Stage.BREAK]
    fake.apply([op for op in breaks if op.key not in refused])
    for key, failed in refused.items():
        own = [op for op in breaks if op.key == key]
        fake.apply(still_due(own, failed, intent(desired[key], roles), fake.state.get(key)))


def intent(desired: ServiceState, roles: Roles) -> Intent:
    out = {server: role for server, role in roles.get(desired.key, {}).items() if role}
    serves = {server.key: Role.UP for server in desired.servers if server.weight}
    return Intent(desired, out | serves)


def assert_never_interrupted(fake: FakeDatapath, observed: States, desired: States) -> None:
    """At every state on the way, unchanged servers are there and serving services serve."""
    kept = observed.keys() & desired.keys()
    unchanged = {
        (key, server)
        for key in kept
        for server in set(observed[key].servers) & set(desired[key].servers)
    }
    serving = [key for key in kept if observed[key].serves and desired[key].serves]
    for held in fake.history:
        assert kept <= held.keys()
        assert all(held[key].by_key().get(server.key) == server for key, server in unchanged)
        assert all(held[key].serves for key in serving)
