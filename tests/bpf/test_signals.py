"""What packets give away about a server: first packets again, progress, unreachable."""

from __future__ import annotations

import pytest

from kernlb.datapath.xdp import layout
from tests.bpf.frames import CLIENT, SERVER, SPORT, answer, frame, icmp_error, request
from tests.bpf.test_next_hops import FAMILIES
from tests.bpf.world import World


def signals(world: World, server: int) -> layout.Signals:
    each = map(
        layout.SIGNALS.unpack, world.maps["signals"].values_per_cpu(layout.U32.pack(server)) or ()
    )
    return layout.Signals(*map(sum, zip(*each, strict=True)))


@pytest.mark.parametrize("method", ("dsr", "tunnel", "nat", "fullnat"))
@FAMILIES
def test_a_first_packet_again_is_noted_until_the_connection_began(
    world: World, family: int, method: str
) -> None:
    service = world.service("tcp", family)
    server = service.add(SERVER[family], forwarding=method)
    for _ in range(3):
        world.send(frame(request("tcp", family, flags="S")))
    assert signals(world, server.id) == (0, 2, 0)
    if method in ("nat", "fullnat"):
        dport = SPORT if method == "nat" else world.connection(family).source_port
        to = CLIENT[family] if method == "nat" else server.ours
        world.send(frame(answer("tcp", family, to, dport, sport=server.port)), ingress="back")
    for _ in range(3):
        world.send(frame(request("tcp", family, flags="A")))
    assert signals(world, server.id) == (1, 2, 0)


@pytest.mark.parametrize("kind", ("port unreachable", "time exceeded"))
@FAMILIES
def test_unreachable_is_noted_where_it_quotes_what_nat_sent(
    world: World, family: int, kind: str
) -> None:
    service = world.service("udp", family)
    server = service.add(SERVER[family], forwarding="nat")
    sent = world.send(frame(request("udp", family)))
    error = icmp_error(family, kind, sent.frame[14:][:60], SERVER[family], CLIENT[family])
    assert world.send(frame(error), ingress="back").reasons == {"icmp_forwarded": 1}
    assert signals(world, server.id) == (0, 0, int(kind == "port unreachable"))
