"""Clients through kernlb to servers by IPVS: what each feature of a service does to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernlb.lab.load import share_by_server
from kernlb.lab.topology import GUE_PORT, IPAddress
from tests.netns.traffic import ways
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.changing import *  # noqa: F403 (its tests are of every datapath)
from tests.netns.traffic.staying import *  # noqa: F403
from tests.netns.traffic.ways import *  # noqa: F403

pytestmark = pytest.mark.ipvs

SERVERS = ("server1", "server2", "server3")
WAYS = {
    **ways.WAYS,
    "gue-checksum": {
        "forwarding": "tunnel",
        "tunnel": {"type": "gue", "port": GUE_PORT, "checksum": True},
    },
    "gre-checksum": {"forwarding": "tunnel", "tunnel": {"type": "gre", "checksum": True}},
}


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("way", WAYS)
def test_a_megabyte_goes_both_ways_to_every_server(
    balancer: Balancer, way: str, version: int, gre_takes_checksums: None
) -> None:
    ways.assert_megabytes_both_ways(balancer, balancer.fresh_vip(version), **WAYS[way])


@pytest.fixture
def gre_takes_checksums(balancer: Balancer, way: str, version: int) -> Iterator[None]:
    """A GRE device takes either only packets with a checksum or only those without (ip_tunnel.c,
    ip_tunnel_rcv()). The lab's are without: for one test, others stand before them."""
    if way != "gre-checksum":
        yield
        return
    kind = "gre" if version == 4 else "ip6gre"
    here = balancer.topology.balancer.address(version)
    servers = balancer.topology.servers
    for server in servers:
        ends = f"local {server.address(version)} remote {here}"
        device = f"link add summed type {kind} {ends} icsum ocsum"
        balancer.lab.exec(server.role, ["ip", *device.split()])
        balancer.lab.exec(server.role, ["ip", "link", "set", "summed", "up"])
    yield
    for server in servers:
        balancer.lab.exec(server.role, ["ip", "link", "del", "summed"])


def test_a_firewall_mark_makes_one_service_of_several_ports(
    balancer: Balancer, vip: IPAddress, marks: None
) -> None:
    document = {"fwmark": 7, "scheduler": "rr", "servers": balancer.servers(4)}
    balancer.declare("web", document)
    answers = [
        *balancer.load.http(vip, port=80, count=2),
        *balancer.load.http(vip, port=8080, count=1),
        *balancer.load.http(vip, port=80, count=1),
        *balancer.load.http(vip, port=8080, count=2),
    ]
    assert share_by_server(answers) == dict.fromkeys(SERVERS, 2)


@pytest.fixture
def marks(balancer: Balancer, vip: IPAddress) -> Iterator[None]:
    rules = f"""table ip kernlbtest {{ chain marking {{
        type filter hook prerouting priority mangle;
        ip daddr {vip} tcp dport {{ 80, 8080 }} meta mark set 7
    }}
    }}"""
    balancer.lab.exec("balancer", ["nft", "-f", "-"], input=rules)
    yield
    balancer.lab.exec("balancer", ["nft", "delete", "table", "ip", "kernlbtest"])
