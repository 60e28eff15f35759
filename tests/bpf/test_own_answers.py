"""What the program answers itself: echo, too big, TTL, refusals; to where the cause came from."""

from __future__ import annotations

import pytest
from scapy.packet import Packet
from scapy.utils import checksum

from tests.bpf import oracle
from tests.bpf.frames import (
    CLIENT,
    HEADERS,
    ROUTER,
    SERVER,
    VIP,
    echo,
    frame,
    icmp,
    icmp_error,
    request,
)
from tests.bpf.test_forwarding import METHODS, VLANS, Case, add_server
from tests.bpf.world import DROP, PASS, TX, World

TOO_BIG = {4: "frag needed", 6: "packet too big"}
FAMILIES = pytest.mark.parametrize("family", (4, 6))


def expect_answer(world: World, packet: Packet, answer: Packet, reason: str, vlans=()) -> None:
    sent = world.send(frame(packet, vlans))
    assert sent.reasons == {reason: 1}
    assert sent.verdict == TX
    assert sent.frame.hex() == oracle.answered(answer, vlans).hex()


def expect_drop(world: World, packet: Packet, reason: str) -> None:
    sent = world.send(frame(packet))
    assert (sent.verdict, sent.reasons) == (DROP, {reason: 1})


@pytest.mark.parametrize("vlans", VLANS)
@FAMILIES
def test_echo_to_a_vip_is_answered(world: World, family: int, vlans: str) -> None:
    world.service("tcp", family)
    packet = echo(family, tos=0x20)
    expect_answer(world, packet, oracle.echo_reply(packet), "echo_answered", VLANS[vlans])


@FAMILIES
def test_echo_to_a_vip_of_a_service_on_every_port_is_answered(world: World, family: int) -> None:
    world.service("udp", family, port=0)
    packet = echo(family, ttl=1)
    expect_answer(world, packet, oracle.echo_reply(packet), "echo_answered")


def test_an_echo_of_nothing_but_zeros_has_a_checksum_that_holds(world: World) -> None:
    """Of zeros alone the sum is 0 and its complement ffff, which no difference arrives at."""
    world.service("tcp", 4)
    packet = icmp(4, (8, 0, 0), bytes(32), CLIENT[4], VIP[4])
    reply = world.send(frame(packet)).frame[34:]
    assert reply[4:] == bytes(36)
    assert checksum(reply) == 0


@FAMILIES
def test_an_echo_reply_to_a_vip_is_the_stacks(world: World, family: int) -> None:
    world.service("tcp", family)
    packet = frame(echo(family, request=False))
    sent = world.send(packet)
    assert (sent.verdict, sent.frame) == (PASS, packet)


@FAMILIES
def test_a_wrong_checksum_in_an_echo_stays_wrong(world: World, family: int) -> None:
    world.service("tcp", family)
    content = bytearray(frame(echo(family)))
    content[-1] ^= 1
    sent = world.send(bytes(content))
    reply = bytearray(oracle.answered(oracle.echo_reply(echo(family))))
    reply[-1] ^= 1
    assert sent.frame == bytes(reply)


@pytest.mark.parametrize("vlans", VLANS)
@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_what_does_not_fit_is_told_so(
    world: World, family: int, method: str, protocol: str, vlans: str
) -> None:
    server = add_server(world, Case(method, family, protocol))
    server.mtu = 1400
    world.services.made[0].write(server)
    room = 1400 - len(bytes(request(protocol, family, payload=b"")))
    fits = request(protocol, family, payload=bytes(room))
    assert world.send(frame(fits)).reasons == {"forwarded": 1}

    packet = request(protocol, family, payload=bytes(room + 1))
    answer = oracle.error(packet, TOO_BIG[family], mtu=1400)
    expect_answer(world, packet, answer, "too_big_answered", VLANS[vlans])


@pytest.mark.parametrize("method", ("ipip in ipv4", "nat", "dsr"))
def test_what_may_be_fragmented_and_does_not_fit_is_dropped(world: World, method: str) -> None:
    server = add_server(world, Case(method, 4, "udp"))
    server.mtu = 576
    world.services.made[0].write(server)
    expect_drop(world, request("udp", 4, payload=bytes(600), df=False), "too_big")


@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_the_last_hop_is_told_so(world: World, family: int, method: str) -> None:
    add_server(world, Case(method, family, "tcp"))
    packet = request("tcp", family, ttl=1)
    expect_answer(world, packet, oracle.error(packet, "time exceeded"), "ttl_answered")


@pytest.mark.parametrize("ttl", (0, 1))
@pytest.mark.parametrize("vlans", VLANS)
@pytest.mark.parametrize("headers", HEADERS)
@pytest.mark.parametrize("protocol", ("tcp", "udp", "sctp"))
@FAMILIES
def test_the_last_hop_of_any_shape_is_told_so(
    world: World, family: int, protocol: str, headers: str, vlans: str, ttl: int
) -> None:
    if family not in HEADERS[headers][0]:
        headers = "plain"
    add_server(world, Case("dsr", family, protocol))
    packet = request(protocol, family, ttl=ttl, headers=headers)
    answer = oracle.error(packet, "time exceeded")
    expect_answer(world, packet, answer, "ttl_answered", VLANS[vlans])


