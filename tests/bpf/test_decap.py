"""What decap takes off a packet, what it leaves alone, and how it says why: frame in, frame out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import rt_type
from scapy.layers.inet import ICMP, IP, UDP, IPOption
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE, Dot1Q
from scapy.packet import Packet, Raw

from kernlb.datapath.xdp import decap
from kernlb.datapath.xdp.decap import Decap, DecapError
from kernlb.datapath.xdp.libbpf import Mode, Program, xdp_state
from tests.bpf.frames import CLIENT, VIP, ethernet, frame, request
from tests.bpf.network import NO_ROUTE, Network
from tests.bpf.world import DROP, PASS
from tests.netns.traffic.wait import wait_for

BALANCER = {4: "198.18.0.2", 6: "2001:db8:a::2"}
STRANGER = {4: "198.18.0.3", 6: "2001:db8:a::3"}
HERE = {4: "198.18.0.1", 6: "2001:db8:a::1"}  # tunnels end at the address of `front`
FAMILIES = (4, 6)
TUNNELS = ("ipip", "gue", "gue direct", "gre")
PLAIN = Decap(
    ends=tuple(map(ip_address, HERE.values())), sources=tuple(map(ip_address, BALANCER.values()))
)


class Server:
    """A host with decap on `front` and the VIPs on lo; it routes for others, too."""

    def __init__(self) -> None:
        self.network = Network()
        with self.network.entered(), IPRoute() as ip:
            for vip in VIP.values():
                ip.addr("add", index=1, address=vip, prefixlen=ip_address(vip).max_prefixlen)

    def attach(self, wanted: Decap) -> None:
        with self.network.entered():
            decap.attach("front", wanted)

    def detach(self) -> bool:
        with self.network.entered():
            return decap.detach("front")

    def status(self) -> decap.Status | None:
        with self.network.entered():
            return decap.status("front")

    def route(self, on: bool) -> None:
        with self.network.entered():
            for family in ("ipv4", "ipv6"):
                Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text(str(int(on)))

    def receive(self, sent: bytes) -> Received:
        before = self.packets()
        with self.network.entered():
            index = self.network.interfaces.front
            state = xdp_state(index)
            assert state is not None
            with Program.by_id(state.program_id) as program:
                result = program.test_run(sent, ingress_ifindex=index)
        changed = {name: n - before[name] for name, n in self.packets().items() if n - before[name]}
        return Received(result.retval, result.packet, changed)

    def packets(self) -> dict[str, int]:
        status = self.status()
        assert status is not None
        return dict(status.packets)


class Received(NamedTuple):
    verdict: int
    frame: bytes
    counted: dict[str, int]


@pytest.fixture(scope="module")
def _server() -> Iterator[Server]:
    server = Server()
    yield server
    server.network.close()


@pytest.fixture
def server(_server: Server) -> Iterator[Server]:
    _server.attach(PLAIN)
    yield _server
    _server.route(on=True)


def wrapped(
    tunnel: str,
    outer: int,
    inner: Packet | bytes,
    family: int = 4,
    *,
    src: str | None = None,
    dst: str | None = None,
    tos: int = 0,
) -> Packet:
    """`inner`, of that family, on its way through a tunnel between addresses of family `outer`."""
    src, dst = src or BALANCER[outer], dst or HERE[outer]
    header = IP(src=src, dst=dst, tos=tos) if outer == 4 else IPv6(src=src, dst=dst, tc=tos)
    number = 4 if family == 4 else 41
    field = "proto" if outer == 4 else "nh"
    body = Raw(bytes(inner))
    if tunnel == "ipip":
        setattr(header, field, number)
        return header / body
    if tunnel == "gre":
        setattr(header, field, 47)
        return header / GRE(proto=0x0800 if family == 4 else 0x86DD) / body
    setattr(header, field, 17)
    shim = b"" if tunnel == "gue direct" else bytes((0, number, 0, 0))
    return header / UDP(sport=50000, dport=6080) / Raw(shim + bytes(inner))


def assert_stripped(server: Server, sent: bytes, inner: Packet | bytes) -> None:
    received = server.receive(sent)
    assert received == (PASS, bytes(_ethernet(inner) / Raw(bytes(inner))), {"stripped": 1})


def _ethernet(inner: Packet | bytes) -> Packet:
    header = ethernet()
    header.type = 0x0800 if bytes(inner)[0] >> 4 == 4 else 0x86DD
    return header


def assert_left_alone(server: Server, sent: bytes, why: str | None) -> None:
    assert server.receive(sent) == (PASS, sent, {why: 1} if why else {})


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@pytest.mark.parametrize("inner", FAMILIES)
@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_tunnelled_packet_comes_out_as_the_client_sent_it(
    server: Server, tunnel: str, outer: int, inner: int, protocol: str
) -> None:
    packet = request(protocol, inner)
    assert_stripped(server, frame(wrapped(tunnel, outer, packet, inner)), packet)


@pytest.mark.parametrize("inner", FAMILIES)
def test_icmp_and_fragments_inside_come_out_too(server: Server, inner: int) -> None:
    if inner == 4:
        packets = [
            IP(src=CLIENT[4], dst=VIP[4]) / ICMP(type=3, code=4),
            IP(src=CLIENT[4], dst=VIP[4], flags="MF") / UDP() / Raw(bytes(32)),
            IP(src=CLIENT[4], dst=VIP[4], frag=4, proto=17) / Raw(bytes(32)),
        ]
    else:
        packets = [IPv6(src=CLIENT[6], dst=VIP[6]) / IPv6ExtHdrFragment(offset=4) / Raw(bytes(32))]
    for packet in packets:
        assert_stripped(server, frame(wrapped("ipip", 4, packet, inner)), packet)


def test_options_of_outer_and_inner_ipv4_are_tolerated(server: Server) -> None:
    inner = request("tcp", 4, headers="ipv4 options")
    outer = wrapped("gue", 4, inner)
    for length in (4, 20, 40):
        outer.options = [IPOption(b"\x01" * length)]
        assert_stripped(server, frame(outer), inner)


def test_padding_of_a_short_frame_stays_behind_the_packet(server: Server) -> None:
    inner = IP(src=CLIENT[4], dst=VIP[4], proto=17) / Raw(bytes(8))
    assert_stripped(server, frame(wrapped("ipip", 4, inner)) + bytes(10), bytes(inner) + bytes(10))


def test_a_jumbo_frame_is_stripped_in_its_first_page(server: Server) -> None:
    inner = request("udp", 4, payload=bytes(8000))
    assert_stripped(server, frame(wrapped("ipip", 6, inner)), inner)


# What is not touched.


NOT_TUNNELS = {
    "a client's own packet": request("tcp", 4),
    "udp to another port": IP(src=BALANCER[4], dst=HERE[4]) / UDP(dport=53) / Raw(bytes(40)),
    "udp without room for gue": IP(src=BALANCER[4], dst=HERE[4]) / UDP(dport=6080),
    "a tunnel that ends elsewhere": wrapped("ipip", 4, request("tcp", 4), dst="198.18.0.9"),
    "a tunnel behind an ipv6 fragment header": (
        IPv6(src=BALANCER[6], dst=HERE[6]) / IPv6ExtHdrFragment(nh=4) / Raw(bytes(60))
    ),
}


@pytest.mark.parametrize("name", NOT_TUNNELS)
def test_what_is_no_tunnel_of_ours_passes_untouched_and_uncounted(
    server: Server, name: str
) -> None:
    assert_left_alone(server, frame(NOT_TUNNELS[name]), None)


def test_a_frame_with_a_vlan_tag_passes_untouched(server: Server) -> None:
    sent = bytes(ethernet() / Dot1Q(vlan=7) / wrapped("ipip", 4, request("tcp", 4)))
    assert_left_alone(server, sent, None)


@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_only_the_named_sources_may_send(server: Server, tunnel: str, outer: int) -> None:
    packet = request("tcp", 4)
    sent = frame(wrapped(tunnel, outer, packet, src=STRANGER[outer]))
    assert_left_alone(server, sent, "foreign")
    server.attach(replace(PLAIN, sources=()))
    assert_stripped(server, sent, packet)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_would_be_forwarded_passes_in_its_tunnel(server: Server, family: int) -> None:
    """The client's network is routed: this host, a router, must not relay by our doing."""
    away = request("tcp", family, dst=CLIENT[family], src=VIP[family])
    assert_left_alone(server, frame(wrapped("ipip", 4, away, family)), "elsewhere")
    server.route(on=False)
    assert_stripped(server, frame(wrapped("ipip", 4, away, family)), away)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_is_held_from_the_moment_it_is_added(server: Server, family: int) -> None:
    late = NO_ROUTE[family]
    behind = "203.0.113.0/24" if family == 4 else "2001:db8:dead::/64"
    gateway = BALANCER[family]
    sent = frame(wrapped("ipip", 4, inner := request("tcp", family, dst=late), family))
    length = 32 if family == 4 else 128
    with server.network.entered(), IPRoute() as ip:
        ip.route("replace", dst=behind, gateway=gateway)
        assert_left_alone(server, sent, "elsewhere")
        ip.addr("add", index=1, address=late, prefixlen=length)
        try:
            # the kernel puts an IPv6 address into its table a little later, from a work queue
            wait_for(lambda: is_local(ip, late), 10, f"{late} is local")
            assert_stripped(server, sent, inner)
        finally:
            ip.addr("del", index=1, address=late, prefixlen=length)
            ip.route("del", dst=behind, gateway=gateway)


