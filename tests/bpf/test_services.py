"""Which service a packet belongs to, and its flags: every port, persistence, one packet."""

from __future__ import annotations

import pytest

from tests.bpf import oracle
from tests.bpf.frames import SERVER, SERVERS, VIP, frame, request
from tests.bpf.test_forwarding import METHODS, Case, add_server
from tests.bpf.world import DROP, TX, World

FAMILIES = pytest.mark.parametrize("family", (4, 6))


@pytest.mark.parametrize("protocol", ("tcp", "udp", "sctp"))
@pytest.mark.parametrize("dport", (1, 80, 443, 65535))
@FAMILIES
def test_a_service_on_every_port_takes_any(
    world: World, family: int, protocol: str, dport: int
) -> None:
    server = world.service(protocol, family, port=0).add(SERVER[family])
    packet = request(protocol, family, dport=dport)
    sent = world.send(frame(packet))
    assert sent.frame.hex() == oracle.to_server(packet, server).hex()


@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_a_service_on_every_port_keeps_the_packets_port(
    world: World, family: int, method: str
) -> None:
    service = world.service("tcp", family, port=0)
    kind, _, outer = method.partition(" in ipv")
    if outer:
        server = service.add(SERVER[int(outer)], forwarding="tunnel", tunnel=kind)
    else:
        server = service.add(SERVER[family], forwarding=kind)
    packet = request("tcp", family, dport=4711)
    sent = world.send(frame(packet))
    assert sent.reasons == {"forwarded": 1}
    chosen = {"source_port": world.connection(family).source_port}
    if server.tunnel == "gue":
        chosen["gue_sport"] = oracle.gue_source_port(sent.frame, server)
    assert sent.frame.hex() == oracle.to_server(packet, server, **chosen).hex()


@FAMILIES
def test_the_very_port_comes_before_every_port(world: World, family: int) -> None:
    world.service("tcp", family, port=0).add(SERVERS[family][0])
    exact = world.service("tcp", family, port=443).add(SERVERS[family][1])
    world.send(frame(request("tcp", family, dport=443)))
    assert world.connection(family).server == exact.id


@FAMILIES
def test_protocols_and_addresses_are_services_of_their_own(world: World, family: int) -> None:
    other = {4: "192.0.2.9", 6: "2001:db8:f::9"}[family]
    wanted = {}
    for n, (protocol, address) in enumerate(
        (p, a) for p in ("tcp", "udp", "sctp") for a in (VIP[family], other)
    ):
        service = world.service(protocol, family, address=address)
        wanted[protocol, address] = service.add(SERVERS[family][n]).id
    for protocol, address in wanted:
        world.send(frame(request(protocol, family, dst=address)))
    numbers = {"tcp": 6, "udp": 17, "sctp": 132}
    got = {(each.protocol, each.destination): each.server for each in world.connections(family)}
    assert got == {(numbers[p], a): server for (p, a), server in wanted.items()}


@FAMILIES
def test_a_removed_service_refuses_new_flows_by_leaving_them_to_the_stack(
    world: World, family: int
) -> None:
    service = world.service("tcp", family)
    service.add(SERVER[family])
    world.send(frame(request("tcp", family)))
    world.services.remove(service)
    sent = world.send(frame(request("tcp", family, sport=5)))
    assert sent.reasons == {"no_service": 1}


def clients(family: int, prefix: int) -> list[str]:
    """Two of one network of that length, and one outside it."""
    if family == 4:
        return {32: ["198.51.100.7", "198.51.100.7", "198.51.100.8"],
                24: ["198.51.100.7", "198.51.100.200", "198.51.101.7"],
                20: ["198.51.96.1", "198.51.111.254", "198.51.112.1"]}[prefix]  # fmt: skip
    return {128: ["2001:db8:c::7", "2001:db8:c::7", "2001:db8:c::8"],
            64: ["2001:db8:c::7", "2001:db8:c::ffff:1", "2001:db8:c:1::7"],
            44: ["2001:db8:10::1", "2001:db8:1f::9", "2001:db8:20::1"]}[prefix]  # fmt: skip


