"""Tunnels that the kernel's own devices take in: set up, used, broken, found, and put back.

IPVS is told by ipvsadm alone, so that what fails here is the server's side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from kernlb.lab.load import share_by_server
from kernlb.lab.network import Lab
from kernlb.lab.topology import BACK, GUE_PORT, IPAddress
from kernlb.realserver.wish import Decap, Method, Tunnel, Wish
from tests.netns.realserver.lab_server import LabServer
from tests.netns.realserver.world import Server
from tests.unit.pages import ROOT, blocks

pytestmark = pytest.mark.ipvs

FLAGS = {
    "ipip": "-i",
    "gue": f"-i --tun-type gue --tun-port {GUE_PORT} --tun-nocsum",
    "gre": "-i --tun-type gre --tun-nocsum",
}
# An emulated guest takes seconds for each step: those that only devices take, and once each.
WAYS = [("ipip", 4, 4), ("ipip", 6, 6), ("ipip", 4, 6), ("gue", 4, 4), ("gre", 6, 6)]


@pytest.fixture(scope="module", autouse=True)
def vips_are_local(lab: Lab) -> None:
    lab.hold_vips()


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[LabServer]:
    server = LabServer(lab, "server1", tmp_path)
    server.undress()
    yield server
    server.remove()


def forward(lab: Lab, way: str, vip: IPAddress, server: IPAddress) -> None:
    """One service with one server."""
    key = f"{bracketed(vip)}:80"
    rules = f"-A -t {key} -s rr\n-a -t {key} -r {bracketed(server)}:80 {FLAGS[way]}\n"
    lab.exec("balancer", ["ipvsadm", "-C"])
    lab.exec("balancer", ["ipvsadm", "-R"], input=rules)


def bracketed(address: IPAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def wish(way: str, vip: IPAddress, *ends: IPAddress) -> Wish:
    return Wish(Method.TUNNEL, (vip,), BACK, Tunnel(way), GUE_PORT, ends=ends)


def answered(lab: Lab, vip: IPAddress) -> bool:
    return share_by_server(lab.load.http(vip, timeout=3)) == {"server1": 1}


@pytest.mark.parametrize(("way", "version", "outer"), WAYS)
def test_a_server_answers_by_a_device_from_setup_to_removal(
    lab: Lab, server: LabServer, way: str, version: int, outer: int
) -> None:
    vip, address = lab.topology.vips(version)[0], lab.topology.servers[0].address(outer)
    forward(lab, way, vip, address)
    done = server.setup(wish(way, vip, *([address] if outer != version else [])))
    assert done.wish is not None and done.wish.decap is Decap.DEVICE
    assert answered(lab, vip)
    assert server.remove().notes == ()
    assert not answered(lab, vip)


@pytest.mark.timeout(400)
def test_removal_leaves_devices_as_they_were(lab: Lab, server: LabServer) -> None:
    """IPv4 and IPv6, in both; by a port of fou."""
    topology = lab.topology
    before = server.snapshot()
    ends = (topology.servers[0].v4, topology.servers[0].v6)
    vips = (topology.vips(4)[0], topology.vips(6)[0])
    both = Wish(Method.TUNNEL, vips, BACK, Tunnel.GUE, GUE_PORT, ends=ends)
    assert len(server.setup(both).changes) > 10
    assert server.setup(both).changes == ()
    assert server.remove().notes == ()
    assert server.snapshot() == before


BREAKING: dict[str, tuple[str, Callable[[Server], object]]] = {
    "tunnel-device-down": ("ipip", lambda server: server.ip("link set tunl0 down")),
    "rp-filter-on-tunnel": (
        "ipip",
        lambda server: [
            server.sysctl("net/ipv4/conf/all/rp_filter", "1"),
            server.sysctl("net/ipv4/conf/tunl0/rp_filter", "0"),
            server.run("ip", "addr", "flush", "dev", "tunl0"),
        ],
    ),
    "fou-port-missing": (
        "gue",
        lambda server: server.ip(f"fou del port {GUE_PORT}\nfou add port 7000 gue"),
    ),
    "tunnel-relays": ("ipip", lambda server: server.sysctl("net/ipv4/ip_forward", "1")),
    "filter-drops-tunnels": (
        "ipip",
        lambda server: server.nft(
            "add table inet f; add chain inet f i { type filter hook input priority 0; "
            "policy drop; }; add rule inet f i tcp dport 80 accept; "
            "add rule inet f i meta l4proto { icmp, icmpv6 } accept"
        ),
    ),
}
MENDED = ("tunnel-device-down", "rp-filter-on-tunnel")


@pytest.mark.parametrize(("which", "story"), BREAKING.items(), ids=BREAKING)
def test_what_is_broken_is_found_and_no_client_is_answered(
    lab: Lab, server: LabServer, which: str, story: tuple[str, Callable[[Server], object]]
) -> None:
    way, break_it = story
    vip, address = lab.topology.vips(4)[0], lab.topology.servers[0].v4
    forward(lab, way, vip, address)
    server.setup(wish(way, vip))
    told = {"balancers": (lab.topology.balancer.v4,)}
    try:
        break_it(server)
        assert server.found(**told) == {which}
        assert answered(lab, vip) == (which == "tunnel-relays")
        if which in MENDED:
            server.fix(**told)
            assert answered(lab, vip)
    finally:
        server.sysctl("net/ipv4/ip_forward", "0")
        for device in ("all", "tunl0"):
            server.sysctl(f"net/ipv4/conf/{device}/rp_filter", "0")
        server.run("nft", "delete table inet f", check=False)
        server.run("ip", "fou", "del", "port", "7000", check=False)


def test_a_device_that_is_not_there_is_found(lab: Lab, server: LabServer) -> None:
    """IPv4 in IPv6 needs one that no module makes by itself."""
    vip, address = lab.topology.vips(4)[0], lab.topology.servers[0].v6
    server.setup(wish("ipip", vip, address))
    told = {"balancers": (lab.topology.balancer.v4,)}
    assert server.found(**told) == set()
    server.ip("link del kernlb4in6")
    assert server.found(**told) == {"tunnel-device-missing"}


def test_what_the_page_says_by_hand_is_all_that_a_tunnel_wants(lab: Lab, server: LabServer) -> None:
    page = [block.text for block in blocks(ROOT / "docs/real-servers.md")]
    for start in ("modprobe ipip\n", "sysctl -w net.ipv4.conf.all.arp_ignore=1\n"):
        (text,) = [each for each in page if each.startswith(start)]
        server.run("sh", "-ec", text)
    vips = (ip_address("192.0.2.10"), ip_address("2001:db8::10"))
    by_hand = replace(wish("ipip", vips[0]), persist=False, mss=None)
    assert server.setup(by_hand).changes == ()
    forward(lab, "ipip", vips[0], lab.topology.servers[0].v4)
    assert answered(lab, vips[0])
    server.ip(f"addr del {vips[0]}/32 dev tunl0\naddr del {vips[0]}/32 dev lo")
    server.ip(f"addr del {vips[1]}/128 dev lo")
