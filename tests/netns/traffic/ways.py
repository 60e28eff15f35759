"""Ways to the servers, and what goes over them."""

from __future__ import annotations

from kernlb.lab.load import share_by_server
from kernlb.lab.topology import GUE_PORT, IPAddress
from tests.netns.traffic.balancer import EQUAL, WEIGHTS, Balancer, Json
from tests.netns.traffic.shares import seen_clients
from tests.netns.traffic.web import SERVERS, web

MEGABYTE = 1 << 20
WAYS: dict[str, Json] = {
    "nat": {"forwarding": "nat"},
    "dsr": {"forwarding": "dsr"},
    "ipip": {"forwarding": "tunnel"},
    "gue": {"forwarding": "tunnel", "tunnel": {"type": "gue", "port": GUE_PORT}},
    "gre": {"forwarding": "tunnel", "tunnel": {"type": "gre"}},
}


def assert_megabytes_both_ways(balancer: Balancer, vip: IPAddress, **way: object) -> None:
    """From and to every server, whole, each seeing whom it may see."""
    document = web(balancer, vip, **way)
    downloads = balancer.load.http(vip, path="/1mb", count=3, timeout=60)
    assert share_by_server(downloads) == EQUAL
    assert [answer.bytes for answer in downloads] == [MEGABYTE] * 3
    uploads = balancer.load.http(vip, body=1_000_000, count=3, timeout=60)
    assert share_by_server(uploads) == EQUAL
    assert [answer.received for answer in uploads] == [1_000_000] * 3
    sources = balancer.topology.sources(vip.version)[:3]
    assert [each.client for each in uploads] == seen_clients(balancer, document, sources)


def test_ipv6_servers_serve_an_ipv4_address_by_tunnel(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip, forwarding="tunnel", servers=balancer.servers(6, WEIGHTS), scheduler="wrr")
    answers = balancer.load.http(vip, count=6)
    assert share_by_server(answers) == WEIGHTS
    assert [answer.client for answer in answers] == list(balancer.topology.sources(4)[:6])
    (upload,) = balancer.load.http(vip, body=1_000_000, timeout=60)
    assert upload.received == 1_000_000


def test_nat_translates_ports(balancer: Balancer, vip: IPAddress) -> None:
    """Nobody listens on 8888: only the translation to 8080 makes an answer."""
    web(balancer, vip, port=8888, servers=balancer.servers(4, port=8080))
    assert share_by_server(balancer.load.http(vip, port=8888, count=6)) == dict.fromkeys(SERVERS, 2)


def test_each_server_may_have_its_own_way(balancer: Balancer, vip: IPAddress) -> None:
    nat, tunnel, dsr = balancer.servers(4)
    servers = [nat, {**tunnel, "forwarding": "tunnel"}, {**dsr, "forwarding": "dsr"}]
    web(balancer, vip, servers=servers)
    assert share_by_server(balancer.load.http(vip, count=6)) == dict.fromkeys(SERVERS, 2)