@pytest.mark.parametrize("scheduler", ("rr", "wlc"))
@pytest.mark.parametrize(
    ("family", "prefix"), ((4, 32), (4, 24), (4, 20), (6, 128), (6, 64), (6, 44))
)
def test_a_network_of_clients_stays_on_its_server(
    world: World, family: int, prefix: int, scheduler: str
) -> None:
    service = world.service("tcp", family, scheduler=scheduler, persistence=300, prefix=prefix)
    for address in SERVERS[family][:3]:
        service.add(address)
    first, second, outsider = clients(family, prefix)
    for port, client in enumerate((first, second, outsider, second, first)):
        sent = world.send(frame(request("tcp", family, sport=3000 + port, src=client)))
        assert sent.reasons == {"forwarded": 1}
    by_port = {
        each.sport - 3000: each.server
        for each in world.connections(family)
        if each.state != "template"
    }
    assert by_port[0] == by_port[1] == by_port[3] == by_port[4] != by_port[2]
    templates = [each for each in world.connections(family) if each.state == "template"]
    assert {each.server for each in templates} == {by_port[0], by_port[2]}


@FAMILIES
def test_persistence_on_every_port_holds_for_all_ports(world: World, family: int) -> None:
    service = world.service("tcp", family, port=0, persistence=300)
    for address in SERVERS[family][:3]:
        service.add(address)
    for dport in (21, 80, 50000):
        world.send(frame(request("tcp", family, sport=dport, dport=dport)))
    entries = world.connections(family)
    assert len(entries) == 4  # three, and the template
    assert len({each.server for each in entries}) == 1


@pytest.mark.parametrize("outer", (4, 6))
@FAMILIES
def test_gue_spreads_flows_over_source_ports_and_keeps_each_on_its_own(
    world: World, family: int, outer: int
) -> None:
    """So that routers and network cards on the way may spread them too (RFC 8086, 3.2)."""
    service = world.service("udp", family)
    server = service.add(SERVER[outer], forwarding="tunnel", tunnel="gue")
    ports = []
    for sport in range(2000, 2064):
        content = frame(request("udp", family, sport=sport))
        each = {oracle.gue_source_port(world.send(content).frame, server) for _ in range(3)}
        assert len(each) == 1
        ports += each
    assert len(set(ports)) > 60


@FAMILIES
def test_persistence_ends_with_its_time(world: World, family: int) -> None:
    service = world.service("tcp", family, persistence=100)
    servers = [service.add(address) for address in SERVERS[family][:2]]
    world.send(frame(request("tcp", family, sport=1)))
    world.age(99, family)
    world.send(frame(request("tcp", family, sport=2)))  # renews it
    world.age(99, family)
    world.send(frame(request("tcp", family, sport=3)))
    world.age(101, family)
    world.send(frame(request("tcp", family, sport=4)))
    by_port = {each.sport: each.server for each in world.connections(family)}
    first = by_port[3]
    assert by_port.get(2, first) == first
    assert by_port[4] != first
    assert {first, by_port[4]} == {server.id for server in servers}


@pytest.mark.parametrize("what", ("drained", "removed"))
@FAMILIES
def test_persistence_does_not_hold_to_a_server_that_is(
    world: World, family: int, what: str
) -> None:
    service = world.service("tcp", family, persistence=300)
    first, second = (service.add(address) for address in reversed(SERVERS[family][:2]))
    world.send(frame(request("tcp", family, sport=1)))
    (served,) = {each.server for each in world.connections(family)}
    chosen, other = (first, second) if served == first.id else (second, first)
    if what == "drained":
        service.weigh(chosen, 0)
    else:
        service.remove(chosen)
    for port in (2, 3):
        world.send(frame(request("tcp", family, sport=port)))
    by_port = {each.sport: each.server for each in world.connections(family)}
    assert by_port[2] == by_port[3] == other.id


