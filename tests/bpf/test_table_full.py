"""A connection table without room: who gives way, who is refused, and what is counted."""

from __future__ import annotations

import pytest

from tests.bpf import oracle
from tests.bpf.frames import SERVER, SERVERS, frame, request
from tests.bpf.world import DROP, TX, World

FAMILIES = pytest.mark.parametrize("family", (4, 6))
PLACES = 8


def fill(world: World, protocol: str, family: int, first: int = 1000) -> list[int]:
    """Established flows until no more are taken in; the ports that have an entry."""
    for port in range(first, first + 4 * PLACES):
        world.send(frame(request(protocol, family, sport=port)))
        world.send(frame(request(protocol, family, sport=port, flags="A")))
        if len(world.connections(family)) == PLACES:
            break
    entries = world.connections(family)
    assert len(entries) == PLACES
    return [each.sport for each in entries]


@pytest.mark.parametrize("scheduler", ("rr", "wrr", "lc", "wlc"))
@FAMILIES
def test_a_new_flow_finds_no_room(tiny: World, family: int, scheduler: str) -> None:
    tiny.service("tcp", family, scheduler=scheduler).add(SERVER[family])
    ports = fill(tiny, "tcp", family)
    sent = tiny.send(frame(request("tcp", family, sport=60000)))
    assert (sent.verdict, sent.reasons) == (DROP, {"table_full": 1})
    assert sorted(each.sport for each in tiny.connections(family)) == sorted(ports)


@pytest.mark.parametrize("method", ("dsr", "tunnel"))
@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@pytest.mark.parametrize("scheduler", ("sh", "mh"))
@FAMILIES
def test_hashing_needs_no_room(
    tiny: World, family: int, scheduler: str, protocol: str, method: str
) -> None:
    service = tiny.service(protocol, family, scheduler=scheduler, flags=("hash_port",))
    for n, address in enumerate(SERVERS[family][:3]):
        service.add(address, forwarding=method, vlan=n + 1)
    fill(tiny, protocol, family)
    for port in range(60000, 60006):
        packet = request(protocol, family, sport=port)
        sent = [tiny.send(frame(packet)) for _ in range(3)]
        assert [each.reasons for each in sent] == [{"forwarded": 1, "table_full": 1}] * 3
        assert len({each.frame for each in sent}) == 1
        tag = int.from_bytes(sent[0].frame[14:16], "big")
        assert sent[0].frame == oracle.to_server(packet, service.servers[tag - 1])
    assert len(tiny.connections(family)) == PLACES


@pytest.mark.parametrize("method", ("nat", "fullnat"))
@pytest.mark.parametrize("scheduler", ("sh", "rr"))
@FAMILIES
def test_what_must_be_undone_needs_room(
    tiny: World, family: int, scheduler: str, method: str
) -> None:
    service = tiny.service("tcp", family, scheduler=scheduler)
    service.add(SERVER[family], forwarding=method)
    for port in range(1000, 1040):
        tiny.send(frame(request("tcp", family, sport=port)))
        tiny.send(frame(request("tcp", family, sport=port, flags="A")))
    entries = tiny.connections(family)
    answers = tiny.connections(family, reverse=True)
    assert len(entries) == len(answers) <= PLACES // 2
    assert {each.peer for each in answers} == {each.index for each in entries}
    sent = tiny.send(frame(request("tcp", family, sport=60000)))
    assert (sent.verdict, sent.reasons) == (DROP, {"table_full": 1})
    assert tiny.load(service.servers[0].id)[:2] == (len(entries), 0)


@pytest.mark.parametrize("protocol", ("tcp", "udp", "sctp"))
@FAMILIES
def test_what_is_half_open_gives_way_first(tiny: World, family: int, protocol: str) -> None:
    """A flood of first packets drives out itself, never who is established."""
    service = tiny.service(protocol, family)
    server = service.add(SERVER[family])
    ports = fill(tiny, protocol, family)
    kept = set(ports[:5])
    content = tiny.connections(family)
    for each in content:
        if each.sport not in kept:
            tiny.forget(each)
    for port in range(30000, 30200):
        tiny.send(frame(request(protocol, family, sport=port)))
    now = {each.sport for each in tiny.connections(family)}
    assert kept <= now
    assert len(now) > len(kept)
    assert sum(tiny.load(server.id)[:2]) == len(now)