def is_local(ip: IPRoute, address: str) -> bool:
    (route,) = ip.route("get", dst=address)
    return int(route["type"]) == rt_type["local"]


def test_without_a_port_udp_is_left_alone(server: Server) -> None:
    server.attach(replace(PLAIN, gue_port=0))
    inner = request("tcp", 4)
    assert_left_alone(server, frame(wrapped("gue", 4, inner)), None)
    assert_stripped(server, frame(wrapped("ipip", 4, inner)), inner)


@pytest.mark.parametrize("how", [{"flags": "MF"}, {"frag": 100}])
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_fragments_of_the_outer_packet_are_for_the_kernel(
    server: Server, tunnel: str, how: dict[str, object]
) -> None:
    outer = wrapped(tunnel, 4, request("tcp", 4))
    for field, value in how.items():
        setattr(outer, field, value)
    assert_left_alone(server, frame(outer), "fragment")


def _gre(**fields: object) -> Packet:
    outer = wrapped("gre", 4, request("tcp", 4))
    for name, value in fields.items():
        setattr(outer[GRE], name, value)
    return outer


def _gue(first: bytes) -> Packet:
    header = IP(src=BALANCER[4], dst=HERE[4]) / UDP(sport=50000, dport=6080)
    return header / Raw(first + bytes(request("tcp", 4)))


