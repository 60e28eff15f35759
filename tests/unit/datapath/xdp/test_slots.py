"""What is free in the maps, and when it may be used again."""

from __future__ import annotations

from random import Random

import pytest

from kernlb.datapath.xdp.layout import Run
from kernlb.datapath.xdp.slots import EMPTY, REST, SHORTEST_REST, Runs, ServerIds, ServiceIds


def test_runs_do_not_overlap_and_all_room_is_used_in_the_end() -> None:
    random, now, size = Random(1), 0.0, 5000
    runs, taken = Runs(size), list[Run]()
    for _ in range(300):
        now += random.choice((0.0, 0.3, REST))
        if taken and random.random() < 0.5:
            runs.rest(taken.pop(random.randrange(len(taken))), now)
        elif (run := runs.take(random.randint(1, 200), now)) is not None:
            taken.append(run)
        places = [place for run in taken for place in range(run.first, run.first + run.count)]
        assert len(places) == len(set(places))
        assert all(0 <= place < size for place in places)
    for run in taken:
        runs.rest(run, now)
    assert runs.take(size, now + REST) == Run(0, size)


def test_a_freed_run_rests_for_a_second() -> None:
    runs = Runs(8)
    runs.rest(runs.take(4, 0.0) or EMPTY, 0.0)
    assert runs.take(4, 0.5) == Run(4, 4)
    assert runs.take(4, REST) == Run(0, 4)


def test_under_pressure_a_run_rests_for_a_moment_only() -> None:
    runs = Runs(4)
    runs.rest(runs.take(4, 0.0) or EMPTY, 0.0)
    assert runs.take(4, SHORTEST_REST / 2) is None
    assert runs.take(4, SHORTEST_REST) == Run(0, 4)


def test_no_entries_take_no_room() -> None:
    assert Runs(0).take(0, 0.0) == EMPTY


@pytest.mark.parametrize("seed", range(5))
def test_runs_that_are_found_in_use_stay(seed: int) -> None:
    random, used = Random(seed), list[Run]()
    at = 0
    while at < 900:
        at += random.randint(0, 30)
        used.append(Run(at, random.randint(1, 50)))
        at += used[-1].count
    runs = Runs(1000, random.sample([*used, EMPTY], len(used) + 1))
    assert runs.free == 1000 - sum(run.count for run in used)
    busy = {place for run in used for place in range(run.first, run.first + run.count)}
    while (run := runs.take(1, 0.0)) is not None:
        assert run.first not in busy
        busy.add(run.first)
    assert busy == set(range(1000))


def test_ids_of_services_come_back_after_a_rest() -> None:
    ids = ServiceIds(3, used=[1])
    assert [ids.take(0.0), ids.take(0.0), ids.take(0.0)] == [0, 2, None]
    ids.rest(1, 0.0)
    assert ids.take(REST) == 1


def test_an_id_of_a_server_comes_back_when_a_whole_sweep_has_passed() -> None:
    ids = ServerIds(2)
    assert (ids.take(), ids.take(), ids.take()) == (0, 1, None)
    ids.rest([0])
    ids.sweep_begins()
    ids.rest([1])  # too late for this one
    assert ids.take() is None
    ids.sweep_ended()
    assert (ids.take(), ids.take()) == (0, None)
    ids.sweep_begins()
    ids.sweep_ended()
    assert ids.take() == 1


def test_ids_that_were_never_servers_come_first() -> None:
    ids = ServerIds(6, used=[0, 3], left=[2])
    assert [ids.take() for _ in range(4)] == [4, 5, 1, None]
    assert ids.resting == 1
