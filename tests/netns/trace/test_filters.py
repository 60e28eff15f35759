"""Which packets a capture takes: decided in the kernel, from the headers as they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from kernlb.datapath.xdp.capturing import Action, Capture, Captured, Wanted
from kernlb.datapath.xdp.libbpf import Program
from kernlb.datapath.xdp.loading import load, unload
from kernlb.model import AddressKey, parse_service_key

pytestmark = pytest.mark.ipvs  # the oldest kernel: the one here may not let programs be watched

MANY = 1 << 30
WEB, DNS = (parse_service_key(each) for each in ("tcp/192.0.2.10:80", "udp/[2001:db8::53]:53"))


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    root = Path(f"/sys/fs/bpf/kt-{os.getpid()}")
    load(root).close()
    yield root
    unload(root)


def taken(root: Path, packet: Packet, **wanted: Any) -> list[Captured]:
    """What a capture has of one packet that nothing in the maps is about."""
    with (
        Program.open_pinned(root / "programs" / "kernlb") as program,
        Capture(Wanted(limit=MANY, **wanted), root) as capture,
    ):
        assert program.test_run(bytes(packet)).retval == Action.PASS
        return capture.read(0)


TCP4 = Ether() / IP(src="198.51.100.7", dst="192.0.2.10") / TCP(sport=4000, dport=80)
UDP6 = Ether() / IPv6(src="2001:db8:1::7", dst="2001:db8::53") / UDP(sport=4000, dport=53)
MATCHES: dict[str, tuple[Packet, AddressKey]] = {
    "to the VIP": (TCP4, WEB),
    "from the VIP": (
        Ether() / IP(src="192.0.2.10", dst="198.51.100.7") / TCP(sport=80, dport=4000),
        WEB,
    ),
    "with options of IP": (
        Ether() / IP(dst="192.0.2.10", options=[b"\x07\x07\x04\0\0\0\0\0"]) / TCP(dport=80),
        WEB,
    ),
    "in a VLAN": (Ether() / Dot1Q(vlan=7) / TCP4[IP], WEB),
    "in two VLANs": (Ether() / Dot1AD(vlan=9) / Dot1Q(vlan=7) / UDP6[IPv6], DNS),
    "IPv6": (UDP6, DNS),
    "ICMP": (Ether() / IP(dst="192.0.2.10") / ICMP(), WEB),
    "ICMPv6": (Ether() / IPv6(dst="2001:db8::53") / ICMPv6EchoRequest(), DNS),
    "a later fragment": (
        Ether() / IP(dst="192.0.2.10", proto=6, frag=100) / Raw(b"\xff" * 40),
        WEB,
    ),
    "longer than a page": (TCP4 / Raw(bytes(6000)), WEB),
}
OTHERS: dict[str, tuple[Packet, AddressKey]] = {
    "another port": (Ether() / IP(dst="192.0.2.10") / TCP(dport=81), WEB),
    "another protocol": (Ether() / IP(dst="192.0.2.10") / UDP(dport=80), WEB),
    "another address": (Ether() / IP(dst="192.0.2.11") / TCP(dport=80), WEB),
    "the port on the other side": (Ether() / IP(dst="192.0.2.10") / TCP(sport=80, dport=9), WEB),
    "another family": (UDP6, WEB),
    "no IP": (Ether() / ARP(pdst="192.0.2.10"), WEB),
}


@pytest.mark.parametrize("what", MATCHES)
def test_a_service_s_packets_are_taken(root: Path, what: str) -> None:
    packet, service = MATCHES[what]
    (found,) = taken(root, packet, service=service)
    frame = bytes(packet)
    assert found.before == found.after == (len(frame), frame[:256])
    assert found.action == Action.PASS and [each.name for each in found.reasons] == ["NOT_OURS"]


@pytest.mark.parametrize("what", OTHERS)
def test_others_are_not(root: Path, what: str) -> None:
    packet, service = OTHERS[what]
    assert taken(root, packet, service=service) == []
    assert len(taken(root, packet)) == 1  # without the filter


@pytest.mark.parametrize(
    ("clients", "wanted"),
    [
        ("198.51.100.7", True),
        ("192.0.2.10", True),
        ("198.51.100.0/24", True),
        ("0.0.0.0/0", True),
        ("198.51.100.8", False),
        ("198.51.101.0/24", False),
        ("::/0", False),
    ],
)
def test_a_client_is_an_address_or_a_network(root: Path, clients: str, wanted: bool) -> None:
    assert bool(taken(root, TCP4, clients=ip_network(clients))) is wanted


def test_a_client_of_ipv6(root: Path) -> None:
    assert taken(root, UDP6, clients=ip_network("2001:db8:1::/64"))
    assert not taken(root, UDP6, clients=ip_network("2001:db8:2::/64"))


def test_all_that_is_wanted_must_fit(root: Path) -> None:
    both = {"service": WEB, "clients": ip_network("198.51.100.7")}
    assert taken(root, TCP4, **both)
    assert not taken(root, Ether() / IP(dst="192.0.2.10") / TCP(dport=80), **both)


def test_other_verdicts_and_interfaces_are_not_taken(root: Path) -> None:
    assert taken(root, TCP4, actions=frozenset({Action.PASS, Action.DROP}))
    assert not taken(root, TCP4, actions=frozenset({Action.DROP, Action.TX}))
    assert taken(root, TCP4, ifindex=1)  # what BPF_PROG_TEST_RUN is said to come in by
    assert not taken(root, TCP4, ifindex=2)


def test_the_limit_is_kept_in_the_kernel_and_one_of_n_is_about_that(root: Path) -> None:
    frame = bytes(TCP4)
    with Program.open_pinned(root / "programs" / "kernlb") as program:
        with Capture(Wanted(limit=3), root) as capture:
            program.test_run(frame, repeat=1000)
            assert len(capture.read(0)) == 3 and capture.missed == 0
        with Capture(Wanted(limit=MANY, sample=10), root) as capture:
            program.test_run(frame, repeat=5000)
            assert 350 < len(capture.read(0)) < 650  # 7 standard deviations


def test_a_ring_that_is_full_is_counted(root: Path) -> None:
    with (
        Program.open_pinned(root / "programs" / "kernlb") as program,
        Capture(Wanted(limit=MANY), root) as capture,
    ):
        program.test_run(bytes(TCP4 / Raw(bytes(400))), repeat=10_000)
        assert len(capture.read(0)) + capture.missed == 10_000 and capture.missed > 0
