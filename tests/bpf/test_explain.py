"""The program `explain` decides as `kernlb` does, says why, and leaves no trace in any map."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernlb.datapath.xdp.layout import NONE
from tests.bpf import records
from tests.bpf.frames import CLIENT, ROUTER, SERVER, SERVERS, VIP, answer, echo, frame, icmp_error
from tests.bpf.frames import request as packet
from tests.bpf.network import NO_ROUTE
from tests.bpf.test_forwarding import METHODS, Case, add_server
from tests.bpf.test_fragments import datagram, fragments
from tests.bpf.test_table_full import fill
from tests.bpf.world import Sent, World

CHOSEN = ("not", "connection", "template", "scheduler")
Prepare = Callable[[World, int], bytes]


def explain(world: World, content: bytes) -> tuple[Sent, dict]:
    """What is explained, once it is certain that nothing else happened."""
    before = world.everything()
    sent = world.send(content, program="explain")
    assert world.everything() == before
    why = world.explanation()._asdict()
    why["reason"], why["chosen_by"] = records.REASONS[why["reason"]], CHOSEN[why["chosen_by"]]
    return sent, why


def both(world: World, content: bytes, same_frame: bool = True) -> dict:
    """Explain, then do; returns the explanation, which must have been right."""
    explained, why = explain(world, content)
    done = world.send(content)
    assert (explained.verdict, len(explained.frame)) == (done.verdict, len(done.frame))
    assert explained.frame == done.frame or not same_frame
    assert why["reason"] in done.reasons
    return why


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("protocol", ("tcp", "udp"))
@pytest.mark.parametrize("family", (4, 6))
def test_a_new_flow_and_then_a_known_one(
    world: World, family: int, protocol: str, method: str
) -> None:
    server = add_server(world, Case(method, family, protocol, interface="back"))
    content = frame(packet(protocol, family))
    index = world.network.interfaces.back

    why = both(world, content, method != "fullnat")  # its port is drawn by lot
    assert (why["reason"], why["server"], why["service"]) == ("forwarded", server.id, 1)
    assert (why["chosen_by"], why["ifindex"], why["by_fib"]) == ("scheduler", index, 0)

    entry = world.connection(family)
    why = both(world, content)
    assert (why["chosen_by"], why["server"], why["conn"]) == ("connection", server.id, entry.index)
    assert why["state"] == records.STATES.index(entry.state)


@pytest.mark.parametrize("scheduler", ("rr", "wrr", "lc", "wlc", "sh", "mh"))
@pytest.mark.parametrize("family", (4, 6))
def test_the_next_choice_of_every_scheduler(world: World, family: int, scheduler: str) -> None:
    service = world.service("tcp", family, scheduler=scheduler, flags=("hash_port",))
    for weight, address in enumerate(SERVERS[family][:4], start=1):
        service.add(address, weight=weight)
    for port in range(1000, 1012):
        content = frame(packet("tcp", family, sport=port))
        first, second = (explain(world, content)[1]["server"] for _ in range(2))
        assert first == second  # asking moves no turn on
        world.send(content)
        entry = next(each for each in world.connections(family) if each.sport == port)
        assert entry.server == first


def by_template(world: World, family: int) -> bytes:
    service = world.service("tcp", family, persistence=100)
    for address in SERVERS[family][:2]:
        service.add(address)
    world.send(frame(packet("tcp", family, sport=9)))
    return frame(packet("tcp", family))


@pytest.mark.parametrize("family", (4, 6))
def test_a_client_that_is_held_to_its_server(world: World, family: int) -> None:
    content = by_template(world, family)
    why = both(world, content)
    held = next(each for each in world.connections(family) if each.state == "template")
    assert (why["chosen_by"], why["server"]) == ("template", held.server)


def no_servers(world: World, family: int) -> bytes:
    world.service("tcp", family)
    return frame(packet("tcp", family))


def served(world: World, family: int, **how) -> None:
    world.service("tcp", family).add(SERVER[family], **how)
    world.service("udp", family).add(SERVER[family], **how)


def with_server(**how) -> Prepare:
    """A service in dsr, and a packet."""
    protocol = how.pop("protocol", "tcp")

    def prepare(world: World, family: int) -> bytes:
        served(world, family)
        return frame(packet(protocol, family, **how))

    return prepare


def short(world: World, family: int) -> bytes:
    return with_server()(world, family)[:-20]


def late(world: World, family: int) -> bytes:
    served(world, family)
    return frame(fragments(datagram(family))[1])


def first_fragment(world: World, family: int) -> bytes:
    served(world, family)
    return frame(fragments(datagram(family))[0])


def expired(world: World, family: int) -> bytes:
    content = with_server(protocol="udp")(world, family)
    world.send(content)
    world.age(301, family)
    return content


def unroutable(world: World, family: int) -> bytes:
    world.service("tcp", family).add(NO_ROUTE[family], hop_known=False)
    return frame(packet("tcp", family))


def ping(world: World, family: int) -> bytes:
    served(world, family)
    return frame(echo(family))


def error(world: World, family: int) -> bytes:
    served(world, family)
    world.send(frame(packet("tcp", family)))
    quoted = packet("tcp", family, 80, 40000, src=VIP[family], dst=CLIENT[family])
    return frame(icmp_error(family, "time exceeded", bytes(quoted), ROUTER[family], VIP[family]))


def reply(world: World, family: int) -> bytes:
    served(world, family, forwarding="nat", port=8080)
    world.send(frame(packet("tcp", family)))
    return frame(answer("tcp", family, CLIENT[family], 40000))


FATES: dict[str, tuple[Prepare, str]] = {
    "no servers": (no_servers, "refused"),
    "the last hop": (with_server(ttl=1), "ttl_answered"),
    "too big": (with_server(payload=bytes(1500)), "too_big_answered"),
    "the middle of what is not known": (with_server(flags="A"), "refused"),
    "another port": (with_server(dport=81), "no_service"),
    "another address": (with_server(dst=None, protocol="sctp"), "no_service"),
    "cut short": (short, "malformed"),
    "a late fragment": (late, "fragment_unplaced"),
    "a first fragment": (first_fragment, "forwarded"),
    "an expired entry": (expired, "forwarded"),
    "no route": (unroutable, "no_route"),
    "echo": (ping, "echo_answered"),
    "an ICMP error": (error, "icmp_forwarded"),
    "a server's answer": (reply, "reply"),
}


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("name", FATES)
def test_every_fate_is_explained(world: World, name: str, family: int) -> None:
    prepare, reason = FATES[name]
    content = prepare(world, family)
    assert both(world, content)["reason"] == reason


@pytest.mark.parametrize("family", (4, 6))
def test_a_full_table_is_explained(tiny: World, family: int) -> None:
    tiny.service("tcp", family).add(SERVER[family])
    fill(tiny, "tcp", family)
    assert both(tiny, frame(packet("tcp", family, sport=60000)))["reason"] == "table_full"


def test_limited_answers_are_explained_as_if_there_were_no_limit(world: World) -> None:
    content = no_servers(world, 4)
    world.limit_answers(1)
    for _ in range(5):
        _, why = explain(world, content)
        assert why["reason"] == "refused"
    assert (why["server"], why["chosen_by"]) == (NONE, "not")
