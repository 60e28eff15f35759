"""A server that `setup` prepared answers clients of a real balancer, and no longer after `remove`.

The balancer is kernlbd with XDP; tunnels are undone by XDP, as this machine's kernel may have no
devices. Those are in test_devices.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.lab.load import share_by_server
from kernlb.lab.topology import BACK, GUE_PORT, IPAddress
from kernlb.realserver.wish import Decap, Guard, Method, Tunnel, Wish
from tests.netns.realserver.lab_server import LabServer
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.ways import MEGABYTE, WAYS
from tests.netns.traffic.web import web
from tests.netns.xdp.conftest import balancer, pins  # noqa: F401 (fixtures)

pytestmark = pytest.mark.netns


def wish(way: str, vip: IPAddress, **more: object) -> Wish:
    if way == "dsr":
        return Wish(Method.DSR, (vip,), BACK, **more)
    return Wish(Method.TUNNEL, (vip,), BACK, Tunnel(way), GUE_PORT, **{"decap": Decap.XDP, **more})


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("way", ["dsr", "ipip", "gue", "gre"])
def test_a_server_answers_from_setup_to_removal(
    balancer: Balancer,  # noqa: F811
    tmp_path: Path,
    way: str,
    version: int,
) -> None:
    server = LabServer(balancer.lab, "server1", tmp_path)
    server.undress()
    vip = balancer.fresh_vip(version)
    web(balancer, vip, servers=balancer.servers(version, {"server1": 1}), **WAYS[way])
    before = server.snapshot()

    def answered() -> bool:
        return share_by_server(balancer.load.http(vip, timeout=1)) == {"server1": 1}

    assert not answered()
    guard = Guard.NFT if way == "gre" else Guard.SYSCTL
    balancers = (balancer.topology.balancer.v4, balancer.topology.balancer.v6)
    server.setup(wish(way, vip, guard=guard, sources=balancers))
    (download,) = balancer.load.http(vip, path="/1mb", timeout=60)
    assert (download.server, download.bytes) == ("server1", MEGABYTE)
    (upload,) = balancer.load.http(vip, body=1_000_000, timeout=60)
    assert (upload.server, upload.received) == ("server1", 1_000_000)
    clients = balancer.topology.sources(version)[:1]
    assert server.found(balancers=balancers, clients=clients, seconds=0.1) == set()
    server.remove()
    assert not answered()
    assert server.snapshot() == before


def test_segments_of_clients_fit_without_a_word_from_the_balancer(
    balancer: Balancer,  # noqa: F811
    tmp_path: Path,
) -> None:
    """All ICMP to the client is dropped, so nobody tells it how much fits through the tunnel."""
    server = LabServer(balancer.lab, "server1", tmp_path)
    server.undress()
    vip = balancer.fresh_vip(4)
    web(balancer, vip, servers=balancer.servers(4, {"server1": 1}), **WAYS["ipip"])
    table = (
        "add table ip deaf; add chain ip deaf i { type filter hook input priority 0; }; "
        "add rule ip deaf i ip protocol icmp drop"
    )
    balancer.lab.exec("client", ["nft", table])
    try:
        balancer.lab.exec("client", ["ip", "route", "flush", "cache"])
        (source, *_) = balancer.topology.sources(4)[20:]
        server.setup(wish("ipip", vip, mss=None))
        assert "segments-too-large-for-tunnel" in server.found(ports=(), balancers=())
        (upload,) = balancer.load.http(vip, body=100_000, sources=[source], timeout=2)
        assert upload.received != 100_000
        server.setup(wish("ipip", vip))
        (upload,) = balancer.load.http(vip, body=100_000, sources=[source], timeout=20)
        assert upload.received == 100_000
    finally:
        balancer.lab.exec("client", ["nft", "delete table ip deaf"])
        server.remove()
