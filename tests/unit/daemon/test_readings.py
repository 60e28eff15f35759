"""Two readings make rates, many a history: whatever counters do in between."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kernlb.daemon.readings import HISTORY, SLOTS, Reading, Track
from kernlb.daemon.shares import promised
from kernlb.datapath import Counters, ServerStats, ServiceStats
from kernlb.model import Scheduler, ServerKey

ONE, TWO, THREE = (ServerKey(ip_address(f"10.0.0.{last}"), 80) for last in (1, 2, 3))


def reading(time: float, **connections: int) -> Reading:
    """Servers by name with so many connections so far, 100 bytes each way a connection."""
    keys = {"one": ONE, "two": TWO, "three": THREE}
    servers = {
        keys[name]: ServerStats(Counters(count, 0, 0, 100 * count, 0), active=count % 10)
        for name, count in connections.items()
    }
    total = sum(connections.values())
    return Reading(time, ServiceStats(Counters(total, 0, 0, 100 * total, 0), servers))


def test_rates_are_what_was_counted_by_the_second() -> None:
    track = Track(reading(10.0, one=5, two=0), 1)
    track.hear(reading(14.0, one=25, two=2), 1)
    assert track.rates == (5.5, 0.0, 0.0, 550.0, 0.0)
    assert list(track.rates_of(0)) == [5.0, 0.0, 0.0, 500.0, 0.0]
    assert list(track.rates_of(1)) == [0.5, 0.0, 0.0, 50.0, 0.0]
    assert track.begun(1) == [20, 2]
    track.hear(reading(18.0, one=25, two=2), 1)
    assert not any(track.rates)
    assert not any(track.server_rates)
    assert track.begun(1) == [20, 2]


def test_counters_that_began_anew_count_from_zero() -> None:
    track = Track(reading(10.0, one=1000), 1)
    track.hear(reading(12.0, one=6), 1)
    assert track.rates[0] == 3.0
    assert track.begun(1) == [6]


def test_servers_that_come_and_go_leave_the_others_theirs() -> None:
    track = Track(reading(10.0, one=10, two=20), 1)
    track.hear(reading(12.0, one=14, two=22), 1)
    track.hear(reading(14.0, two=26, three=500), 1)
    assert track.begun(1) == [6, 0]  # three may have counted before we looked
    assert track.rates_of(0)[0] == 2.0
    assert track.rates_of(1)[0] == 0.0
    track.hear(reading(16.0, two=26, three=510), 1)
    assert track.begun(1) == [6, 10]


def test_the_window_forgets_part_by_part() -> None:
    track = Track(reading(0.0, one=0), 1)
    for part in range(1, SLOTS + 3):
        track.hear(reading(float(part), one=10 * part), part)
    assert track.begun(SLOTS + 2) == [10 * SLOTS]
    assert track.begun(SLOTS + 4) == [10 * (SLOTS - 2)]
    assert sum(track.begun(3 * SLOTS)) == 0
    track.hear(reading(99.0, one=1000), 3 * SLOTS)  # nobody looked for a while
    assert track.begun(3 * SLOTS) == [1000 - 10 * (SLOTS + 2)]


def test_a_clock_that_stands_still_or_goes_back_makes_no_rates() -> None:
    track = Track(reading(10.0, one=5), 1)
    track.hear(reading(10.0, one=9), 1)
    track.hear(reading(3.0, one=9), 1)
    assert track.rates[0] == 0.0
    assert track.latest.time == 10.0


def test_history_is_bounded_and_oldest_first() -> None:
    track = Track(reading(0.0, one=0), 1)
    for second in range(1, HISTORY + 50):
        track.hear(reading(float(second), one=second * second), 1)
    times = [moment[0] for moment in track.history()]
    assert times == [float(each) for each in range(50, HISTORY + 50)]
    assert [moment[0] for moment in track.history(2)] == times[-2:]
    assert next(track.history(1))[1] == 2 * (HISTORY + 49) - 1


@pytest.mark.parametrize(
    ("scheduler", "weights", "shares"),
    [
        (Scheduler.WRR, [3, 1], [0.75, 0.25]),
        (Scheduler.WLC, [1, 0], [1.0, 0.0]),
        (Scheduler.MH, [1, 1], [0.5, 0.5]),
        (Scheduler.RR, [3, 1, 0], [0.5, 0.5, 0.0]),
        (Scheduler.LC, [9, 9, 1], [0.333333] * 3),
        (Scheduler.FO, [2, 5, 5], [0.0, 1.0, 0.0]),
        (Scheduler.FO, [0, 0], [0.0, 0.0]),
        (Scheduler.WRR, [0, 0], [0.0, 0.0]),
        (Scheduler.SH, [], []),
    ],
)
def test_a_share_is_promised_by_weight_as_the_scheduler_takes_it(
    scheduler: Scheduler, weights: list[int], shares: list[float]
) -> None:
    assert promised(scheduler, weights) == shares
