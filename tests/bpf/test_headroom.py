"""Drivers that leave no room in front of a packet: what needs none still goes on its way.

Metadata in front of the packet takes the room away here, as some drivers' own does.
"""

from __future__ import annotations

import pytest

from tests.bpf import oracle
from tests.bpf.frames import frame, request
from tests.bpf.test_forwarding import Case, add_server
from tests.bpf.world import DROP, TX, World

METADATA = 200  # of 256 bytes; the kernel keeps 40 for itself
FAMILIES = pytest.mark.parametrize("family", (4, 6))
TUNNELS = ("ipip in ipv4", "ipip in ipv6", "gue in ipv4", "gre in ipv6")


@pytest.mark.parametrize("earlier", (0, 2), ids=("a first packet", "a later one"))
@pytest.mark.parametrize("method", TUNNELS)
@FAMILIES
def test_without_room_for_an_outer_header_it_is_dropped_by_name(
    world: World, family: int, method: str, earlier: int
) -> None:
    add_server(world, Case(method, family, "tcp"))
    for number in range(earlier):
        world.send(frame(request("tcp", family, flags="A" if number else "S")))
    content = frame(request("tcp", family, flags="A" if earlier else "S"))
    sent = world.send(content, metadata=METADATA)
    assert (sent.verdict, sent.reasons) == (DROP, {"no_headroom": 1})


@pytest.mark.parametrize("earlier", (0, 2), ids=("a first packet", "a later one"))
@pytest.mark.parametrize("method", ("dsr", "nat", "fullnat"))
@FAMILIES
def test_what_does_not_grow_needs_no_room(
    world: World, family: int, method: str, earlier: int
) -> None:
    server = add_server(world, Case(method, family, "tcp"))
    for number in range(earlier):
        world.send(frame(request("tcp", family, flags="A" if number else "S")))
    packet = request("tcp", family, flags="A" if earlier else "S")
    sent = world.send(frame(packet), metadata=METADATA)
    assert (sent.verdict, sent.reasons) == (TX, {"forwarded": 1})
    port = world.connection(family).source_port
    assert sent.frame.hex() == oracle.to_server(packet, server, source_port=port).hex()


@FAMILIES
def test_an_error_that_finds_no_room_is_not_sent(world: World, family: int) -> None:
    add_server(world, Case("dsr", family, "tcp"))
    sent = world.send(frame(request("tcp", family, ttl=1)), metadata=METADATA)
    assert (sent.verdict, sent.reasons) == (DROP, {"ttl_expired": 1})


@FAMILIES
def test_a_reset_needs_no_room(world: World, family: int) -> None:
    world.service("tcp", family)
    packet = request("tcp", family)
    sent = world.send(frame(packet), metadata=METADATA)
    assert (sent.verdict, sent.reasons) == (TX, {"refused": 1})
    assert sent.frame.hex() == oracle.answered(oracle.reset(packet)).hex()


def test_metadata_is_as_the_kernel_counts_it(world: World) -> None:
    """Nothing was shown above if the packet's room were not what it is taken for."""
    add_server(world, Case("ipip in ipv4", 4, "tcp"))
    content = frame(request("tcp", 4))
    fits = [world.send(content, metadata=size).verdict == TX for size in (0, 100, 180, METADATA)]
    assert fits == [True, True, True, False]