UNSUPPORTED = {
    "gre with a checksum": _gre(chksum_present=1),
    "gre with a key": _gre(key_present=1),
    "gre with a sequence number": _gre(seqnum_present=1),
    "gre of version 1": _gre(version=1),
    "gre of ethernet": _gre(proto=0x6558),
    "gue with extensions": _gue(b"\x01\x04\x00\x00" + bytes(4)),
    "gue with flags": _gue(b"\x00\x04\x80\x00"),
    "gue control": _gue(b"\x20\x04\x00\x00"),
    "gue of version 2": _gue(b"\x80\x04\x00\x00"),
    "gue of something else": _gue(b"\x00\x06\x00\x00"),
    "gue direct of no ip": _gue(b"\x70\x00\x00\x00"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_options_of_tunnels_are_for_the_kernel(server: Server, name: str) -> None:
    assert_left_alone(server, frame(UNSUPPORTED[name]), "unsupported")


def _with(packet: Packet, **fields: object) -> Packet:
    packet = packet.copy()
    for name, value in fields.items():
        setattr(packet, name, value)
    return packet


_OUTER4, _OUTER6 = (wrapped("ipip", family, request("tcp", 4)) for family in FAMILIES)
_INNER6 = request("tcp", 6)
MALFORMED = {
    "outer checksum": _with(_OUTER4, chksum=1),
    "outer header length": _with(_OUTER4, ihl=4),
    "outer header longer than the packet": _with(_OUTER4, ihl=15, len=40),
    "outer version": _with(_OUTER4, version=6),
    "outer ipv6 version": _with(_OUTER6, version=4),
    "outer total length beyond the frame": _with(_OUTER4, len=1400),
    "outer payload length beyond the frame": _with(_OUTER6, plen=1400),
    "outer length too short for the inner": _with(_OUTER4, len=60),
    "inner version": wrapped("ipip", 4, _with(request("tcp", 4), version=5)),
    "inner header length": wrapped("ipip", 4, _with(request("tcp", 4), ihl=4)),
    "inner total length beyond the outer": wrapped("ipip", 4, _with(request("tcp", 4), len=1400)),
    "inner total length below its header": wrapped("ipip", 4, _with(request("tcp", 4), len=19)),
    "inner payload length beyond the outer": wrapped("ipip", 4, _with(_INNER6, plen=1400), 6),
    "inner of the other family": wrapped("ipip", 4, _INNER6, 4),
    "gue length beyond the packet": _with(_gue(b"\x00\x04\x00\x00"), len=None),
}
MALFORMED["gue length beyond the packet"][UDP].len = 1400


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_passes_untouched(server: Server, name: str) -> None:
    assert_left_alone(server, frame(MALFORMED[name]), "malformed")


@pytest.mark.parametrize("inner", FAMILIES)
@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("tunnel", TUNNELS)
def test_a_frame_cut_anywhere_passes_untouched(
    server: Server, tunnel: str, outer: int, inner: int
) -> None:
    whole = frame(wrapped(tunnel, outer, request("udp", inner), inner))
    for length in range(14, len(whole)):
        received = server.receive(whole[:length])
        assert received[:2] == (PASS, whole[:length]), length
        assert "stripped" not in received.counted


def test_random_changes_never_make_anything_but_a_whole_inner_packet(server: Server) -> None:
    """What comes out is what came in, or the packet inside at its place in the frame."""
    dice = random.Random(4)
    wholes = [
        frame(wrapped(tunnel, outer, request("tcp", inner), inner))
        for tunnel in TUNNELS
        for outer in FAMILIES
        for inner in FAMILIES
    ]
    stripped = 0
    for _ in range(4000):
        sent = bytearray(dice.choice(wholes))
        for _ in range(dice.randrange(4)):
            sent[dice.randrange(14, 100)] = dice.randrange(256)
        received = server.receive(bytes(sent))
        if received.frame == bytes(sent):
            continue
        stripped += 1
        body = received.frame[14:]
        version = body[0] >> 4
        assert received.frame[12:14] == {4: b"\x08\x00", 6: b"\x86\xdd"}[version]
        length = int.from_bytes(body[2:4] if version == 4 else body[4:6], "big")
        assert length + (40 if version == 6 else 0) <= len(body)
        assert bytes(sent[:12]) == received.frame[:12]
        assert bytes(sent).endswith(body[22:])  # an ECN mark may have changed the inner header
    assert stripped > 400


# Congestion: RFC 6040, the normal mode of a tunnel's end.

NOT_ECT, ECT_1, ECT_0, CE = range(4)


@pytest.mark.parametrize("inner", FAMILIES)
@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("sent", [ECT_0, ECT_1, CE])
def test_a_congestion_mark_of_the_way_reaches_the_server(
    server: Server, outer: int, inner: int, sent: int
) -> None:
    packet = request("tcp", inner, tos=0x28 | sent)
    marked = request("tcp", inner, tos=0x28 | CE)
    assert_stripped(server, frame(wrapped("ipip", outer, packet, inner, tos=CE)), marked)


@pytest.mark.parametrize("outer", FAMILIES)
def test_a_mark_that_the_sender_would_not_heed_is_a_loss(server: Server, outer: int) -> None:
    sent = frame(wrapped("ipip", outer, request("tcp", 4, tos=NOT_ECT), tos=CE))
    received = server.receive(sent)
    assert (received.verdict, received.counted) == (DROP, {"congested": 1})


@pytest.mark.parametrize("outer", FAMILIES)
@pytest.mark.parametrize("mark", [NOT_ECT, ECT_0, ECT_1])
def test_other_marks_of_the_outer_header_change_nothing(
    server: Server, outer: int, mark: int
) -> None:
    packet = request("tcp", 4, tos=0x28)
    assert_stripped(server, frame(wrapped("ipip", outer, packet, tos=0xB8 | mark)), packet)


# Attached, changed, detached.


def test_status_tells_what_is_attached(server: Server) -> None:
    status = server.status()
    assert status is not None
    assert status.decap == PLAIN
    assert status.mode is Mode.NATIVE
    assert set(status.packets) == set(decap.OUTCOMES)
    server.attach(replace(PLAIN, sources=()))
    status = server.status()
    assert status is not None
    assert status.decap.sources == ()


def test_detaching_twice_is_once(server: Server) -> None:
    assert server.detach()
    assert not server.detach()
    assert server.status() is None


def test_another_program_is_neither_replaced_nor_detached(server: Server) -> None:
    server.detach()
    with server.network.entered():
        decap.hold_pass(["front"])
        with pytest.raises(DecapError, match="another XDP program is there already"):
            decap.attach("front", PLAIN)
        assert not decap.detach("front")
        index = server.network.interfaces.front
        state = xdp_state(index)
        assert state is not None
        with Program.by_id(state.program_id) as program:
            assert program.name == "pass"
            decap.let_go(program, index, Mode.NATIVE)


@pytest.mark.parametrize(
    ("interface", "wanted", "message"),
    [
        ("front", Decap(()), "no address of this host is named"),
        ("nowhere", PLAIN, "there is no such interface"),
        ("lo", PLAIN, "its driver has no native XDP"),
        (
            "front",
            Decap(tuple(ip_address("10.0.0.0") + n for n in range(1025))),
            "more than 1024 addresses",
        ),
    ],
)
def test_what_cannot_be_attached_is_refused_in_one_sentence(
    server: Server, interface: str, wanted: Decap, message: str
) -> None:
    with server.network.entered(), pytest.raises(DecapError, match=message):
        decap.attach(interface, wanted)
    status = server.status()
    assert status is not None and status.decap == PLAIN


def test_the_addresses_of_an_interface_are_those_that_others_may_use(server: Server) -> None:
    with server.network.entered():
        assert decap.addresses_of("front") == PLAIN.ends
