"""What the fake has beyond the contract: its memory, and what a test may do to it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kernlb.datapath import Counters, Refusal, ServerStats, ServiceStats
from kernlb.datapath.fake import FakeDatapath, refuse_nth
from kernlb.model import AddressKey, L4Protocol, RealServer, ServiceState, VirtualService
from kernlb.plan import AddServer, AddService, RemoveService

WEB = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
A = RealServer(ip_address("10.0.0.2"), 80)
STATE = ServiceState(VirtualService(WEB), (A,))


def test_history_holds_every_state_on_the_way() -> None:
    fake = FakeDatapath()
    fake.apply([AddService(STATE.service), AddServer(WEB, A), RemoveService(STATE.service)])
    empty = ServiceState(STATE.service)
    assert fake.history == [{}, {WEB: empty}, {WEB: STATE}, {}]


def test_history_begins_with_what_was_there() -> None:
    fake = FakeDatapath([STATE])
    fake.drop(WEB)
    assert fake.history == [{WEB: STATE}, {}]


def test_the_nth_op_ever_is_refused() -> None:
    fake = FakeDatapath()
    fake.refuse(refuse_nth(1, refusal=Refusal.NO_MEMORY))
    ops = [AddService(STATE.service), AddServer(WEB, A), AddServer(WEB, A)]
    (failure,) = fake.apply(ops)
    assert (failure.op, failure.refusal) == (ops[1], Refusal.NO_MEMORY)
    assert fake.applied == ops
    assert fake.state == {WEB: STATE}


@pytest.mark.parametrize("change", ["put", "drop"])
def test_changes_behind_the_back_show_in_the_fingerprint(change: str) -> None:
    fake = FakeDatapath([STATE])
    before = fake.fingerprint(WEB)
    if change == "put":
        fake.put(ServiceState(STATE.service))
    else:
        fake.drop(WEB)
    assert fake.fingerprint(WEB) != before


def test_statistics_are_those_that_a_test_has_set() -> None:
    fake = FakeDatapath([STATE])
    stats = ServiceStats(Counters(connections=3), {A.key: ServerStats(active=2)})
    fake.set_stats(WEB, stats)
    assert fake.stats([WEB]) == {WEB: stats}
