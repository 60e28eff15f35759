"""The choices are IPVS's: the same arrivals, closes and edits, side by side with its models."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from kernlb.schedule import maglev, source_hash
from tests.bpf import ipvs
from tests.bpf.frames import SERVERS, SPORT, frame, request
from tests.bpf.services import Server, Service
from tests.bpf.world import World

TABLES = {"sh": source_hash, "mh": maglev}


class Template:
    """A client's packet whose address, port and flags are put in place (checksums are not)."""

    def __init__(self, protocol: str = "tcp", family: int = 4) -> None:
        self._content = bytearray(frame(request(protocol, family)))
        self._family = family
        self._l4 = 14 + (20 if family == 4 else 40)

    def __call__(self, sport: int = SPORT, flags: int = 2, client: str = "") -> bytes:
        content = self._content
        struct.pack_into("!H", content, self._l4, sport)
        content[self._l4 + 13] = flags
        if client:
            packed = ip_address(client).packed
            at = 26 if self._family == 4 else 22
            content[at : at + len(packed)] = packed
        return bytes(content)


class Race:
    """One service in the program and one in the model, through the same story."""

    def __init__(self, world: World, scheduler: str, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.model: ipvs.Model = ipvs.MODELS[scheduler]()
        self.service = world.service("tcp", 4, scheduler=scheduler)
        self.packet = Template()
        self.pairs: dict[str, tuple[Server, ipvs.Destination]] = {}
        self.open: dict[int, tuple[str, bool]] = {}  # port -> server, still active
        self.next_port = 1024
        self.next_server = 10

    def add(self) -> None:
        address = f"10.1.{self.next_server // 256}.{self.next_server % 256}"
        self.next_server += 1
        how = {"weight": self.random.choice((1, 1, 2, 3, 5, 10, 100))}
        if self.random.random() < 0.3:
            how |= {"upper": self.random.randint(2, 6)}
            how |= {"lower": self.random.choice((0, 1, how["upper"] - 1))}
        destination = ipvs.Destination(address, **how)
        self.model.add(destination)
        self.pairs[address] = (self.service.add(address, **how), destination)

    def some(self) -> tuple[Server, ipvs.Destination]:
        return self.random.choice(list(self.pairs.values()))

    def remove(self) -> None:
        if len(self.pairs) < 2:
            return
        server, destination = self.some()
        self.service.remove(server)
        self.model.remove(destination)
        del self.pairs[server.address]
        self.open = {k: v for k, v in self.open.items() if v[0] != server.address}

    def weigh(self) -> None:
        server, destination = self.some()
        weight = self.random.choice((0, 0, 1, 2, 4, 6, 50, 65535))
        self.service.weigh(server, weight)
        self.model.weigh(destination, weight)

    def arrive(self) -> None:
        port, self.next_port = self.next_port, self.next_port + 1
        sent = self.world.send(self.packet(port))
        chosen = self.model.schedule()
        if chosen is None:
            assert sent.reasons == {"refused": 1}
            return
        assert sent.reasons == {"forwarded": 1}
        (entry,) = (each for each in self.world.connections() if each.sport == port)
        by_id = {server.id: address for address, (server, _) in self.pairs.items()}
        assert by_id.get(entry.server) == chosen.name
        chosen.count(0, 1)
        chosen.count(1, -1)
        self.open[port] = (chosen.name, True)

    def reset(self) -> None:
        """A connection becomes inactive."""
        ports = [port for port, (_, active) in self.open.items() if active]
        if not ports:
            return
        port = self.random.choice(ports)
        for flags in (0x10, 0x04):  # established first: half open, IPVS heeds no reset
            self.world.send(self.packet(port, flags))
        name, _ = self.open[port]
        self.pairs[name][1].count(-1, 1)
        self.open[port] = (name, False)

    def expire(self) -> None:
        """All inactive connections leave."""
        self.world.age(15)  # longer than "close" lasts, shorter than "syn_recv"
        self.world.sweep()
        for port, (name, active) in list(self.open.items()):
            if not active:
                self.pairs[name][1].count(0, -1)
                del self.open[port]
        self.world.age(-15)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scheduler", ipvs.MODELS)
def test_the_same_story_has_the_same_choices_as_ipvs(
    world: World, scheduler: str, seed: int
) -> None:
    race = Race(world, scheduler, seed)
    for _ in range(race.random.randint(1, 6)):
        race.add()
    acts = [race.arrive] * 12 + [race.reset] * 6
    acts += [race.expire] * 2 + [race.add, race.remove, race.weigh, race.weigh]
    for _ in range(250):
        if len(race.open) > 60:
            while any(active for _, active in race.open.values()):
                race.reset()
            race.expire()
        race.random.choice(acts)()
        for server, destination in race.pairs.values():
            assert world.load(server.id)[:2] == (destination.active, destination.inactive)


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize(
    ("scheduler", "weights", "expected"),
    (
        ("rr", (1, 1, 1), "2 1 0 2 1 0"),
        ("rr", (1, 0, 7), "2 0 2 0 2 0"),
        ("wrr", (3, 2, 1), "2 1 0 0 1 0"),
        ("wrr", (2, 4, 6), "2 1 0 2 2 1"),
        ("wrr", (0, 1, 0), "1 1 1 1 1 1"),
        ("lc", (1, 1, 1), "2 1 0 2 1 0"),
        ("wlc", (1, 1, 2), "2 1 0 2 2 1"),
        ("wlc", (0, 1, 1), "2 1 2 1 2 1"),
    ),
)
def test_the_first_choices(
    world: World, family: int, scheduler: str, weights: tuple[int, ...], expected: str
) -> None:
    service = world.service("tcp", family, scheduler=scheduler)
    servers = [
        service.add(address, weight=weight)
        for address, weight in zip(SERVERS[family], weights, strict=False)
    ]
    packet = Template("tcp", family)
    for port in range(6):
        world.send(packet(2000 + port))
    chosen = {each.sport: each.server for each in world.connections(family)}
    order = [service.servers.index(_by_id(servers, chosen[2000 + n])) for n in range(6)]
    assert order == [int(word) for word in expected.split()]


def _by_id(servers: list[Server], identity: int) -> Server:
    return next(server for server in servers if server.id == identity)


def clients(family: int, count: int = 150) -> list[str]:
    chosen = random.Random(5)
    if family == 4:
        return [f"198.51.100.{n % 250 + 1}" for n in chosen.sample(range(250), count)]
    return [f"2001:db8:c::{n:x}:{n * 7 % 65536:x}" for n in chosen.sample(range(60000), count)]


def hashed(world: World, service: Service, family: int, ports: Callable[[int], int]):
    """Where each of many clients is sent: client, port, server."""
    packet = Template(service.protocol, family)
    for n, client in enumerate(clients(family)):
        before = {each.index for each in world.connections(family)}
        sent = world.send(packet(ports(n), client=client))
        new = [each for each in world.connections(family) if each.index not in before]
        yield client, ports(n), (_by_id(service.servers, new[0].server) if new else None), sent
        world.write_conns(family, bytes(len(world.read_conns(family))))


@pytest.mark.parametrize("weights", ((1, 1, 1), (1, 5, 10), (3, 0, 1)))
@pytest.mark.parametrize("by_port", (False, True))
@pytest.mark.parametrize("scheduler", TABLES)
@pytest.mark.parametrize("family", (4, 6))
def test_a_client_hashes_to_the_slot_that_ipvs_computes(
    world: World, family: int, scheduler: str, by_port: bool, weights: tuple[int, ...]
) -> None:
    flags = ("hash_port",) if by_port else ()
    service = world.service("udp", family, scheduler=scheduler, flags=flags)
    for address, weight in zip(SERVERS[family], weights, strict=False):
        service.weigh(service.add(address), weight)
    table = TABLES[scheduler]
    seen: Counter[str] = Counter()
    for client, port, server, sent in hashed(world, service, family, lambda n: 5000 + n * 37):
        owner = service.owner(table.slot(ip_address(client), port if by_port else 0))
        if owner.weight:
            assert server is owner
            seen[owner.address] += 1
        else:
            assert sent.reasons == {"refused": 1}
    assert len(seen) == sum(weight > 0 for weight in weights)


@pytest.mark.parametrize("how", ("drained", "overloaded"))
@pytest.mark.parametrize("scheduler", TABLES)
@pytest.mark.parametrize("family", (4, 6))
def test_with_fallback_others_take_the_slots_of_a_server_that_cannot(
    world: World, family: int, scheduler: str, how: str
) -> None:
    service = world.service("udp", family, scheduler=scheduler, flags=("fallback",))
    servers = [service.add(address) for address in SERVERS[family][:4]]
    if how == "drained":
        service.weigh(servers[1], 0)
    else:
        servers[1].upper = 1
        service.write(servers[1])
        world.overload(servers[1].id)

    moved = set()
    for client, _, server, _ in hashed(world, service, family, lambda n: 777):
        slot = TABLES[scheduler].slot(ip_address(client))
        assert server is _fallback(service, scheduler, client, slot, servers[1])
        if service.owner(slot) is servers[1]:
            moved.add(server.address)
    assert len(moved) > (scheduler == "mh")  # sh: a run of its slots has one and the same heir


def _fallback(
    service: Service, scheduler: str, client: str, slot: int, unavailable: Server
) -> Server:
    """ip_vs_sh_get_fallback() and ip_vs_mh_get_fallback()"""
    if scheduler == "sh":
        table = [service.owner(at).address for at in range(source_hash.TABLE_SIZE)]
        name = ipvs.sh_fallback(table, slot, lambda address: address != unavailable.address)
        return next(server for server in service.servers if server.address == name)
    for offset in range(maglev.TABLE_SIZE):
        owner = service.owner(slot)
        if owner is not unavailable:
            return owner
        first = maglev.slot(ip_address(client))
        slot = maglev.slot(ip_address(client), (offset + first) % maglev.TABLE_SIZE)
    raise AssertionError("no server")
