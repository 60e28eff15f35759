"""Tables of sh and mh: IPVS's where its size will do, larger where it will not."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest

from kernlb.datapath.xdp.layout import Schedule
from kernlb.datapath.xdp.tables import MAGLEV_SIZES, maglev_size, table
from kernlb.model import Family, ServerKey
from kernlb.schedule import maglev, source_hash


def pool(*weights: int) -> list[tuple[ServerKey, int]]:
    first = int(IPv4Address("10.0.0.1"))
    return [(ServerKey(IPv4Address(first + n), 80), weight) for n, weight in enumerate(weights)]


@pytest.mark.parametrize("weights", [(1,), (1, 2, 3), (5, 0, 5), (100, 200, 300), (1,) * 200])
def test_small_services_have_the_tables_of_ipvs(weights: tuple[int, ...]) -> None:
    servers = pool(*weights)
    keys = [key for key, _ in servers]
    assert [keys[at] for at in table(Schedule.MH, servers, Family.IPV4)] == maglev.table(
        servers, Family.IPV4
    )
    if sum(weights) <= 256:
        assert [keys[at] for at in table(Schedule.SH, servers, Family.IPV4)] == source_hash.table(
            servers, Family.IPV4
        )


@pytest.mark.parametrize("scheduler", [Schedule.RR, Schedule.WRR, Schedule.LC, Schedule.WLC])
def test_others_have_none(scheduler: Schedule) -> None:
    assert table(scheduler, pool(1, 2), Family.IPV4) == []


@pytest.mark.parametrize("scheduler", [Schedule.SH, Schedule.MH])
def test_no_servers_have_no_table(scheduler: Schedule) -> None:
    assert table(scheduler, [], Family.IPV4) == []


@pytest.mark.parametrize(
    ("servers", "size"),
    [(1, 4093), (255, 4093), (256, 8191), (1023, 16381), (4095, 65521), (100_000, 65521)],
)
def test_maglev_grows_with_the_servers(servers: int, size: int) -> None:
    assert maglev_size(servers) == size
    assert size in MAGLEV_SIZES


@pytest.mark.parametrize("scheduler", [Schedule.SH, Schedule.MH])
def test_each_of_4096_servers_has_its_share(scheduler: Schedule) -> None:
    slots = table(scheduler, pool(*[1] * 4096), Family.IPV4)
    counted = Counter(slots)
    assert len(counted) == 4096
    assert max(counted.values()) - min(counted.values()) <= 1


@pytest.mark.parametrize(
    ("weights", "size"),
    [
        ((300, 600, 300), 256),  # 1, 2, 1
        ((1, 65535), 65536),
        ((65535, 65535, 65534), 65536),
        ((3,) * 1000, 1024),
        ((7, 11) * 100, 2048),
    ],
)
def test_sh_has_room_for_every_weight(weights: tuple[int, ...], size: int) -> None:
    slots = table(Schedule.SH, pool(*weights), Family.IPV4)
    assert len(slots) == size
    counted = Counter(slots)
    for place, weight in enumerate(weights):
        fair = size * weight / sum(weights)
        assert fair / 2 - 1 <= counted[place] <= 2 * fair + 1


def test_a_server_that_leaves_a_large_mh_service_moves_few_slots_of_the_others() -> None:
    servers = pool(*[1] * 1000)
    keys = [key for key, _ in servers]
    before = [keys[at] for at in table(Schedule.MH, servers, Family.IPV4)]
    after = [keys[at + 1] for at in table(Schedule.MH, servers[1:], Family.IPV4)]
    others = [(was, now) for was, now in zip(before, after, strict=True) if was != keys[0]]
    assert sum(was != now for was, now in others) / len(others) < 0.02
