"""A million random and mutated packets: what must hold of any packet holds of each of them.

fuzz/*.h draw and judge them, in C for speed, from what the RFCs and this world's services say.
The seed is fixed and printed with a failure; KERNLB_RANDOM_PACKETS and KERNLB_RANDOM_SEED change
how many and which.
"""

from __future__ import annotations

import ctypes
import os
import random
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.utils import hexdump

from tests.bpf.compiling import library
from tests.bpf.frames import (
    CLIENT,
    CLIENT_MAC,
    HEADERS,
    NUMBER,
    ROUTER,
    SERVER,
    SERVER_MAC,
    VIP,
    echo,
    frame,
    icmp_error,
    request,
)
from tests.bpf.network import Network
from tests.bpf.services import Server, Service
from tests.bpf.test_fragments import datagram, fragments
from tests.bpf.test_not_ours import FRAMES, strays
from tests.bpf.world import Sizes, World

PACKETS = int(os.environ.get("KERNLB_RANDOM_PACKETS", "1000000"))
SEED = int(os.environ.get("KERNLB_RANDOM_SEED", "20261121"))
ROUNDS = 20  # between them connections age, servers come and go
PEER_MAC = bytes.fromhex("06aabbccddee")  # whoever sends: no machine that packets are sent on to
SECOND_VIP = {4: "192.0.2.2", 6: "2001:db8:f::2"}
FORWARDINGS = ("dsr", "tunnel", "nat", "fullnat")
TUNNELS = ("ipip", "gue", "gre")
# port -> protocol, scheduler, forwarding, tunnel, family of the server (0: the service's), more
SERVICES = {
    80: ("tcp", "rr", "dsr", "", 0, {}),
    81: ("udp", "wrr", "dsr", "", 0, {"vlan": 300}),
    82: ("tcp", "lc", "tunnel", "ipip", 4, {}),
    83: ("udp", "wlc", "tunnel", "ipip", 6, {"mtu": 700}),
    84: ("udp", "sh", "tunnel", "gue", 4, {}),
    85: ("tcp", "mh", "tunnel", "gue", 6, {"vlan": 7}),
    86: ("sctp", "rr", "tunnel", "gre", 4, {}),
    87: ("udp", "rr", "tunnel", "gre", 6, {}),
    88: ("tcp", "rr", "nat", "", 0, {"port": 8088}),
    89: ("udp", "sh", "nat", "", 0, {"port": 8089, "mtu": 500}),
    90: ("sctp", "mh", "nat", "", 0, {}),
    91: ("tcp", "wlc", "fullnat", "", 0, {"port": 8091}),
    92: ("udp", "rr", "fullnat", "", 0, {"port": 8092, "vlan": 9}),
    93: ("tcp", "rr", "", "", 0, {}),
    94: ("udp", "mh", "", "", 0, {}),
}


class Pair(ctypes.Structure):
    """struct pair"""

    _fields_ = (
        *((name, ctypes.c_uint8 * 16) for name in ("vip", "server", "ours")),
        *((name, ctypes.c_uint16) for name in ("port", "server_port", "vlan", "tunnel_port")),
        *((name, ctypes.c_uint8) for name in ("family", "server_family", "protocol")),
        *((name, ctypes.c_uint8) for name in ("forwarding", "tunnel", "has_server")),
        *((name, ctypes.c_uint8) for name in ("by_load", "pad")),
    )


class Known(ctypes.Structure):
    """struct world"""

    _fields_ = (
        ("pairs", ctypes.POINTER(Pair)),
        ("count", ctypes.c_uint32),
        ("server_mac", ctypes.c_uint8 * 6),
        ("client_mac", ctypes.c_uint8 * 6),
    )


class Corpus(ctypes.Structure):
    """struct corpus"""

    _fields_ = (
        ("data", ctypes.c_char_p),
        ("offsets", ctypes.POINTER(ctypes.c_uint32)),
        ("count", ctypes.c_uint32),
    )


class Frame(ctypes.Structure):
    """struct frame"""

    _fields_ = (("length", ctypes.c_uint32), ("data", ctypes.c_uint8 * 2048))