FLAGS = {"SYN": "S", "ACK": "A", "FIN and ACK": "FA", "FIN": "F", "no flag": "", "PSH, ACK": "PA"}


@pytest.mark.parametrize("vlans", VLANS)
@pytest.mark.parametrize("flags", FLAGS)
@FAMILIES
def test_tcp_to_a_service_without_servers_is_reset(
    world: World, family: int, flags: str, vlans: str
) -> None:
    world.service("tcp", family)
    packet = request("tcp", family, flags=FLAGS[flags])
    expect_answer(world, packet, oracle.reset(packet), "refused", VLANS[vlans])


@pytest.mark.parametrize("vlans", VLANS)
@pytest.mark.parametrize("protocol", ("udp", "sctp"))
@FAMILIES
def test_others_to_a_service_without_servers_are_told_so(
    world: World, family: int, protocol: str, vlans: str
) -> None:
    world.service(protocol, family)
    packet = request(protocol, family)
    answer = oracle.error(packet, "port unreachable")
    expect_answer(world, packet, answer, "refused", VLANS[vlans])


@pytest.mark.parametrize("scheduler", ("rr", "wrr", "lc", "wlc", "sh", "mh"))
@FAMILIES
def test_servers_of_no_weight_refuse(world: World, family: int, scheduler: str) -> None:
    service = world.service("tcp", family, scheduler=scheduler)
    service.weigh(service.add(SERVER[family]), 0)
    packet = request("tcp", family)
    expect_answer(world, packet, oracle.reset(packet), "refused")


@pytest.mark.parametrize("headers", ("ipv4 options", "hop-by-hop", "three extensions"))
def test_a_reset_has_no_options(world: World, headers: str) -> None:
    family = HEADERS[headers][0][0]
    world.service("tcp", family)
    packet = request("tcp", family, headers=headers)
    expect_answer(world, packet, oracle.reset(packet), "refused")


@FAMILIES
def test_a_reset_is_not_answered_by_a_reset(world: World, family: int) -> None:
    world.service("tcp", family)
    expect_drop(world, request("tcp", family, flags="RA"), "no_connection")


@pytest.mark.parametrize("flags", ("A", "FA", "SA", "PA"))
@pytest.mark.parametrize("scheduler", ("rr", "wrr", "lc", "wlc"))
@FAMILIES
def test_the_middle_of_an_unknown_connection_is_reset(
    world: World, family: int, scheduler: str, flags: str
) -> None:
    world.service("tcp", family, scheduler=scheduler).add(SERVER[family])
    packet = request("tcp", family, flags=flags)
    expect_answer(world, packet, oracle.reset(packet), "refused")
    assert world.connections(family) == []


@pytest.mark.parametrize("scheduler", ("sh", "mh"))
@FAMILIES
def test_hashing_takes_connections_up_in_the_middle(
    world: World, family: int, scheduler: str
) -> None:
    server = world.service("tcp", family, scheduler=scheduler).add(SERVER[family])
    packet = request("tcp", family, flags="A")
    sent = world.send(frame(packet))
    assert sent.frame.hex() == oracle.to_server(packet, server).hex()
    assert world.connection(family).state == "established"


@pytest.mark.parametrize(
    ("cause", "answered", "dropped"),
    (
        ({"ttl": 1}, "ttl_answered", "ttl_expired"),
        ({"payload": bytes(1481)}, "too_big_answered", "too_big"),
        ({"flags": "A"}, "refused", "no_connection"),
        ({"dport": 81}, "refused", "no_server"),
    ),
)
@FAMILIES
def test_answers_are_limited(
    world: World, family: int, cause: dict, answered: str, dropped: str
) -> None:
    world.service("tcp", family).add(SERVER[family], mtu=1480)
    world.service("tcp", family, port=81)
    world.limit_answers(3)
    packet = frame(request("tcp", family, **cause))
    first = world.send(packet)
    assert first.reasons == {answered: 1}
    more = [world.send(packet).reasons for _ in range(40)]  # some on another CPU, or second
    assert {dropped: 1} in more
    assert more.count({answered: 1}) < 20


@FAMILIES
def test_an_error_about_an_error_is_never_sent(world: World, family: int) -> None:
    world.service("tcp", family).add(SERVER[family])
    world.send(frame(request("tcp", family)))
    quoted = request("tcp", family, 80, 40000, src=VIP[family], dst=CLIENT[family])
    packet = icmp_error(family, "time exceeded", bytes(quoted), ROUTER[family], VIP[family], ttl=1)
    expect_drop(world, packet, "ttl_expired")
