"""Which VIPs are added and removed: never what kernlb does not own, adds first."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernlb.vip.plan import AddVip, Holding, RemoveVip, plan

A, B, C = (Holding(ip_address(f"192.0.2.{n}"), "eth0") for n in (1, 2, 3))
A_ON_LO = Holding(A.address, "lo")
SETS = st.frozensets(st.sampled_from((A, B, C, A_ON_LO)))


@pytest.mark.parametrize(
    ("wanted", "present", "owned", "ops"),
    [
        ({}, set(), set(), []),
        ({A: "eth0"}, set(), set(), [AddVip(A, "eth0")]),
        ({A: None}, set(), set(), [AddVip(A, None)]),
        ({A: "eth0"}, {A}, set(), []),
        ({A: "eth0"}, {A}, {A}, []),
        ({A: "eth0"}, set(), {A}, [AddVip(A, "eth0")]),
        ({A: None}, {A_ON_LO}, set(), [AddVip(A, None)]),
        ({}, {A}, set(), []),
        ({}, {A}, {A}, [RemoveVip(A)]),
        ({}, set(), {A}, [RemoveVip(A)]),
        ({B: None}, {A}, {A}, [AddVip(B, None), RemoveVip(A)]),
    ],
    ids=[
        "nothing to do",
        "a wanted one is added and announced",
        "one that nobody announces",
        "somebody else's is used as it is",
        "ours stays",
        "ours that went is added again",
        "on another interface it is another",
        "somebody else's stays",
        "ours goes when nobody wants it",
        "ours that went is forgotten",
        "adds come first",
    ],
)
def test_the_plan_of_vips(
    wanted: dict[Holding, str | None],
    present: set[Holding],
    owned: set[Holding],
    ops: list[object],
) -> None:
    assert plan(wanted, present, owned) == ops


@given(SETS, SETS, SETS)
def test_only_what_is_owned_is_removed_and_only_what_is_missing_added(
    wanted: frozenset[Holding], present: frozenset[Holding], owned: frozenset[Holding]
) -> None:
    ops = plan(dict.fromkeys(wanted), present, owned)
    added = [op.vip for op in ops if isinstance(op, AddVip)]
    removed = [op.vip for op in ops if isinstance(op, RemoveVip)]
    assert [*added, *removed] == [op.vip for op in ops]
    assert set(removed) == owned - wanted
    assert set(added) == wanted - present
    assert not plan(dict.fromkeys(wanted), (present | set(added)) - set(removed), owned & wanted)


def test_an_op_prints_as_one_line() -> None:
    assert str(AddVip(A, "eth0")) == "+ vip     192.0.2.1 on eth0"
    assert str(RemoveVip(A)) == "- vip     192.0.2.1 on eth0"