class Result(ctypes.Structure):
    """struct result"""

    _fields_ = (
        ("sent", ctypes.c_uint64),
        ("verdicts", ctypes.c_uint64 * 5),
        ("valid", ctypes.c_uint64),
        ("wrong", ctypes.c_char * 128),
        ("in_", Frame),
        ("out", Frame),
        ("verdict", ctypes.c_uint32),
    )


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return library("run.c", tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def busy(network: Network) -> Iterator[World]:
    world = World(network, Sizes(services=64, conns4=1024, conns6=1024))
    world.reset()
    yield world
    world.close()


def add_services(world: World) -> list[Service]:
    made = []
    for family in (4, 6):
        for port, (protocol, scheduler, kind, tunnel, outer, how) in SERVICES.items():
            flags = ("fallback",) if scheduler in ("sh", "mh") else ()
            service = world.service(protocol, family, port=port, scheduler=scheduler, flags=flags)
            for number in range(2) if kind else ():
                address = server_address(outer or family, port, number)
                extra = {"tunnel": tunnel} if tunnel else {}
                service.add(address, forwarding=kind, interface="back", **extra, **how)
            made.append(service)
        every = world.service("tcp", family, port=0, address=SECOND_VIP[family], scheduler="mh")
        every.add(server_address(family, 1, 0), forwarding="nat", interface="back")
        made.append(every)
    return made


def server_address(family: int, port: int, number: int) -> str:
    return f"10.1.{port}.{number + 10}" if family == 4 else f"fd00:1::{port:x}:{number + 10:x}"


def known(services: list[Service]) -> Known:
    pairs = [pair(service, server) for service in services for server in service.servers or [None]]
    array = (Pair * len(pairs))(*pairs)
    macs = (tuple(bytes.fromhex(mac.replace(":", ""))) for mac in (SERVER_MAC, CLIENT_MAC))
    return Known(array, len(pairs), *((ctypes.c_uint8 * 6)(*mac) for mac in macs))


def pair(service: Service, server: Server | None) -> Pair:
    made = Pair(port=service.port, family=service.family, protocol=NUMBER[service.protocol])
    put(made.vip, service.address)
    if server is None:
        return made
    put(made.server, server.address)
    put(made.ours, server.ours)
    made.server_port, made.vlan, made.tunnel_port = server.port, server.vlan, server.tunnel_port
    made.server_family, made.has_server = server.family, 1
    made.by_load = service.scheduler in ("lc", "wlc")
    made.forwarding = FORWARDINGS.index(server.forwarding)
    made.tunnel = TUNNELS.index(server.tunnel)
    return made


def put(field: ctypes.Array, address: str) -> None:
    for at, value in enumerate(ip_address(address).packed):
        field[at] = value


def packets() -> Iterator[bytes]:
    """What mutation begins with: every kind of packet to every kind of service."""
    for family in (4, 6):
        shapes = [name for name, (families, _) in HEADERS.items() if family in families]
        for port, (protocol, *_) in SERVICES.items():
            for headers in shapes:
                packet = request(protocol, family, dport=port, headers=headers)
                yield frame(packet)
            yield frame(request(protocol, family, dport=port, ttl=1))
            yield frame(request(protocol, family, dport=port, flags="A"), (5,))
            yield frame(request(protocol, family, dport=port, payload=bytes(700)), (5, 6))
            quoted = request(protocol, family, port, 40000, src=VIP[family], dst=CLIENT[family])
            error = icmp_error(family, "time exceeded", bytes(quoted), ROUTER[family], VIP[family])
            yield frame(error)
        for port in (81, 84, 89, 92):
            for piece in fragments(datagram(family, dport=port)):
                yield frame(piece)
        yield frame(request("udp", family, dport=89, udp_checksum=0))
        yield frame(request("tcp", family, dport=4711, dst=SECOND_VIP[family]))
        yield frame(echo(family))
        yield frame(echo(family, dst=SECOND_VIP[family]), (5,))
        yield frame(request("tcp", family, 9, 22, src=SERVER[family]))
        yield from strays(family).values()
    yield from FRAMES.values()


def corpus() -> Corpus:
    contents = [each[:6] + PEER_MAC + each[12:] for each in packets()]
    offsets = [0]
    for content in contents:
        offsets.append(offsets[-1] + len(content))
    return Corpus(b"".join(contents), (ctypes.c_uint32 * len(offsets))(*offsets), len(contents))


def stir(world: World, services: list[Service], chosen: random.Random) -> None:
    """Time passes, servers come, go and change."""
    for family in (4, 6):
        world.age(chosen.choice((0, 5, 70, 400)), family)
        world.sweep(family)
    for service in chosen.sample([each for each in services if each.servers], 6):
        server = chosen.choice(service.servers)
        service.weigh(server, chosen.choice((0, 1, 5)))
        if chosen.random() < 0.5:
            service.remove(server)
            again = {**vars(server), "alive": True, "generation": server.generation + 1}
            service.add(again.pop("address"), **again)


def explain(result: Result, world: World) -> str:
    came, left = (bytes(each.data)[: each.length] for each in (result.in_, result.out))
    return (
        f"{result.wrong.decode()} (verdict {result.verdict}; seed {SEED})\n"
        f"explained last: {world.explanation()}\n"
        f"in:\n{hexdump(came, dump=True)}\nout:\n{hexdump(left, dump=True)}"
    )


@pytest.mark.timeout(600)
def test_what_must_hold_of_any_packet_holds_of_a_million(busy: World, driver: ctypes.CDLL) -> None:
    services = add_services(busy)
    busy.limit_answers(0)
    chosen, source, result = random.Random(SEED), corpus(), Result()
    front = busy.network.interfaces.front
    for number in range(ROUNDS):
        world, seed = known(services), ctypes.c_uint64(SEED * ROUNDS + number)
        count = ctypes.c_uint64(PACKETS // ROUNDS)
        with busy.network.entered():
            code = driver.run(
                busy.programs["kernlb"].fd, busy.programs["explain"].fd, front, seed, count,
                ctypes.byref(source), ctypes.byref(world), ctypes.byref(result),
            )  # fmt: skip
        assert code >= 0, "the kernel does not run the program"
        assert not code, explain(result, busy)
        stir(busy, services, chosen)

    assert result.sent == PACKETS // ROUNDS * ROUNDS
    assert_all_were_met(busy.reasons(), result)


def assert_all_were_met(reasons: Counter[str], result: Result) -> None:
    """Every fate befell many packets, or nothing was shown."""
    print(f"seed {SEED}:", dict(reasons), f"{result.valid} sent on with checksums that hold")
    least = PACKETS // 2000
    expected = {
        *("not_ours", "no_service", "forwarded", "reply", "icmp_forwarded", "echo_answered"),
        *("too_big_answered", "ttl_answered", "refused", "malformed", "fragment_unplaced"),
    }
    assert {name for name, count in reasons.items() if count >= least} >= expected
    assert result.valid > PACKETS // 20
