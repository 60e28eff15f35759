"""What cannot be read is never called clean; the worst comes first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernlb.doctor.balancer import CHECKS
from kernlb.doctor.daemon import Daemon
from kernlb.doctor.examining import examine
from kernlb.doctor.facts import Facts, UnreadError, gather
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.netfilter import Ruleset
from kernlb.doctor.sysctls import Sysctls
from tests.unit.doctor.made import facts


def check(id: str, severity: Severity, find: object) -> Check:
    return Check(id, severity, "It is.", "It is.", "none", find)


def test_a_check_without_its_facts_is_not_checked() -> None:
    report = examine(CHECKS, facts().lacking(Ruleset, "nft is not installed"))
    ids = {each.check.id: each.why for each in report.not_checked}
    assert ids["ct-invalid-drop"] == "nft is not installed"
    assert "ct-invalid-drop" not in {each.id for each in report.clean}


def test_what_was_found_before_the_facts_ran_out_is_kept() -> None:
    def find(_: Facts) -> Iterator[Finding]:
        yield Finding("eth0", "seen")
        raise UnreadError("denied")

    report = examine([check("half-seen", Severity.NOTE, find)], Facts())
    assert [each.check.id for each in report.found] == ["half-seen"]
    assert [each.why for each in report.not_checked] == ["denied"]


def test_the_worst_comes_first_and_equals_keep_their_order() -> None:
    def find(_: Facts) -> list[Finding]:
        return [Finding("it", "seen")]

    rows = [("a", "note"), ("b", "error"), ("c", "warning"), ("d", "error")]
    report = examine([check(f"x-{id}", Severity(s), find) for id, s in rows], Facts())
    assert [each.check.id for each in report.found] == ["x-b", "x-d", "x-c", "x-a"]
    assert report.worst is Severity.ERROR


def test_a_reader_that_fails_leaves_a_reason_and_the_others_go_on() -> None:
    def denied(_: Facts) -> Sysctls:
        raise PermissionError(13, "Permission denied", "/proc/sys/x")

    read = gather([(Sysctls, denied), (Ruleset, lambda _: Ruleset())])
    assert read[Ruleset] == Ruleset()
    with pytest.raises(UnreadError, match="/proc/sys/x: Permission denied"):
        read[Sysctls]


def test_every_check_of_a_balancer_survives_a_host_that_tells_nothing() -> None:
    report = examine(CHECKS, Facts())
    assert not report.found
    assert len(report.not_checked) == len(CHECKS)


def test_a_balancer_without_services_has_nothing_that_could_be_wrong_with_them() -> None:
    from kernlb.doctor.services import Declared

    assert not examine(CHECKS, facts(Declared())).found


def test_who_may_not_ask_the_daemon_does_not_call_it_dead() -> None:
    daemon = Daemon(False, "/run/s", "permission denied", denied=True)
    report = examine(CHECKS, facts(daemon))
    assert "daemon-silent" in {each.check.id for each in report.not_checked}
    silent = examine(CHECKS, facts(Daemon(False, "/run/s", "no such socket")))
    assert "daemon-silent" in {each.check.id for each in silent.found}
