"""Where packets leave: the server's own entry, another interface, or what the kernel's FIB says."""

from __future__ import annotations

import pytest

from tests.bpf import oracle
from tests.bpf.frames import (
    BACK_MAC,
    CLIENT_MAC,
    OUR_MAC,
    OURS,
    PORT,
    SERVER_MAC,
    SPORT,
    VIP,
    answer,
    frame,
    request,
)
from tests.bpf.network import NO_NEIGHBOUR, NO_ROUTE
from tests.bpf.test_forwarding import METHODS
from tests.bpf.world import DROP, REDIRECT, TX, World

FAMILIES = pytest.mark.parametrize("family", (4, 6))
BEHIND_FRONT = {4: "198.51.100.99", 6: "2001:db8:c::99"}
BEHIND_BACK = {4: "10.2.0.5", 6: "fd00:2::5"}


def begin(world: World, method: str, family: int, addresses: dict[int, str]):
    service = world.service("tcp", family)
    kind, _, outer = method.partition(" in ipv")
    if outer:
        where = addresses[int(outer)]
        server = service.add(where, forwarding="tunnel", tunnel=kind, hop_known=False)
    else:
        port = {"port": 8080} if kind != "dsr" else {}
        server = service.add(addresses[family], forwarding=kind, hop_known=False, **port)
    return server


@pytest.mark.parametrize("where", ("front", "back"))
@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_a_hop_that_is_not_known_is_asked_from_the_kernel(
    world: World, family: int, method: str, where: str
) -> None:
    addresses = BEHIND_FRONT if where == "front" else BEHIND_BACK
    server = begin(world, method, family, addresses)
    packet = request("tcp", family)
    sent = world.send(frame(packet))
    assert sent.reasons == {"forwarded": 1}
    assert sent.verdict == (TX if where == "front" else REDIRECT)
    server.interface = where
    chosen = {"source_port": world.connection(family).source_port}
    if server.tunnel == "gue":
        chosen["gue_sport"] = oracle.gue_source_port(sent.frame, server)
    expected = oracle.to_server(packet, server, **chosen)
    assert sent.frame.hex() == expected.hex()
    dst, src = (CLIENT_MAC, OUR_MAC) if where == "front" else (SERVER_MAC, BACK_MAC)
    assert sent.frame[:12].hex(":") == f"{dst}:{src}"


@pytest.mark.parametrize("what", ("no_neighbour", "no_route"))
@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_a_server_that_cannot_be_reached_gets_nothing(
    world: World, family: int, method: str, what: str
) -> None:
    begin(world, method, family, NO_NEIGHBOUR if what == "no_neighbour" else NO_ROUTE)
    sent = world.send(frame(request("tcp", family)))
    assert (sent.verdict, sent.reasons) == (DROP, {what: 1})


@pytest.mark.parametrize("method", METHODS)
@FAMILIES
def test_without_a_known_hop_the_interfaces_mtu_counts(
    world: World, family: int, method: str
) -> None:
    begin(world, method, family, BEHIND_BACK)
    outer = {"ipip": 0, "gue": 12, "gre": 4}.get(method.split()[0])
    mtu = 1500
    if outer is not None:
        mtu -= outer + (20 if method.endswith("4") else 40)
    room = mtu - len(bytes(request("tcp", family, payload=b"")))
    fits = request("tcp", family, payload=bytes(room))
    assert world.send(frame(fits)).reasons == {"forwarded": 1}
    packet = request("tcp", family, payload=bytes(room + 1))
    sent = world.send(frame(packet))
    kind = {4: "frag needed", 6: "packet too big"}[family]
    assert sent.reasons == {"too_big_answered": 1}
    expected = oracle.answered(oracle.error(packet, kind, mtu=mtu))
    assert sent.frame.hex() == expected.hex()


@FAMILIES
def test_an_answer_to_a_client_that_no_route_leads_to_is_dropped(world: World, family: int) -> None:
    service = world.service("tcp", family)
    service.add({4: "10.1.0.10", 6: "fd00:1::10"}[family], forwarding="nat", port=8080)
    world.send(frame(request("tcp", family, src=NO_ROUTE[family])))
    sent = world.send(frame(answer("tcp", family, NO_ROUTE[family], SPORT)), ingress="back")
    assert (sent.verdict, sent.reasons) == (DROP, {"no_route": 1})


