"""XDP chooses as IPVS does: both run here, side by side, and get the same packets and changes.

What IPVS is expected to do is written down nowhere here: it does it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from kernlb.model import AddressKey, Forwarding, L4Protocol, Scheduler, SchedulerFlag
from tests.netns.choices.ground import Ground, fresh_vip
from tests.netns.choices.hashing import CLIENTS, TABLES, Hashing, by_client
from tests.netns.choices.sides import IPVSSide, Side, XDPSide
from tests.netns.choices.story import TURNS, Story

pytestmark = pytest.mark.ipvs

Sides = tuple[Side, ...]  # IPVS, XDP
WAYS = {
    "dsr, IPv4": (L4Protocol.TCP, Forwarding.DSR, 4, 240),
    "nat, IPv6": (L4Protocol.TCP, Forwarding.NAT, 6, 200),
    "nat, IPv4, UDP": (L4Protocol.UDP, Forwarding.NAT, 4, 160),
}


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    name = f"choices-{os.getpid()}"
    with Ground(f"{name}-ipvs") as one, Ground(f"{name}-xdp") as other:
        ipvs, xdp = IPVSSide(one), XDPSide(other, Path(f"/sys/fs/bpf/{name}"))
        yield ipvs, xdp
        ipvs.close()
        xdp.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheduler", TURNS)
def test_the_same_story_ends_the_same(sides: Sides, scheduler: Scheduler, way: str) -> None:
    protocol, forwarding, version, steps = WAYS[way]
    key = AddressKey(protocol, fresh_vip(version), 80)
    story = Story(sides, key, scheduler, forwarding, seed=TURNS.index(scheduler))
    story.tell(steps)
    assert story.decided > steps / 6


def test_a_scheduler_that_takes_over_finds_things_as_ipvs_does(sides: Sides) -> None:
    key = AddressKey(L4Protocol.TCP, fresh_vip(6), 80)
    story = Story(sides, key, Scheduler.WRR, Forwarding.DSR, seed=7)
    story.tell(240, story.reschedule, story.reschedule)


def test_a_connection_that_begins_again_is_scheduled_beside_the_old_one(sides: Sides) -> None:
    key = AddressKey(L4Protocol.TCP, fresh_vip(4), 80)
    story = Story(sides, key, Scheduler.LC, Forwarding.NAT, seed=1)
    for act in (partial(story.add, 1), story.arrive, story.reset):
        act()
        act()
    first, second = story.open
    story.begin_again(second)
    story.begin_again(first)
    story.all.compare()


@pytest.mark.parametrize("version", (4, 6))
@pytest.mark.parametrize("weights", ((1, 1, 1, 1), (1, 2, 5, 10)), ids=("equal", "by weight"))
@pytest.mark.parametrize("scheduler", TABLES)
def test_a_client_has_one_server_and_it_is_the_one_that_kernlb_computes(
    sides: Sides, scheduler: Scheduler, weights: Sequence[int], version: int
) -> None:
    hashing = Hashing(sides, fresh_vip(version), scheduler, weights)
    ipvs, xdp = hashing.ask()
    assert xdp == ipvs == hashing.predicted(ipvs)
    later, later_xdp = hashing.ask()  # from other ports
    assert by_client(later_xdp) == by_client(later) == by_client(ipvs)
    for answers in (ipvs, xdp):
        shares = Counter(answers.values())
        for server in hashing.servers:
            fair = CLIENTS * server.weight / sum(weights)
            assert abs(shares[server.key] - fair) < max(8, fair * 0.5), shares


@pytest.mark.parametrize("scheduler", TABLES)
def test_with_the_port_flag_every_connection_hashes_by_itself(
    sides: Sides, scheduler: Scheduler
) -> None:
    flag = SchedulerFlag(f"{scheduler}-port")
    hashing = Hashing(sides, fresh_vip(4), scheduler, (1, 2, 3, 4), [flag])
    ipvs, xdp = hashing.ask()
    assert xdp == ipvs == hashing.predicted(ipvs, by_port=True)
    later, later_xdp = hashing.ask()
    assert by_client(later_xdp) == by_client(later) != by_client(ipvs)


@pytest.mark.parametrize("fallback", (False, True), ids=("refuses", "falls back"))
@pytest.mark.parametrize("scheduler", TABLES)
def test_the_clients_of_a_drained_server(
    sides: Sides, scheduler: Scheduler, fallback: bool
) -> None:
    flags = [SchedulerFlag(f"{scheduler}-fallback")] if fallback else []
    hashing = Hashing(sides, fresh_vip(4), scheduler, (1, 3, 2, 1), flags)
    before = hashing.ask()[0]
    drained = hashing.weigh(hashing.servers[1], 0).key
    ipvs, xdp = map(by_client, hashing.ask())
    assert xdp == ipvs
    assert drained not in ipvs.values()
    assert (None in ipvs.values()) is not fallback
    hashing.weigh(hashing.servers[1], 3)
    for answers in hashing.ask():
        assert by_client(answers) == by_client(before)


def test_maglev_moves_hardly_any_client_but_those_of_the_server_that_goes(sides: Sides) -> None:
    hashing = Hashing(sides, fresh_vip(4), Scheduler.MH, (1, 1, 1, 1, 1, 1))
    before = [by_client(answers) for answers in hashing.ask()]
    gone = hashing.servers[2]
    hashing.remove(gone)
    after = [by_client(answers) for answers in hashing.ask()]
    assert before[0] == before[1] and after[0] == after[1]
    for was, now in zip(before, after, strict=True):
        moved = [source for source in was if was[source] not in (gone.key, now[source])]
        assert len(moved) < CLIENTS * 0.05


@pytest.mark.parametrize("weights", ((300, 100, 200), (65535, 1, 4096)))
def test_source_hashing_gives_shares_by_weights_that_are_too_heavy_for_ipvs(
    sides: Sides, weights: Sequence[int]
) -> None:
    """IPVS's table has 256 buckets; in XDP it grows."""
    hashing = Hashing(sides[1:], fresh_vip(4), Scheduler.SH, weights)
    (answers,) = hashing.ask()
    shares = Counter(answers.values())
    for server in hashing.servers:
        fair = CLIENTS * server.weight / sum(weights)
        assert abs(shares[server.key] - fair) < max(8, fair * 0.3), shares
