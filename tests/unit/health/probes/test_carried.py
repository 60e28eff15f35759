"""Asked at the VIP, and at its own address where that tells a dead server from a wrong way."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from kernlb.health.check import Carried, Target, TcpCheck, Way
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.probes.carried import PATIENCE, judge
from tests.unit.health.probes.far_ends import (
    HERE,
    ask,
    closed_port,
    full_backlog,
    no_sockets_left,
    says,
    serving,
)

VIP, SERVER = ip_address("192.0.2.10"), ip_address("10.0.0.1")
CARRIED = Carried(1, VIP, hint="is it on its lo?")
TARGET = Target(SERVER, 80, carried=CARRIED)
TIMEOUT = 1.0

SILENT, REFUSED = Outcome.CONNECT_TIMEOUT, Outcome.REFUSED
PASSED, WRONG, PATH = Outcome.PASSED, Outcome.WRONG_STATUS, Outcome.PATH_WRONG


@pytest.mark.parametrize(
    ("at_vip", "own", "expected"),
    [
        (SILENT, PASSED, PATH),
        (SILENT, REFUSED, PATH),  # somebody is there, and says so
        (SILENT, SILENT, SILENT),
        (SILENT, WRONG, SILENT),
        (SILENT, Outcome.NOT_ASKED, SILENT),
        (REFUSED, PASSED, PATH),
        (REFUSED, REFUSED, REFUSED),
        (REFUSED, SILENT, REFUSED),
        (Outcome.UNREACHABLE, PASSED, PATH),
        (Outcome.PROTOCOL_UNREACHABLE, REFUSED, PATH),
    ],
)
def test_what_both_say_together(at_vip: Outcome, own: Outcome, expected: Outcome) -> None:
    judged = judge(Result(at_vip, 0.1), Result(own, 0.1), TARGET, CARRIED)
    assert judged.outcome is expected
    assert (str(SERVER) in judged.detail) == (expected is PATH)
    assert judged.outcome.opinion is Opinion.BAD


def carried(vip_port: int, own_port: int, way: Way | None = None) -> Target:
    """The VIP is an address of ours here: the two are told apart by their ports."""
    here = ip_address(HERE)
    look = (lambda: way) if way is not None else None
    path = Carried(0, here, here, look, "is it on its lo?")
    return Target(here, own_port, service_port=vip_port, carried=path)


def test_a_vip_that_refuses_while_the_server_answers() -> None:
    with serving(says(b"hello")) as port:
        result = ask(TcpCheck(), carried(closed_port(), port), TIMEOUT)
    assert result.outcome is PATH
    assert f"does it listen on {HERE}" in result.detail


def test_a_vip_that_is_silent_while_the_server_answers() -> None:
    with full_backlog() as silent, serving(says(b"hello")) as port:
        result = ask(TcpCheck(), carried(silent, port), TIMEOUT)
    assert result.outcome is PATH
    assert "is it on its lo?" in result.detail
    assert TIMEOUT * 0.9 < result.duration < TIMEOUT * 1.5


def test_both_silent_take_no_longer_than_one() -> None:
    with full_backlog() as silent, full_backlog() as other:
        result = ask(TcpCheck(), carried(silent, other), TIMEOUT)
    assert result.outcome is SILENT
    assert TIMEOUT * PATIENCE < result.duration < TIMEOUT * 1.5


def test_a_good_vip_is_all_that_is_asked() -> None:
    with serving(says(b"hello")) as port, no_sockets_left():
        assert ask(TcpCheck(), carried(port, closed_port()), TIMEOUT).outcome is PASSED


def test_a_path_that_is_not_there_is_not_the_servers_fault() -> None:
    with serving(says(b"hello")) as port:
        result = ask(TcpCheck(), carried(port, port, Way(None, "no way")), TIMEOUT)
    assert (result.outcome, result.detail) == (Outcome.NOT_ASKED, "no way")


def test_one_that_answers_arp_for_the_vip_is_good_and_warned_of() -> None:
    with serving(says(b"hello")) as port:
        way = Way(ip_address(HERE), arp=True)
        result = ask(TcpCheck(), carried(port, port, way), TIMEOUT)
    assert result.outcome is Outcome.ANSWERS_ARP
    assert result.outcome.opinion is Opinion.GOOD


def test_a_path_is_the_same_whatever_its_way_is_now() -> None:
    """Or a source that changes would make another probe of it."""
    other = replace(CARRIED, source=SERVER, look=lambda: Way(None), hint="")
    assert (other, hash(other)) == (CARRIED, hash(CARRIED))
    assert replace(CARRIED, mark=2) != CARRIED