@pytest.mark.parametrize("method", ("dsr", "tunnel"))
@FAMILIES
def test_one_packet_scheduling_remembers_nothing(world: World, family: int, method: str) -> None:
    service = world.service("udp", family, flags=("one_packet",))
    for n, address in enumerate(SERVERS[family][:3]):
        service.add(address, forwarding=method, vlan=n + 1)
    packet = frame(request("udp", family))
    tags = [world.send(packet).frame[14:16] for _ in range(6)]
    assert tags[:3] == tags[3:]
    assert len(set(tags)) == 3
    assert world.connections(family) == []


@FAMILIES
def test_a_jumbo_packet_is_forwarded_whole(world: World, family: int) -> None:
    """Its data lies in fragments behind the first page."""
    service = world.service("udp", family)
    server = service.add(SERVER[4], forwarding="tunnel", mtu=9000)
    packet = request("udp", family, payload=bytes(range(256)) * 33)
    sent = world.send(frame(packet))
    assert (sent.verdict, sent.reasons) == (TX, {"forwarded": 1})
    assert sent.frame == oracle.to_server(packet, server)


@pytest.mark.parametrize("method", ("nat", "fullnat"))
@FAMILIES
def test_a_jumbo_packet_is_translated(world: World, family: int, method: str) -> None:
    service = world.service("tcp", family)
    server = service.add(SERVER[family], forwarding=method, port=8080, mtu=9000)
    packet = request("tcp", family, payload=bytes(range(256)) * 33)
    sent = world.send(frame(packet))
    port = world.connection(family).source_port
    assert sent.frame == oracle.to_server(packet, server, source_port=port)


@FAMILIES
def test_a_jumbo_packet_that_does_not_fit_is_told_so(world: World, family: int) -> None:
    service = world.service("udp", family)
    service.add(SERVER[4], forwarding="tunnel", mtu=1480)
    packet = request("udp", family, payload=bytes(8000))
    sent = world.send(frame(packet))
    kind = {4: "frag needed", 6: "packet too big"}[family]
    answer = oracle.answered(oracle.error(packet, kind, mtu=1480))
    assert sent.reasons == {"too_big_answered": 1}
    assert sent.frame.hex() == answer.hex()


@pytest.mark.parametrize("egress", (0, 300))
@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_a_providers_tag_in_front_of_a_customers(
    world: World, family: int, method: str, egress: int
) -> None:
    """IEEE 802.1ad: the first of two tags has a type of its own."""
    server = add_server(world, Case(method, family, "udp", egress=egress))
    packet = request("udp", family)
    sent = world.send(frame(packet, (7, 8), outer_tag=0x88A8))
    assert sent.reasons == {"forwarded": 1}
    chosen = {"source_port": world.connection(family).source_port}
    if server.tunnel == "gue":
        chosen["gue_sport"] = oracle.gue_source_port(sent.frame, server)
    assert sent.frame.hex() == oracle.to_server(packet, server, **chosen).hex()


@FAMILIES
def test_an_answer_keeps_priority_and_type_of_tags(world: World, family: int) -> None:
    world.service("tcp", family)
    packet = request("tcp", family)
    content = bytearray(frame(packet, (7, 8), outer_tag=0x88A8))
    content[14] |= 0xE0
    content[18] |= 0x50
    sent = world.send(bytes(content))
    assert sent.reasons == {"refused": 1}
    assert sent.frame[12:22] == content[12:22]


def test_fullnat_has_no_sctp(world: World) -> None:
    world.service("sctp", 4).add(SERVER[4], forwarding="fullnat")
    sent = world.send(frame(request("sctp", 4)))
    assert (sent.verdict, sent.reasons) == (DROP, {"unsupported": 1})


def test_nat_of_sctp_to_another_port_is_not_possible(world: World) -> None:
    """The ports are under SCTP's checksum, which is not incremental."""
    world.service("sctp", 4).add(SERVER[4], forwarding="nat", port=99)
    sent = world.send(frame(request("sctp", 4)))
    assert (sent.verdict, sent.reasons) == (DROP, {"unsupported": 1})
