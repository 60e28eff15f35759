"""Services of thousands of servers: still IPVS's choices."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.bpf import ipvs
from tests.bpf.network import Network
from tests.bpf.services import Server
from tests.bpf.test_schedulers import Template
from tests.bpf.world import Sizes, World

SERVERS = 4096
ARRIVALS = 60


@pytest.fixture(scope="module")
def _wide(network: Network) -> Iterator[World]:
    world = World(network, Sizes(services=2, servers=SERVERS + 8, members=SERVERS))
    yield world
    world.close()


@pytest.fixture
def wide(_wide: World) -> World:
    _wide.reset()
    return _wide


def story(world: World, scheduler: str, weights: list[int]) -> tuple[list[str], list[str]]:
    """The choices of the program, and of the model."""
    addresses = [f"10.{n >> 8}.{n & 255}.1" for n in range(len(weights))]
    service = world.service("udp", 4, scheduler=scheduler)
    service.add_many([Server(a, weight=w) for a, w in zip(addresses, weights, strict=True)])
    model = ipvs.MODELS[scheduler]()
    model.destinations = [
        ipvs.Destination(a, w) for a, w in reversed(list(zip(addresses, weights, strict=True)))
    ]
    model.changed()
    by_id = {server.id: server.address for server in service.servers}
    packet = Template("udp")
    expected = []
    for port in range(2000, 2000 + ARRIVALS):
        assert world.send(packet(port)).reasons == {"forwarded": 1}
        chosen = model.schedule()
        assert chosen is not None
        chosen.count(0, 1)
        expected.append(chosen.name)
    got = sorted(world.connections(), key=lambda each: each.sport)
    return [by_id[each.server] for each in got], expected


WEIGHTS = {
    "all alike": lambda chosen: 1,
    "any": lambda chosen: chosen.randint(1, 100),
    "few of any": lambda chosen: chosen.choice([0] * 200 + [1, 7, 65535]),
    "the largest": lambda chosen: 65535,
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("scheduler", ipvs.MODELS)
def test_thousands_of_servers(wide: World, scheduler: str, weights: str) -> None:
    chosen = random.Random(11)
    got, expected = story(wide, scheduler, [WEIGHTS[weights](chosen) for _ in range(SERVERS)])
    assert got == expected


@pytest.mark.parametrize("place", (0, SERVERS // 2, SERVERS - 1))
@pytest.mark.parametrize("scheduler", ipvs.MODELS)
def test_the_only_one_of_thousands(wide: World, scheduler: str, place: int) -> None:
    weights = [0] * SERVERS
    weights[place] = 3
    got, expected = story(wide, scheduler, weights)
    assert got == expected == [expected[0]] * ARRIVALS
