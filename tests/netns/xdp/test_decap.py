"""Decap with real clients and servers: tunnels made by plain sockets, undone in front of nginx.

No datapath takes part, so that what fails here is the server's side.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from kernlb.datapath.xdp import decap
from kernlb.datapath.xdp.decap import Decap
from kernlb.lab.load import share_by_server
from kernlb.lab.namespaces import inside
from kernlb.lab.network import Lab
from kernlb.lab.topology import GUE_PORT, IPAddress

pytestmark = pytest.mark.netns

ETH_P_ALL = 3
ETHERTYPE = {4: b"\x08\x00", 6: b"\x86\xdd"}
NUMBER = {4: 4, 6: 41}  # IP protocol of IPv4, IPv6 inside something
GRE = 47
FAMILIES = pytest.mark.parametrize("inner", [4, 6], ids=["ipv4", "ipv6"])
OUTER = pytest.mark.parametrize("outer", [4, 6], ids=["in-ipv4", "in-ipv6"])


class Encapsulator:
    """Sends every packet for a VIP, as it arrives at the balancer, through a tunnel to a server."""

    def __init__(
        self, lab: Lab, tunnel: str, vip: IPAddress, server: IPAddress, port: int = GUE_PORT
    ) -> None:
        self._tunnel, self._vip = tunnel, vip
        family = socket.AF_INET if server.version == 4 else socket.AF_INET6
        kinds = {
            "ipip": (socket.SOCK_RAW, NUMBER[vip.version]),
            "gre": (socket.SOCK_RAW, GRE),
            "gue": (socket.SOCK_DGRAM, 0),
            "gue direct": (socket.SOCK_DGRAM, 0),
        }
        kind, number = kinds[tunnel]
        self._to = str(server), port if kind == socket.SOCK_DGRAM else 0
        namespace = lab.topology.namespace("balancer")
        self._out = inside(namespace, lambda: socket.socket(family, kind, number))
        self._in = inside(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        inside(namespace, lambda: self._in.bind(("front", ETH_P_ALL)))
        self._stop, self._stopping = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.close()
        self._thread.join(10)
        for each in (self._in, self._out, self._stop):
            each.close()

    def _run(self) -> None:
        while self._stop not in select.select([self._in, self._stop], [], [], 60)[0]:
            frame, address = self._in.recvfrom(2048)
            if address[2] == socket.PACKET_HOST and self._is_for_vip(frame):
                self._out.sendto(self._shim() + frame[14:], self._to)

    def _is_for_vip(self, frame: bytes) -> bool:
        if frame[12:14] != ETHERTYPE[self._vip.version]:
            return False
        return frame[30:34] == self._vip.packed or frame[38:54] == self._vip.packed

    def _shim(self) -> bytes:
        if self._tunnel == "gre":
            return bytes(2) + ETHERTYPE[self._vip.version]
        return bytes((0, NUMBER[self._vip.version], 0, 0)) if self._tunnel == "gue" else b""


@pytest.fixture(scope="module", autouse=True)
def balancer_is_silent(lab: Lab) -> None:
    """The balancer's own stack gives no answer to packets for VIPs."""
    for option, network in (("-4", "192.0.2.0/24"), ("-6", "fd00:aa::/64")):
        lab.exec("balancer", ["ip", option, "route", "add", "blackhole", network])


@pytest.fixture
def decap_on_server1(lab: Lab) -> Iterator[str]:
    """Decap as the lab attaches it where the kernel lacks tunnels, on kernels that have them too;
    the namespace."""
    namespace = lab.topology.namespace("server1")
    ends = Decap((lab.topology.servers[0].v4, lab.topology.servers[0].v6), gue_port=GUE_PORT)
    inside(namespace, lambda: decap.attach("back", ends))
    yield namespace
    inside(namespace, lambda: decap.attach("back", ends))


@FAMILIES
@OUTER
@pytest.mark.parametrize("tunnel", ["ipip", "gre", "gue", "gue direct"])
def test_a_server_answers_what_comes_through_a_tunnel(
    lab: Lab, decap_on_server1: str, tunnel: str, outer: int, inner: int
) -> None:
    vip, server = lab.topology.vips(inner)[0], lab.topology.servers[0]
    sources = list(lab.topology.sources(inner)[:3])
    with Encapsulator(lab, tunnel, vip, server.address(outer)):
        answers = lab.load.http(vip, count=3, sources=sources)
        assert share_by_server(answers) == {"server1": 3}
        assert [answer.client for answer in answers] == sources
        (download,) = lab.load.http(vip, path="/1mb")
        assert download.bytes == 1 << 20
        assert share_by_server(lab.load.udp(vip, count=3)) == {"server1": 3}
    status = inside(decap_on_server1, lambda: decap.status("back"))
    assert status is not None
    assert {name for name, count in status.packets.items() if count} == {"stripped"}


def test_gue_to_another_port_than_the_named_one_is_not_answered(
    lab: Lab, decap_on_server1: str
) -> None:
    vip, server = lab.topology.vips(4)[0], lab.topology.servers[0]
    with Encapsulator(lab, "gue", vip, server.v4, port=GUE_PORT + 1):
        assert share_by_server(lab.load.http(vip, timeout=1)) == {"TIMEOUT": 1}


def test_attaching_again_loses_no_request(lab: Lab, decap_on_server1: str) -> None:
    vip, server = lab.topology.vips(4)[0], lab.topology.servers[0]
    other = ip_address("10.1.0.99")
    with ExitStack() as stack:
        stack.enter_context(Encapsulator(lab, "ipip", vip, server.v4))
        stream = lab.load.stream(vip, rate=100, duration=1.0)
        for number in range(20):
            ends = (server.v4, other) if number % 2 else (server.v4,)
            inside(decap_on_server1, lambda ends=ends: decap.attach("back", Decap(ends)))
        record = stream.stop()
    assert record.answered == record.sent > 0


def test_the_command_attaches_shows_and_detaches(lab: Lab) -> None:
    def kernlb(*words: str, check: bool = True) -> str:
        argv = [sys.executable, "-m", "kernlb.cli", "realserver", "decap", *words]
        return lab.exec("server2", argv, check=check).stdout

    kernlb("detach", "back")
    assert "not attached" in kernlb("status", "back", check=False)
    server = lab.topology.servers[1]
    attached = kernlb("attach", "back", "--source", str(lab.topology.balancer.v4))
    assert f"addresses  {server.v4}, {server.v6}" in attached
    assert f"sources    {lab.topology.balancer.v4}" in attached
    assert attached == kernlb("status", "back")
    vip = lab.topology.vips(4)[1]
    with Encapsulator(lab, "gue", vip, server.v4):
        assert share_by_server(lab.load.http(vip)) == {"server2": 1}
    assert "packets    stripped" in kernlb("status", "back")
    kernlb("detach", "back")
