"""Virtual addresses: put on the interface after the servers, announced, and taken away again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest

from kernlb.datapath.ipvs import IPVSDatapath
from kernlb.lab.load import share_by_server
from kernlb.lab.namespaces import inside
from kernlb.lab.network import Lab
from kernlb.lab.topology import FRONT, IPAddress
from kernlb.model import DatapathKind
from tests.netns.traffic.balancer import Balancer, Json
from tests.netns.traffic.daemon import StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.ipvs

ETH_P_ALL = 0x0003
ARP, IPV6 = 0x0806, 0x86DD
ICMPV6, NEIGHBOUR_ADVERTISEMENT = 58, 136
IPV4_AND_6 = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
EQUAL_TURNS = {"server1": 2, "server2": 2, "server3": 2}


@pytest.fixture(scope="module")
def balancer(lab: Lab, start_daemon: StartDaemon) -> Iterator[Balancer]:
    """kernlbd that puts addresses on the balancer's interface towards the clients."""
    settings = {"audit_interval": 3600, "defaults": {"vip_interface": FRONT}}
    namespace = lab.topology.namespace("balancer")
    daemon = start_daemon(namespace, settings)
    kernel = inside(namespace, IPVSDatapath)
    yield Balancer(lab, daemon, DatapathKind.IPVS, lambda key: kernel.read([key])[key])
    kernel.close()
    daemon.stop()


@pytest.fixture
def link(balancer: Balancer) -> Iterator[socket.socket]:
    """Hears every frame that reaches the client."""

    def listen() -> socket.socket:
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        heard.bind((FRONT, ETH_P_ALL))
        heard.settimeout(20)
        return heard

    with inside(balancer.topology.namespace("client"), listen) as heard:
        yield heard


def web(balancer: Balancer, vip: IPAddress, port: int = 80) -> Json:
    servers = balancer.servers(vip.version)
    return {"address": str(vip), "port": port, "scheduler": "rr", "servers": servers}


@IPV4_AND_6
def test_an_address_comes_after_its_servers_is_announced_and_goes_with_the_last_service(
    balancer: Balancer, link: socket.socket, version: int
) -> None:
    vip = balancer.topology.front_vip(version)
    client = balancer.daemon.client
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(client.add_service, "web", web(balancer, vip))
        announced_by = next_announcement(link, vip)
        servers_at_that_time = balancer.state(web(balancer, vip)).servers
        change = adding.result(60)
    assert len(servers_at_that_time) == 3
    assert [op.what for op in change.ops][-1] == "vip"
    assert announced_by == balancer_mac(balancer)
    assert addresses(balancer)[vip] == vip.max_prefixlen
    assert share_by_server(balancer.load.http(vip, count=6)) == EQUAL_TURNS

    client.add_service("web2", web(balancer, vip, 8080))
    client.remove_service("web")
    assert vip in addresses(balancer)
    assert share_by_server(balancer.load.http(vip, port=8080, count=6)) == EQUAL_TURNS
    client.remove_service("web2")
    assert vip not in addresses(balancer)


@IPV4_AND_6
def test_an_address_is_announced_more_than_once(
    balancer: Balancer, link: socket.socket, version: int
) -> None:
    vip = balancer.topology.front_vip(version)
    balancer.daemon.client.add_service("web", web(balancer, vip))
    assert [next_announcement(link, vip) for _ in range(3)] == [balancer_mac(balancer)] * 3
    balancer.daemon.client.remove_service("web")


@IPV4_AND_6
def test_an_address_that_was_there_before_stays(balancer: Balancer, version: int) -> None:
    vip = balancer.topology.front_vip(version)
    length = 24 if version == 4 else 64
    change_address(balancer, "add", f"{vip}/{length}", *(["nodad"] if version == 6 else []))
    balancer.daemon.client.add_service("web", web(balancer, vip))
    (view,) = balancer.daemon.client.status().vips
    assert (view.address, view.owned, view.present) == (str(vip), False, True)
    assert share_by_server(balancer.load.http(vip, count=6)) == EQUAL_TURNS
    balancer.daemon.client.remove_service("web")
    assert addresses(balancer)[vip] == length
    change_address(balancer, "del", f"{vip}/{length}")


def test_an_address_outlives_a_crash_and_goes_when_asked_to(balancer: Balancer) -> None:
    vip = balancer.topology.front_vip(4)
    daemon = balancer.daemon
    daemon.client.add_service("web", web(balancer, vip))
    daemon.kill()
    assert share_by_server(balancer.load.http(vip, count=6)) == EQUAL_TURNS
    (daemon.services / "web.yaml").unlink()
    daemon.start()
    wait_for(lambda: vip not in addresses(balancer), 20, "the address of no service is gone")
    assert daemon.client.services() == []


def addresses(balancer: Balancer) -> dict[IPAddress, int]:
    """Addresses of the balancer's front interface with their prefix lengths."""
    listed = balancer.lab.exec("balancer", ["ip", "-j", "addr", "show", "dev", FRONT])
    (interface,) = json.loads(listed.stdout)
    return {ip_address(each["local"]): each["prefixlen"] for each in interface["addr_info"]}


def change_address(balancer: Balancer, verb: str, address: str, *options: str) -> None:
    balancer.lab.exec("balancer", ["ip", "addr", verb, address, "dev", FRONT, *options])


def balancer_mac(balancer: Balancer) -> str:
    listed = balancer.lab.exec("balancer", ["ip", "-j", "link", "show", "dev", FRONT])
    (interface,) = json.loads(listed.stdout)
    mac: str = interface["address"]
    return mac


def next_announcement(link: socket.socket, vip: IPAddress) -> str:
    """Wait for a gratuitous ARP or an unsolicited neighbour advertisement of ``vip``; the MAC
    address that it names."""
    for _ in range(10_000):
        frame = link.recv(2048)
        mac = _gratuitous_arp(frame, vip) if vip.version == 4 else _advertisement(frame, vip)
        if mac is not None:
            return mac.hex(":")
    raise AssertionError(f"10 000 frames and no announcement of {vip}")


def _gratuitous_arp(frame: bytes, vip: IPAddress) -> bytes | None:
    if int.from_bytes(frame[12:14]) != ARP or frame[:6] != b"\xff" * 6:
        return None
    sender, target = frame[28:32], frame[38:42]
    return frame[22:28] if sender == target == vip.packed else None


def _advertisement(frame: bytes, vip: IPAddress) -> bytes | None:
    if int.from_bytes(frame[12:14]) != IPV6 or frame[20] != ICMPV6:
        return None
    message = frame[54:]
    if message[0] != NEIGHBOUR_ADVERTISEMENT or message[8:24] != vip.packed:
        return None
    solicited, override = message[4] & 0x40, message[4] & 0x20
    return message[26:32] if override and not solicited else None
