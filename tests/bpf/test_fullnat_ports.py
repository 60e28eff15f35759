"""The source ports of fullnat: unique towards a server, from the pool, and counted when gone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.bpf.frames import OURS, SERVERS, frame, request
from tests.bpf.network import Network
from tests.bpf.test_schedulers import Template
from tests.bpf.world import DROP, Sizes, World

ACK = 0x10
CPUS = 64  # as if there were that many: each has 1008 ports
POOL = (65536 - 1024) // CPUS
FAMILIES = pytest.mark.parametrize("family", (4, 6))


@pytest.fixture(scope="module")
def _wide(network: Network) -> Iterator[World]:
    world = World(network, Sizes(conns4=16384, conns6=16384, cpus=CPUS))
    yield world
    world.close()


@pytest.fixture
def wide(_wide: World) -> Iterator[World]:
    """On one CPU, with room for more connections than it has ports."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    _wide.reset()
    yield _wide
    os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@FAMILIES
def test_every_port_is_used_once_and_then_no_more(wide: World, family: int, protocol: str) -> None:
    service = wide.service(protocol, family)
    service.add(SERVERS[family][0], forwarding="fullnat", port=8080)
    packet = Template(protocol, family)

    reasons: Counter[str] = Counter()
    for port in range(2000, 2000 + POOL + 20):
        sent = wide.send(packet(port))
        reasons.update(sent.reasons)
        if "forwarded" in sent.reasons:
            assert wide.send(packet(port, ACK)).reasons == {"forwarded": 1}
    assert reasons == {"forwarded": POOL, "no_source_port": 20}
    assert sent.verdict == DROP

    ports = [each.source_port for each in wide.connections(family)]
    assert len(ports) == len(set(ports)) == POOL
    (cpu,) = os.sched_getaffinity(0)
    assert set(ports) == set(range(1024 + cpu, 65536, CPUS))
    answers = wide.connections(family, reverse=True)
    assert {each.dport for each in answers} == set(ports)
    assert {each.destination for each in answers} == {OURS[family]}


@FAMILIES
def test_a_freed_port_is_found_again(wide: World, family: int) -> None:
    service = wide.service("udp", family)
    service.add(SERVERS[family][0], forwarding="fullnat", port=8080)
    packet = Template("udp", family)
    for port in range(2000, 2000 + POOL):
        for _ in range(2):
            wide.send(packet(port))
    freed = wide.connections(family)[100]
    wide.expire(freed)
    wide.sweep(family)

    assert wide.send(packet(60000)).reasons == {"forwarded": 1}
    (new,) = (each for each in wide.connections(family) if each.sport == 60000)
    assert new.source_port == freed.source_port


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@FAMILIES
def test_what_is_half_open_gives_its_port_up(wide: World, family: int, protocol: str) -> None:
    """A flood of first packets drives out itself, and nobody who got further."""
    server = wide.service(protocol, family).add(SERVERS[family][0], forwarding="fullnat", port=8080)
    packet = Template(protocol, family)
    for port in range(2000, 2500):
        wide.send(packet(port))
        wide.send(packet(port, ACK))
    reasons: Counter[str] = Counter()
    for port in range(10000, 10000 + 2 * POOL):
        reasons.update(wide.send(packet(port)).reasons)
    assert reasons == {"forwarded": 2 * POOL}
    left = wide.connections(family)
    assert {each.sport for each in left} >= set(range(2000, 2500))
    ports = [each.source_port for each in left]
    assert len(ports) == len(set(ports)) <= POOL
    assert sum(wide.load(server.id)[:2]) == len(left)


@FAMILIES
def test_each_server_has_all_ports(wide: World, family: int) -> None:
    service = wide.service("udp", family)
    for address in SERVERS[family][:2]:
        service.add(address, forwarding="fullnat", port=8080)
    packet = Template("udp", family)
    reasons: Counter[str] = Counter()
    for port in range(2000, 2000 + 2 * POOL):
        for _ in range(2):
            reasons.update(wide.send(packet(port)).reasons)
    assert reasons == {"forwarded": 4 * POOL}
    used = Counter((each.server, each.source_port) for each in wide.connections(family))
    assert set(used.values()) == {1}


@FAMILIES
def test_cpus_take_from_ports_of_their_own(world: World, family: int) -> None:
    allowed = os.sched_getaffinity(0)
    service = world.service("tcp", family)
    service.add(SERVERS[family][0], forwarding="fullnat", port=8080)
    try:
        for cpu in allowed:
            os.sched_setaffinity(0, {cpu})
            for port in range(10):
                world.send(frame(request("tcp", family, sport=100 * cpu + port + 1)))
    finally:
        os.sched_setaffinity(0, allowed)
    cpus = world.cpus
    for each in world.connections(family):
        assert (each.source_port - 1024) % cpus == each.sport // 100
