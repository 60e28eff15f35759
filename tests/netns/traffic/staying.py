"""Who stays with whom: persistence, and datagrams each by itself."""

from __future__ import annotations

import socket
from collections import Counter
from ipaddress import ip_network

import pytest

from kernlb.lab.load import share_by_server
from kernlb.lab.namespaces import inside
from kernlb.lab.topology import IPAddress
from tests.netns.traffic.balancer import Balancer
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.web import SERVERS, assert_answered, web


def test_persistence_keeps_a_client_on_its_server(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip, persistence=60)
    one, two, three = sources = balancer.topology.sources(4)[:3]
    answers = balancer.load.http(vip, count=9, sources=sources)
    pairs = Counter((answer.client, answer.server) for answer in answers)
    assert sorted(pairs.values()) == [3, 3, 3]
    assert {client for client, _ in pairs} == {one, two, three}
    assert {server for _, server in pairs} == set(SERVERS)


def test_persistence_can_hold_for_a_network(balancer: Balancer, vip: IPAddress) -> None:
    web(balancer, vip, persistence={"timeout": 60, "prefix": 28})
    sources = balancer.topology.sources(4)[:24]  # 10.0.0.11 and on: parts of three networks
    answers = balancer.load.http(vip, count=24, sources=sources)
    assert_answered(answers)
    servers: dict[object, set[str | None]] = {}
    for answer in answers:
        network = ip_network(f"{answer.client}/28", strict=False)
        servers.setdefault(network, set()).add(answer.server)
    assert [len(each) for each in servers.values()] == [1, 1, 1]
    assert set.union(*servers.values()) == set(SERVERS)


def test_persistence_ends_some_time_after_the_last_connection(
    balancer: Balancer, vip: IPAddress
) -> None:
    balancer.settle_timeouts(udp=1)
    web(balancer, vip, port=53, protocol="udp", persistence=2)
    (client, *_) = balancer.topology.sources(4)
    first = balancer.load.udp(vip, count=3, sources=[client])
    assert len(share_by_server(first)) == 1

    def templates() -> int:
        (stats,) = balancer.daemon.client.stats("web")
        return sum(server.persistent for server in stats.servers)

    assert templates() == 1
    wait_for(lambda: templates() == 0, 20, "the client is forgotten")
    second = balancer.load.udp(vip, count=3, sources=[client])
    assert len(share_by_server(second)) == 1
    assert first[0].server != second[0].server


@pytest.mark.parametrize("one_packet", [True, False], ids=["one-packet", "by-flow"])
def test_one_packet_scheduling_spreads_the_datagrams_of_one_socket(
    balancer: Balancer, vip: IPAddress, one_packet: bool
) -> None:
    web(balancer, vip, port=53, protocol="udp", forwarding="dsr", one_packet=one_packet)
    client = balancer.topology.namespace("client")
    shares: Counter[str] = Counter()
    with inside(client, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as query:
        query.settimeout(10)
        query.connect((str(vip), 53))
        for _ in range(6):
            query.send(b"who is there?")
            shares[query.recv(100).split()[0].decode()] += 1
    assert sorted(shares.values()) == ([2, 2, 2] if one_packet else [6])
