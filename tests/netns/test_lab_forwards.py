"""Every way IPVS can forward works through the lab, programmed by ipvsadm alone.

Proves the lab's preparations (routes back, tunnels, addresses) apart from kernlb's own datapath.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kernlb.lab.load import share_by_server
from kernlb.lab.network import Lab
from kernlb.lab.topology import GUE_PORT

pytestmark = pytest.mark.ipvs

SERVERS = {"server1", "server2", "server3"}


@dataclass(frozen=True, slots=True)
class Way:
    """A forwarding method as ipvsadm's flags, and the family of the servers' addresses."""

    name: str
    flags: str
    vip: int
    server: int

    def __str__(self) -> str:
        return f"{self.name}-v{self.vip}" + (f"-by-v{self.server}" * (self.vip != self.server))


METHODS = {
    "nat": "-m",
    "dsr": "-g",
    "tunnel": "-i",
    "gue": f"-i --tun-type gue --tun-port {GUE_PORT} --tun-nocsum",
    "gue-checksum": f"-i --tun-type gue --tun-port {GUE_PORT} --tun-csum",
    "gre": "-i --tun-type gre --tun-nocsum",
}
WAYS = [Way(name, flags, family, family) for name, flags in METHODS.items() for family in (4, 6)]
WAYS += [Way("tunnel", "-i", 4, 6)]


@pytest.fixture(scope="module", autouse=True)
def vips_are_local(lab: Lab) -> None:
    lab.hold_vips()


def forward(lab: Lab, way: Way, protocol: str = "t", port: int = 80) -> None:
    """Replace the balancer's services by one, round robin over all servers."""
    vip = _bracketed(lab.topology.vips(way.vip)[0])
    rules = [f"-A -{protocol} {vip}:{port} -s rr"]
    for server in lab.topology.servers:
        address = _bracketed(server.address(way.server))
        rules.append(f"-a -{protocol} {vip}:{port} -r {address}:{port} {way.flags}")
    lab.exec("balancer", ["ipvsadm", "-C"])
    lab.exec("balancer", ["ipvsadm", "-R"], input="\n".join(rules) + "\n")


def _bracketed(address: object) -> str:
    return f"[{address}]" if ":" in str(address) else str(address)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_all_servers_answer_and_see_the_clients_own_address(lab: Lab, way: Way) -> None:
    forward(lab, way)
    vip = lab.topology.vips(way.vip)[0]
    answers = lab.load.http(vip, count=6)
    assert share_by_server(answers) == dict.fromkeys(sorted(SERVERS), 2)
    assert [answer.client for answer in answers] == list(lab.topology.sources(way.vip)[:6])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_megabyte_goes_both_ways(lab: Lab, way: Way) -> None:
    forward(lab, way)
    vip = lab.topology.vips(way.vip)[0]
    (download,) = lab.load.http(vip, path="/1mb", timeout=30)
    (upload,) = lab.load.http(vip, body=1_000_000, timeout=30)
    assert (download.error, download.bytes) == (None, 1 << 20)
    assert (upload.error, upload.received) == (None, 1_000_000)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_udp_is_answered_from_the_vip(lab: Lab, way: Way) -> None:
    forward(lab, way, "u", 53)
    answers = lab.load.udp(lab.topology.vips(way.vip)[0], count=6)
    assert share_by_server(answers) == dict.fromkeys(sorted(SERVERS), 2)


def test_the_kernel_offers_every_tunnel_that_the_lab_prepares(lab: Lab) -> None:
    assert {"ipip", "ip6_tunnel", "fou", "fou6", "ip_gre", "ip6_gre"} <= lab.features