@pytest.mark.parametrize("vlan", (None, 7), ids=("untagged", "tagged"))
@pytest.mark.parametrize("method", ("nat", "fullnat"))
@FAMILIES
def test_an_answer_goes_back_to_whom_the_request_came_from_while_the_neighbour_is_unknown(
    world: World, family: int, method: str, vlan: int | None
) -> None:
    service = world.service("tcp", family)
    server = service.add({4: "10.1.0.10", 6: "fd00:1::10"}[family], forwarding=method, port=8080)
    client = NO_NEIGHBOUR[family]
    tags = () if vlan is None else (vlan,)
    assert world.send(frame(request("tcp", family, src=client), tags)).verdict == TX
    dst, dport = client, SPORT
    if method == "fullnat":
        dst, dport = OURS[family], world.connection(family).source_port
    packet = answer("tcp", family, dst, dport, src=server.address)
    sent = world.send(frame(packet, src=SERVER_MAC, dst=BACK_MAC), ingress="back")
    reply = oracle.to_client(packet, VIP[family], PORT, client, SPORT)
    expected = frame(reply, tags, src=OUR_MAC, dst=CLIENT_MAC)
    assert (sent.verdict, sent.reasons) == (REDIRECT, {"reply": 1})
    assert sent.frame.hex() == expected.hex()
    (learnt,) = world.maps["returns"].keys()
    world.maps["returns"].delete(learnt)
    sent = world.send(frame(packet, src=SERVER_MAC, dst=BACK_MAC), ingress="back")
    assert (sent.verdict, sent.reasons) == (DROP, {"no_neighbour": 1})


@pytest.mark.parametrize("earlier", (0, 2), ids=("a first packet", "a later one"))
@pytest.mark.parametrize("method", ("dsr", "tunnel", "nat"))
@FAMILIES
def test_an_interface_that_is_not_ours_to_send_through(
    world: World, family: int, method: str, earlier: int
) -> None:
    """It is not in `devices`: what is lost is counted as lost."""
    service = world.service("tcp", family)
    server = service.add({4: "10.1.0.10", 6: "fd00:1::10"}[family], forwarding=method)
    for number in range(earlier):
        world.send(frame(request("tcp", family, flags="A" if number else "S")))
    server.ifindex = 1  # the loopback
    service.write(server)
    sent = world.send(frame(request("tcp", family, flags="A" if earlier else "S")))
    assert sent.verdict == DROP
    assert "forwarded" not in sent.reasons


@FAMILIES
def test_an_unknown_mtu_limits_nothing(world: World, family: int) -> None:
    service = world.service("udp", family)
    server = service.add({4: "10.1.0.10", 6: "fd00:1::10"}[family], mtu=0)
    packet = request("udp", family, payload=bytes(3000))
    assert world.send(frame(packet)).frame == oracle.to_server(packet, server)


@pytest.mark.parametrize("method", ("nat", "fullnat"))
@FAMILIES
def test_an_answer_at_its_last_hop_is_told_so(world: World, family: int, method: str) -> None:
    from tests.bpf.frames import CLIENT, OURS, SPORT

    service = world.service("tcp", family)
    server = service.add({4: "10.1.0.10", 6: "fd00:1::10"}[family], forwarding=method, port=8080)
    world.send(frame(request("tcp", family)))
    dst, dport = CLIENT[family], SPORT
    if method == "fullnat":
        dst, dport = OURS[family], world.connection(family).source_port
    packet = answer("tcp", family, dst, dport, ttl=1)
    sent = world.send(frame(packet, src=SERVER_MAC, dst=BACK_MAC), ingress="back")
    assert (sent.verdict, sent.reasons) == (TX, {"ttl_answered": 1})
    error = oracle.error(packet, "time exceeded", source=server.ours)
    assert sent.frame.hex() == frame(error, src=BACK_MAC, dst=SERVER_MAC).hex()
