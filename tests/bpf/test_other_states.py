"""UDP and SCTP: their states, how long they last, and what counts as active."""

from __future__ import annotations

import pytest
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkHeartbeatReq,
    SCTPChunkInit,
    SCTPChunkSACK,
    SCTPChunkShutdown,
    SCTPChunkShutdownAck,
    SCTPChunkShutdownComplete,
)

from tests.bpf.connections import TIMEOUTS
from tests.bpf.frames import PORT, SERVERS, SPORT, frame, ip, request
from tests.bpf.world import World

FAMILIES = pytest.mark.parametrize("family", (4, 6))
CHUNKS = {
    "INIT": SCTPChunkInit(init_tag=1),
    "COOKIE-ECHO": SCTPChunkCookieEcho(cookie=b"1234"),
    "DATA": SCTPChunkData(data=b"12345678"),
    "SACK": SCTPChunkSACK(),
    "HEARTBEAT": SCTPChunkHeartbeatReq(),
    "SHUTDOWN": SCTPChunkShutdown(),
    "SHUTDOWN-ACK": SCTPChunkShutdownAck(),
    "SHUTDOWN-COMPLETE": SCTPChunkShutdownComplete(),
    "ABORT": SCTPChunkAbort(),
}
INIT, UP, CLOSING = "sctp_init", "sctp_established", "sctp_closing"
STORIES = {
    "opened": ("INIT COOKIE-ECHO DATA SACK", (INIT, UP, UP, UP)),
    "asked again": ("INIT INIT COOKIE-ECHO", (INIT, INIT, UP)),
    "taken up in the middle": ("DATA SACK", (UP, UP)),
    "kept alive": ("INIT COOKIE-ECHO HEARTBEAT", (INIT, UP, UP)),
    "closed": (
        "INIT COOKIE-ECHO SHUTDOWN SHUTDOWN-COMPLETE DATA",
        (INIT, UP, CLOSING, CLOSING, CLOSING),
    ),
    "closed by the server": ("INIT COOKIE-ECHO SHUTDOWN-ACK", (INIT, UP, CLOSING)),
    "aborted": ("INIT ABORT", (INIT, CLOSING)),
    "aborted when open": ("INIT COOKIE-ECHO ABORT", (INIT, UP, CLOSING)),
}


def sctp(family: int, chunk: str) -> bytes:
    return frame(ip(family, SCTP(sport=SPORT, dport=PORT) / CHUNKS[chunk]))


@pytest.mark.parametrize("name", STORIES)
@FAMILIES
def test_an_association(world: World, family: int, name: str) -> None:
    server = world.service("sctp", family).add(SERVERS[family][0])
    chunks, states = STORIES[name]
    for chunk, state in zip(chunks.split(), states, strict=True):
        assert world.send(sctp(family, chunk)).reasons == {"forwarded": 1}
        assert world.connection(family).state == state
        assert world.load(server.id)[:2] == ((1, 0) if state == UP else (0, 1))


@pytest.mark.parametrize("state", (INIT, UP, CLOSING, "udp"))
@FAMILIES
def test_an_entry_lives_as_long_as_its_state(world: World, family: int, state: str) -> None:
    protocol = "udp" if state == "udp" else "sctp"
    service = world.service(protocol, family)
    first = service.add(SERVERS[family][0])
    content = frame(request("udp", family)) if state == "udp" else sctp(family, "HEARTBEAT")
    world.send(content)
    service.weigh(first, 0)
    second = service.add(SERVERS[family][1])

    world.put_in_state(state, family)
    world.age(TIMEOUTS[state] - 0.5, family)
    world.send(content)
    assert world.connection(family).server == first.id

    world.put_in_state(state, family)
    world.age(TIMEOUTS[state] + 0.5, family)
    world.send(content)
    assert world.connection(family).server == second.id


@FAMILIES
def test_udp_is_inactive_as_in_ipvs_and_confirmed_by_its_second_packet(
    world: World, family: int
) -> None:
    server = world.service("udp", family).add(SERVERS[family][0])
    for confirmed in (False, True, True):
        world.send(frame(request("udp", family)))
        entry = world.connection(family)
        assert (entry.state, "confirmed" in entry.flags) == ("udp", confirmed)
        assert world.load(server.id)[:2] == (0, 1)


@FAMILIES
def test_settings_change_how_long_entries_live(world: World, family: int) -> None:
    service = world.service("udp", family)
    first = service.add(SERVERS[family][0])
    content = frame(request("udp", family))
    world.send(content)
    service.weigh(first, 0)
    service.add(SERVERS[family][1])
    world.age(400, family)
    world.set_timeout("udp", 500)
    world.send(content)
    assert world.connection(family).server == first.id
    world.age(20, family)
    world.set_timeout("udp", 10)
    world.send(content)
    assert world.connection(family).server != first.id
