"""diff(desired, observed), held to its promises on the strict fake, whatever the order."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from kernlb.datapath.fake import FakeDatapath, refuse_nth
from kernlb.model import RealServer, ServiceKey, ServiceState, VirtualService
from kernlb.plan import (
    AddService,
    EditService,
    Op,
    Plan,
    RemoveServer,
    RemoveService,
    ServiceOp,
    Stage,
)
from kernlb.reconcile import diff
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
    fake.refuse(refuse_nth(data.draw(st.integers(0, len(plan) - 1), label="refused")))
    send(fake, shuffled(plan, random))
    assert_never_interrupted(fake, observed, desired)
    # and the next look, with nothing in the way, finishes what was begun
    fake.refuse(lambda _number, _op: None)
    send(fake, list(diff(desired, fake.state)))
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


def make_state(key: ServiceKey, weights: Sequence[int | None]) -> States:
    servers = zip(ADDRESSES[key.family], weights, strict=False)
    return {
        key: ServiceState(
            VirtualService(key),
            tuple(RealServer(address, 80, weight) for address, weight in servers if weight),
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


def send(fake: FakeDatapath, ops: Sequence[Op]) -> None:
    """As the loop sends them: no BREAK for a service one of whose ops was refused."""
    refused: set[ServiceKey] = set()
    for stage in Stage:
        sound = [op for op in ops if op.stage is stage and op.key not in refused]
        refused |= {failure.op.key for failure in fake.apply(sound)}


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


def server_of(op: Op) -> object:
    match op:
        case AddService() | EditService() | RemoveService():
            return None
        case _:
            return op.new.key if hasattr(op, "new") else op.server.key
