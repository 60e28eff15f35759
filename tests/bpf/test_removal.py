"""Connections when servers go, are drained, or their ids come back as others."""

from __future__ import annotations

import pytest

from tests.bpf import oracle
from tests.bpf.frames import SERVERS, SPORT, frame, request
from tests.bpf.services import Server, Service
from tests.bpf.world import TX, World

FAMILIES = pytest.mark.parametrize("family", (4, 6))
METHODS = ("dsr", "tunnel", "nat", "fullnat")


def flow(
    world: World, protocol: str, family: int, method: str, scheduler: str = "rr"
) -> tuple[Service, Server, Server]:
    """A service with two servers, one of which has a flow: service, that server, the other."""
    service = world.service(protocol, family, scheduler=scheduler)
    port = {"port": 8080} if method in ("nat", "fullnat") else {}
    servers = [service.add(each, forwarding=method, **port) for each in SERVERS[family][:2]]
    assert world.send(frame(request(protocol, family))).reasons == {"forwarded": 1}
    if protocol == "tcp":
        world.send(frame(request(protocol, family, flags="A")))
    used = world.connection(family).server
    return service, *sorted(servers, key=lambda server: server.id != used)


@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_udp_leaves_a_removed_server_at_once(world: World, family: int, method: str) -> None:
    service, gone, other = flow(world, "udp", family, method)
    service.remove(gone)

    packet = request("udp", family)
    sent = world.send(frame(packet))

    entry = world.connection(family)
    assert entry.server == other.id
    expected = oracle.to_server(packet, other, source_port=entry.source_port)
    assert sent.frame.hex() == expected.hex()


@pytest.mark.parametrize("scheduler", ("rr", "wrr", "lc", "wlc"))
@FAMILIES
def test_tcp_towards_a_removed_server_is_reset(world: World, family: int, scheduler: str) -> None:
    service, gone, _ = flow(world, "tcp", family, "dsr", scheduler)
    service.remove(gone)
    packet = request("tcp", family, flags="A")
    sent = world.send(frame(packet))
    assert (sent.verdict, sent.reasons) == (TX, {"refused": 1})
    assert sent.frame.hex() == oracle.answered(oracle.reset(packet)).hex()
    assert world.connections(family) == []


@pytest.mark.parametrize("scheduler", ("sh", "mh"))
@FAMILIES
def test_hashing_moves_tcp_of_a_removed_server(world: World, family: int, scheduler: str) -> None:
    service, gone, other = flow(world, "tcp", family, "dsr", scheduler)
    service.remove(gone)
    assert world.send(frame(request("tcp", family, flags="A"))).reasons == {"forwarded": 1}
    assert world.connection(family).server == other.id


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_a_flow_of_an_id_that_is_another_server_now_begins_anew(
    world: World, family: int, protocol: str, method: str
) -> None:
    """The same id, the next generation: nothing of the old server's may reach the new one."""
    service, old, _ = flow(world, protocol, family, method)
    service.remove(old)
    how = {"forwarding": method, "port": old.port, "generation": old.generation + 1}
    new = service.add(SERVERS[family][5], id=old.id, **how)
    for server in list(service.servers):
        service.weigh(server, int(server is new))

    packet = request(protocol, family, flags="S")
    sent = world.send(frame(packet))

    assert sent.reasons == {"forwarded": 1}
    entry = world.connection(family)
    assert (entry.server, entry.generation) == (new.id, 1)
    expected = oracle.to_server(packet, new, source_port=entry.source_port)
    assert sent.frame.hex() == expected.hex()
    loads = [world.load(server.id)[:2] for server in service.servers]
    assert sum(active + inactive for active, inactive in loads) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", ("drained", "weighed", "another added", "the other removed"))
@FAMILIES
def test_an_open_connection_stays(world: World, family: int, method: str, change: str) -> None:
    service, server, other = flow(world, "tcp", family, method)
    before = world.connection(family)
    if change == "drained":
        service.weigh(server, 0)
    elif change == "weighed":
        service.weigh(server, 7)
        service.weigh(other, 100)
    elif change == "another added":
        service.add(SERVERS[family][7], forwarding=method, port=server.port, weight=50)
    else:
        service.remove(other)

    packet = request("tcp", family, flags="PA")
    sent = world.send(frame(packet))

    expected = oracle.to_server(packet, server, source_port=before.source_port)
    assert sent.frame.hex() == expected.hex()
    after = world.connection(family)
    assert (after.index, after.server) == (before.index, before.server)


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("scheduler", ("rr", "wrr", "lc", "wlc"))
def test_a_drained_server_gets_nothing_new(world: World, scheduler: str, family: int) -> None:
    service, drained, other = flow(world, "tcp", family, "dsr", scheduler)
    service.weigh(drained, 0)
    for port in range(5):
        world.send(frame(request("tcp", family, sport=100 + port)))
    new = {each.server for each in world.connections(family) if each.sport != SPORT}
    assert new == {other.id}


@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_the_sweep_frees_the_entries_of_a_removed_server(
    world: World, family: int, method: str
) -> None:
    service, gone, other = flow(world, "tcp", family, method)
    world.send(frame(request("tcp", family, sport=9)))
    service.remove(gone)
    world.age(1, family)
    world.sweep(family)
    assert [each.server for each in world.connections(family)] == [other.id]
    reverse = world.connections(family, reverse=True)
    assert len(reverse) == (1 if method in ("nat", "fullnat") else 0)


@FAMILIES
def test_the_sweep_recounts_what_is_there(world: World, family: int) -> None:
    _, first, second = flow(world, "tcp", family, "nat")
    for port in range(5):
        world.send(frame(request("tcp", family, sport=100 + port)))
    world.send(frame(request("tcp", family, flags="FA")))  # one is inactive now
    swept = world.sweep(family, recount=True)
    recounted = [world.recount(server.id)[:2] for server in (first, second)]
    assert recounted == [world.load(server.id)[:2] for server in (first, second)]
    assert sum(active + inactive for active, inactive in recounted) == 6
    assert (swept.used, swept.expired, swept.half_open) == (12, 0, 5)


@FAMILIES
def test_the_sweep_frees_what_has_expired_and_uncounts_it(world: World, family: int) -> None:
    _, first, second = flow(world, "tcp", family, "nat")
    world.age(901, family)
    swept = world.sweep(family)
    assert swept.expired == 1
    assert world.connections(family) == world.connections(family, reverse=True) == []
    assert [world.load(each.id)[:2] for each in (first, second)] == [(0, 0), (0, 0)]