@pytest.mark.parametrize("method", ("nat", "fullnat"))
@FAMILIES
def test_answers_give_way_as_their_connection_does_and_with_it(
    tiny: World, family: int, method: str
) -> None:
    service = tiny.service("tcp", family)
    server = service.add(SERVER[family], forwarding=method)
    established = {1000}
    for port in established:
        tiny.send(frame(request("tcp", family, sport=port)))
        tiny.send(frame(request("tcp", family, sport=port, flags="A")))
    for port in range(30000, 30400):
        sent = tiny.send(frame(request("tcp", family, sport=port)))
        assert sent.reasons == {"forwarded": 1}
    entries, answers = tiny.connections(family), tiny.connections(family, reverse=True)
    assert established <= {each.sport for each in entries}
    assert {each.index: each.peer for each in entries} == {
        each.peer: each.index for each in answers
    }
    assert sum(tiny.load(server.id)[:2]) == len(entries)


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@FAMILIES
def test_what_has_expired_gives_way(tiny: World, family: int, protocol: str) -> None:
    tiny.service(protocol, family).add(SERVER[family])
    fill(tiny, protocol, family)
    tiny.age(901, family)
    sent = tiny.send(frame(request(protocol, family, sport=60000)))
    assert sent.reasons == {"forwarded": 1}
    assert 60000 in {each.sport for each in tiny.connections(family)}


@pytest.mark.parametrize("method", ("dsr", "nat"))
@FAMILIES
def test_what_is_closed_gives_way(tiny: World, family: int, method: str) -> None:
    """With its answers, where it has any; what is established stays."""
    service = tiny.service("tcp", family)
    server = service.add(SERVER[family], forwarding=method)
    for port in range(1000, 1040):
        tiny.send(frame(request("tcp", family, sport=port)))
        tiny.send(frame(request("tcp", family, sport=port, flags="A")))
    before = [each.sport for each in tiny.connections(family)]
    closed = before[0]
    tiny.send(frame(request("tcp", family, sport=closed, flags="R")))
    taken = 0
    for port in range(50000, 50020):
        taken += tiny.send(frame(request("tcp", family, sport=port))).reasons == {"forwarded": 1}
    now = {each.sport for each in tiny.connections(family)}
    assert taken and closed not in now
    assert set(before[1:]) <= now
    assert sum(tiny.load(server.id)[:2]) == len(now)


@FAMILIES
def test_half_open_ones_give_way_before_closed_ones(tiny: World, family: int) -> None:
    tiny.service("tcp", family).add(SERVER[family])
    closed, half_open, *_ = fill(tiny, "tcp", family)
    tiny.send(frame(request("tcp", family, sport=closed, flags="R")))
    (entry,) = [each for each in tiny.connections(family) if each.sport == half_open]
    tiny.forget(entry)
    tiny.send(frame(request("tcp", family, sport=half_open)))
    for port in range(50000, 50010):
        tiny.send(frame(request("tcp", family, sport=port)))
    now = {each.sport for each in tiny.connections(family)}
    assert closed in now and half_open not in now


@FAMILIES
def test_a_known_flow_needs_no_more_room(tiny: World, family: int) -> None:
    server = tiny.service("tcp", family).add(SERVER[family])
    for port in fill(tiny, "tcp", family):
        packet = request("tcp", family, sport=port, flags="PA")
        sent = tiny.send(frame(packet))
        assert (sent.verdict, sent.frame) == (TX, oracle.to_server(packet, server))


@FAMILIES
def test_families_have_tables_of_their_own(tiny: World, family: int) -> None:
    for each in (4, 6):
        tiny.service("tcp", each).add(SERVER[each])
    fill(tiny, "tcp", family)
    assert tiny.send(frame(request("tcp", 10 - family))).reasons == {"forwarded": 1}
