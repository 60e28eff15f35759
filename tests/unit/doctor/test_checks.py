"""The tables of checks: sound in themselves, and each row provoked where mistakes are made."""

from __future__ import annotations

import re

import pytest

from kernlb.doctor import balancer, server
from kernlb.doctor.finding import Check
from tests.netns.doctor import rows_guest, rows_host
from tests.netns.doctor.test_balancer_ipvs import ONE_BY_ONE

ALL = (*balancer.CHECKS, *server.CHECKS)

# Not provoked in a lab, and why. Each is found in facts made by hand (test_unprovoked).
UNPROVOKED = {
    "xdp-lro": "no device of a lab has large receive offload",
    "bpf-jit-off": "stock kernels are built so that the JIT cannot be switched off",
    "backlog-drops": "a lab's packets are taken in one by one",
    "run-estimation-off": "the sysctl is not in all kernels that the labs run on",
    "service-failed": "what a kernel refuses, kernlb refuses before it",
    "datapath-missing": "kernlbd refuses services of a datapath that it has not",
}


def provoked() -> set[str]:
    """Ids of a balancer that a lab test breaks and finds."""
    batches = [row.id for batch in rows_guest.BATCHES.values() for row in batch]
    alone = [id for id, _ in (*rows_guest.DEVICES, *ONE_BY_ONE)]
    return {*(row.id for row in rows_host.ROWS), *rows_host.BESIDE, *batches, *alone}


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.id)
def test_a_check_says_what_it_means_why_it_matters_and_what_to_do(check: Check) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", check.id)
    assert check.means.endswith(".")
    assert check.why.endswith(".")
    assert check.remedy
    assert "\n" not in check.means + check.why + check.remedy


def test_no_two_checks_of_a_side_share_an_id() -> None:
    for side in (balancer.CHECKS, server.CHECKS):
        ids = [check.id for check in side]
        assert len(ids) == len(set(ids))


def test_every_check_of_a_balancer_is_provoked_in_a_lab_or_says_why_not() -> None:
    ids = {check.id for check in balancer.CHECKS}
    assert provoked() <= ids, sorted(provoked() - ids)
    assert ids - provoked() == set(UNPROVOKED)
    print(f"\n{len(provoked())} of {len(ids)} findings of a balancer are provoked in a lab")
