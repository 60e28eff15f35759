"""Several CPUs in the program at once: turns, ports and entries are taken once."""

from __future__ import annotations

import ctypes
import os
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.bpf.compiling import library
from tests.bpf.frames import SERVERS, frame, request
from tests.bpf.network import Network
from tests.bpf.world import Sizes, World

CPUS = sorted(os.sched_getaffinity(0))[:4]
FLOWS = 2000  # of each CPU
FAMILIES = pytest.mark.parametrize("family", (4, 6))

if len(CPUS) < 2:
    CPUS *= 2  # two threads on one CPU; they still interleave


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    made = library("flood.c", tmp_path_factory.mktemp("flood"))
    made.flood.restype = ctypes.c_long
    return made


@pytest.fixture(scope="module")
def _large(network: Network) -> Iterator[World]:
    world = World(network, Sizes(conns4=32768, conns6=32768))
    yield world
    world.close()


@pytest.fixture
def large(_large: World) -> World:
    _large.reset()
    return _large


class Flood:
    """All CPUs send at the same time, each flows of its own or all the same ones."""

    def __init__(self, world: World, driver: ctypes.CDLL, content: bytes, family: int) -> None:
        self._world, self._driver, self._content = world, driver, content
        self._port_at = 14 + (20 if family == 4 else 40)

    def __call__(self, count: int = FLOWS, *, same: bool = False) -> int:
        """Returns how many packets were sent on."""
        sent: list[int] = []
        threads = [
            threading.Thread(
                target=self._run, args=(cpu, 1024 + n * count * (not same), count, sent)
            )
            for n, cpu in enumerate(CPUS)
        ]
        self._begin = threading.Barrier(len(threads))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(sent) == len(CPUS)
        return sum(sent)

    def _run(self, cpu: int, first: int, count: int, sent: list[int]) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread
        world = self._world
        with world.network.entered():
            self._begin.wait(30)
            result = self._driver.flood(
                world.programs["kernlb"].fd,
                world.network.interfaces.front,
                self._content,
                len(self._content),
                self._port_at,
                first,
                count,
            )
        assert result >= 0
        sent.append(result)


@pytest.mark.parametrize("scheduler", ("rr", "wrr"))
@FAMILIES
def test_turns_are_taken_once(
    large: World, driver: ctypes.CDLL, family: int, scheduler: str
) -> None:
    service = large.service("udp", family, scheduler=scheduler, flags=("one_packet",))
    weights = (1, 1, 1, 1) if scheduler == "rr" else (1, 2, 3, 4)
    for address, weight in zip(SERVERS[family], weights, strict=False):
        service.add(address, weight=weight)
    total = Flood(large, driver, frame(request("udp", family)), family)()
    assert total == FLOWS * len(CPUS)
    for server in service.servers:
        got = large.counters("server_counters", server.id).packets_in
        share = total * server.weight / sum(weights)
        assert abs(got - share) <= max(4, share * 0.01)  # a turn that is fought over may go twice


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@FAMILIES
def test_source_ports_are_taken_once(
    large: World, driver: ctypes.CDLL, family: int, protocol: str
) -> None:
    service = large.service(protocol, family)
    service.add(SERVERS[family][0], forwarding="fullnat", port=8080)
    sent = Flood(large, driver, frame(request(protocol, family)), family)()
    assert sent == FLOWS * len(CPUS)
    entries = large.connections(family)
    answers = large.connections(family, reverse=True)
    assert len(entries) == len(answers) == sent
    assert max(Counter(each.source_port for each in entries).values()) == 1
    assert {each.dport for each in answers} == {each.source_port for each in entries}
    peers = {each.index: each.peer for each in entries}
    assert all(peers[each.peer] == each.index for each in answers)


@pytest.mark.parametrize("method", ("dsr", "nat"))
@FAMILIES
def test_what_is_counted_is_what_is_there(
    large: World, driver: ctypes.CDLL, family: int, method: str
) -> None:
    """All CPUs have the same flows, so that entries are made, moved on and driven out at once."""
    service = large.service("tcp", family, scheduler="wlc")
    for address in SERVERS[family][:3]:
        service.add(address, forwarding=method)
    for flags in ("S", "A", "FA", "R", "S"):
        Flood(large, driver, frame(request("tcp", family, flags=flags)), family)(same=True)
    large.sweep(family, recount=True)
    for server in service.servers:
        assert large.load(server.id)[:2] == large.recount(server.id)[:2]


@pytest.mark.parametrize("method", ("dsr", "nat", "fullnat"))
@FAMILIES
def test_a_flood_from_all_sides_leaves_a_small_table_whole(
    tiny: World, driver: ctypes.CDLL, family: int, method: str
) -> None:
    service = tiny.service("tcp", family)
    service.add(SERVERS[family][0], forwarding=method)
    Flood(tiny, driver, frame(request("tcp", family)), family)(5000)
    entries = tiny.connections(family)
    assert sum(tiny.load(service.servers[0].id)[:2]) == len(entries)
    tiny.sweep(family, recount=True)
    assert sum(tiny.recount(service.servers[0].id)[:2]) == len(entries)
    tiny.age(1, family)  # answers that lost their connection in the race give way now
    met = Counter[str]()
    for number in range(200):
        met += Counter(tiny.send(frame(request("tcp", family, sport=60000 + number))).reasons)
    assert met == {"forwarded": 200}
    tiny.age(3600, family)
    tiny.sweep(family)
    tiny.age(3600, family)
    tiny.sweep(family)
    assert tiny.connections(family) == tiny.connections(family, reverse=True) == []
    assert tiny.load(service.servers[0].id)[:2] == (0, 0)
