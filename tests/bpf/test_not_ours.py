"""What is not balanced reaches the stack exactly as it came."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.dhcp import BOOTP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, GRE, LLC, STP, Dot1Q, Dot3, Ether
from scapy.layers.vrrp import VRRP
from scapy.packet import Raw

from tests.bpf.frames import (
    CLIENT,
    CLIENT_MAC,
    OUR_MAC,
    PORT,
    ROUTER,
    SERVER,
    VIP,
    echo,
    frame,
    icmp_error,
    ip,
    request,
    transport,
)
from tests.bpf.services import cell
from tests.bpf.test_fragments import datagram, fragments
from tests.bpf.world import PASS, World

L2 = Ether(src=CLIENT_MAC, dst=OUR_MAC)
HOST = {4: "192.0.2.50", 6: "2001:db8:f::50"}


def foreign(address: str) -> str:
    """Another address that shares the address's cell of the filter.

    The cell is the upper half of a product modulo 2^32, whose factor has an inverse."""
    family = ip_address(address).version
    product = cell(address) << 16 | 0x1234
    word = product * pow(0x9E3779B1, -1, 1 << 32) % (1 << 32)
    other = ip_address(word if family == 4 else (0x20010DB8 << 96) | (word ^ 0x20010DB8))
    assert cell(str(other)) == cell(address) and str(other) != address
    return str(other)


STRAY = {4: foreign(VIP[4]), 6: foreign(VIP[6])}

FRAMES = {
    "a frame of Ethernet alone": bytes(Ether(src=CLIENT_MAC, dst=OUR_MAC, type=0x0800)),
    "a frame of a VLAN tag alone": bytes(L2 / Dot1Q(vlan=5)),
    "an unknown EtherType": bytes(Ether(src=CLIENT_MAC, dst=OUR_MAC, type=0x88B5) / Raw(bytes(50))),
    "ARP asks for the VIP": bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=VIP[4])),
    "ARP answers": bytes(L2 / ARP(op=2, psrc=VIP[4], pdst=HOST[4])),
    "neighbour discovery asks for the VIP": bytes(
        Ether(dst="33:33:ff:00:00:01") / IPv6(dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt=VIP[6])
    ),
    "neighbour discovery asks the VIP itself": bytes(
        L2 / IPv6(src=ROUTER[6], dst=VIP[6], hlim=255) / ICMPv6ND_NS(tgt=VIP[6])
    ),
    "a neighbour advertises itself to the VIP": bytes(
        L2 / IPv6(src=ROUTER[6], dst=VIP[6], hlim=255) / ICMPv6ND_NA(tgt=ROUTER[6])
    ),
    "router advertisement": bytes(
        Ether(dst="33:33:00:00:00:01") / IPv6(dst="ff02::1") / ICMPv6ND_RA()
    ),
    "LLDP": bytes(Ether(dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(46))),
    "spanning tree": bytes(Dot3(dst="01:80:c2:00:00:00") / LLC() / STP()),
    "ssh to the host": frame(request("tcp", 4, dport=22, dst=HOST[4])),
    "ssh to the host over IPv6": frame(request("tcp", 6, dport=22, dst=HOST[6])),
    "the service's port of the host": frame(request("tcp", 4, dst=HOST[4])),
    "the service's port of the host over IPv6": frame(request("tcp", 6, dst=HOST[6])),
    "another port of the VIP": frame(request("tcp", 4, dport=22)),
    "another port of the IPv6 VIP": frame(request("tcp", 6, dport=22)),
    "another protocol on the VIP's port": frame(request("sctp", 4)),
    "another protocol on the IPv6 VIP's port": frame(request("sctp", 6)),
    "GRE to the VIP": frame(ip(4, GRE() / IP() / TCP())),
    "ESP to the VIP": bytes(L2 / IP(src=CLIENT[4], dst=VIP[4], proto=50) / Raw(bytes(40))),
    "IPv4 in IPv4 to the VIP": bytes(L2 / IP(src=CLIENT[4], dst=VIP[4], proto=4) / Raw(bytes(40))),
    "no next header to the IPv6 VIP": bytes(L2 / IPv6(src=CLIENT[6], dst=VIP[6], nh=59)),
    "VRRP": bytes(Ether(dst="01:00:5e:00:00:12") / IP(dst="224.0.0.18", ttl=255) / VRRP()),
    "IPv4 multicast": frame(
        request("udp", 4, dst="224.0.0.251", dport=PORT), dst="01:00:5e:00:00:fb"
    ),
    "IPv6 multicast": frame(request("udp", 6, dst="ff02::fb"), dst="33:33:00:00:00:fb"),
    "the VIP by a broadcast frame": frame(request("tcp", 4), dst="ff:ff:ff:ff:ff:ff"),
    "the VIP by a multicast frame": frame(request("tcp", 4), dst="01:00:5e:00:02:01"),
    "the IPv6 VIP by a multicast frame": frame(request("tcp", 6), dst="33:33:00:00:00:01"),
    "three VLAN tags": frame(request("tcp", 4), (1, 2, 3)),
    "DHCP": bytes(
        Ether(dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP()
    ),
    "from the VIP to a client": frame(request("tcp", 4, PORT, src=VIP[4], dst=CLIENT[4])),
    "a server's own connection": frame(
        request("tcp", 4, 50000, 443, src=SERVER[4], dst=CLIENT[4]), src="02:00:00:00:02:01"
    ),
    "a client's connection to a server itself": frame(request("tcp", 4, dst=SERVER[4], dport=22)),
    "a ping of the host": frame(echo(4, dst=HOST[4])),
    "a ping of the host over IPv6": frame(echo(6, dst=HOST[6])),
    "a ping of a server": frame(echo(4, dst=SERVER[4])),
    "an error about the host's own flow": frame(
        icmp_error(
            4,
            "port unreachable",
            bytes(request("udp", 4, 5353, 53, src=HOST[4], dst=CLIENT[4])),
            CLIENT[4],
            HOST[4],
        )
    ),
    "an ICMP redirect to the VIP": frame(
        ip(4, Raw(b"\x05\x01\x00\x00" + bytes(32)), ROUTER[4], VIP[4])
    ),
}


@pytest.fixture
def busy(world: World) -> World:
    """Services of both families on TCP and UDP, in nat, with a connection each."""
    for family in (4, 6):
        for protocol in ("tcp", "udp"):
            world.service(protocol, family).add(SERVER[family], forwarding="nat", port=8080)
            world.send(frame(request(protocol, family)))
    return world


@pytest.mark.parametrize("vlans", ((), (100,)), ids=("", "tagged"))
@pytest.mark.parametrize("name", FRAMES)
def test_it_is_passed_untouched(busy: World, name: str, vlans: tuple[int, ...]) -> None:
    content = FRAMES[name]
    for vlan in vlans:
        content = content[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + content[12:]
    before = busy.everything()
    sent = busy.send(content)
    assert (sent.verdict, sent.frame) == (PASS, content)
    assert sent.reasons in ({"not_ours": 1}, {"no_service": 1})
    after = busy.everything()
    assert {**after, "reasons": None} == {**before, "reasons": None}


@pytest.mark.parametrize("family", (4, 6))
def test_another_port_of_a_vip_has_a_reason_of_its_own(busy: World, family: int) -> None:
    assert busy.send(frame(request("tcp", family, dport=22))).reasons == {"no_service": 1}


def strays(family: int) -> dict[str, bytes]:
    """Packets to another's address that shares the filter cell of a VIP."""
    dst = STRAY[family]
    return {
        "tcp": frame(request("tcp", family, dst=dst)),
        "echo": frame(echo(family, dst=dst)),
        "an echo of no more hops": frame(echo(family, dst=dst, ttl=1)),
        "a later fragment": frame(fragments(datagram(family, dst=dst))[1]),
        "TTL 1": frame(request("udp", family, dst=dst, ttl=1)),
        "a packet cut short": frame(request("tcp", family, dst=dst))[:-10],
        "an error": frame(
            icmp_error(
                family,
                "time exceeded",
                bytes(ip(family, transport("tcp", PORT, 40000), dst, CLIENT[family])),
                ROUTER[family],
                dst,
            )
        ),
    }


@pytest.mark.parametrize("what", strays(4))
@pytest.mark.parametrize("family", (4, 6))
def test_a_packet_of_anothers_that_shares_the_filter_cell_of_a_vip(
    busy: World, family: int, what: str
) -> None:
    content = strays(family)[what]
    sent = busy.send(content)
    assert (sent.verdict, sent.frame) == (PASS, content)


@pytest.mark.parametrize("family", (4, 6))
def test_a_broken_packet_to_a_vips_other_protocol_is_the_stacks(world: World, family: int) -> None:
    """The VIP has no UDP service: what arrives for its UDP is not ours to judge."""
    world.service("tcp", family).add(SERVER[family])
    content = frame(request("udp", family, dport=500, payload=b""))
    assert world.send(content).verdict == PASS
