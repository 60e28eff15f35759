"""What `kernlb realserver check` finds: each mistake made on a server that is fine, and mended.

A story breaks one thing and says all that is found of it. Devices of tunnels are in
test_devices.py: this machine's kernel may have none.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kernlb.doctor.server import CHECKS
from kernlb.realserver.wish import Decap, Guard, Tunnel, Wish
from tests.netns.realserver.conftest import listener
from tests.netns.realserver.world import (
    CLIENT,
    DSR,
    NAT,
    OWN,
    PEER,
    PEER6,
    TUNNEL,
    VIP,
    VIP6,
    Server,
)
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.netns

XDP = replace(TUNNEL, decap=Decap.XDP)
GUE = replace(XDP, tunnel=Tunnel.GUE)


@dataclass(frozen=True)
class Story:
    """`found`: the findings that breaking it leads to, all of them. `fixed`: by --fix alone;
    otherwise `setup` cures it, or neither does and `cure` says how."""

    found: set[str]
    break_it: Callable[[Server], object]
    wish: Wish = DSR
    fixed: bool = True
    set_up_cures: bool = True


def lines(text: str) -> Callable[[Server], object]:
    return lambda server: server.ip(text)


def sysctl(name: str, value: str) -> Callable[[Server], object]:
    return lambda server: server.sysctl(name, value)


def nft(text: str) -> Callable[[Server], object]:
    return lambda server: server.nft(text)


def both(*acts: Callable[[Server], object]) -> Callable[[Server], object]:
    return lambda server: [act(server) for act in acts]


def decap(**otherwise: object) -> Callable[[Server], None]:
    """Attached once more, otherwise."""

    def attach(server: Server) -> None:
        from kernlb.datapath.xdp import decap as door

        found = server.inside(lambda: door.status("eth0"))
        assert found is not None
        server.inside(lambda: door.attach("eth0", replace(found.decap, **otherwise)))

    return attach


def no_decap(server: Server) -> None:
    from kernlb.datapath.xdp import decap as door

    assert server.inside(lambda: door.detach("eth0"))


def generic_decap(server: Server) -> None:
    from kernlb.datapath.xdp import decap as door
    from kernlb.datapath.xdp.libbpf import Mode

    found = server.inside(lambda: door.status("eth0"))
    assert found is not None
    no_decap(server)
    server.inside(lambda: door.attach("eth0", found.decap, Mode.GENERIC))


def another_program(server: Server) -> None:
    from kernlb.datapath.xdp import decap as door

    no_decap(server)
    server.inside(lambda: door.hold_pass(["eth0"]))


def tentative(server: Server) -> None:
    server.sysctl("net/ipv6/conf/eth0/accept_dad", "1")
    server.sysctl("net/ipv6/conf/all/accept_dad", "1")
    server.sysctl("net/ipv6/conf/eth0/dad_transmits", "60")
    server.ip(f"addr del {VIP6}/128 dev lo\naddr add {VIP6}/128 dev eth0")


def duplicate(server: Server) -> None:
    server.ip(f"addr add {VIP6}/128 dev eth0 nodad", server.peer)
    server.sysctl("net/ipv6/conf/eth0/accept_dad", "1")
    server.sysctl("net/ipv6/conf/all/accept_dad", "1")
    server.ip(f"addr del {VIP6}/128 dev lo\naddr add {VIP6}/128 dev eth0")
    shown = ("ip", "-6", "addr", "show", "dev", "eth0")
    wait_for(lambda: "dadfailed" in server.run(*shown), 10, "the kernel notices")


INPUT = "add table inet f; add chain inet f i { type filter hook input priority 0; policy %s; }; "
OUTPUT = "add table inet f; add chain inet f o { type filter hook output priority 0; }; "
LARGE = "segments-too-large-for-tunnel"

STORIES = {
    "a VIP is missing": Story({"vip-missing-on-server"}, lines(f"addr del {VIP}/32 dev lo")),
    "an IPv6 VIP is missing": Story(
        {"vip-missing-on-server"}, lines(f"addr del {VIP6}/128 dev lo")
    ),
    "a VIP is on the Ethernet": Story(
        {"vip-on-wrong-interface"},
        lines(f"addr del {VIP}/32 dev lo\naddr add {VIP}/32 dev eth0"),
    ),
    "a VIP is on another Ethernet": Story(
        {"vip-on-wrong-interface"},
        lines(f"addr del {VIP}/32 dev lo\naddr add {VIP}/32 dev eth1"),
    ),
    "a VIP has a network around it": Story(
        {"vip-prefix-too-wide"}, lines(f"addr del {VIP}/32 dev lo\naddr add {VIP}/28 dev lo")
    ),
    "an IPv6 VIP has a network around it": Story(
        {"vip-prefix-too-wide"},
        lines(f"addr del {VIP6}/128 dev lo\naddr add {VIP6}/112 dev lo"),
    ),
    "a VIP is checked for others": Story({"vip-on-wrong-interface", "vip-tentative"}, tentative),
    "another has the VIP": Story({"vip-on-wrong-interface", "vip-duplicate"}, duplicate),
    "IPv6 is disabled on lo": Story(
        {"ipv6-disabled", "vip-missing-on-server"}, sysctl("net/ipv6/conf/lo/disable_ipv6", "1"),
        set_up_cures=False,
    ),
    "lo is down": Story(
        {"loopback-down", "vip-missing-on-server"}, lines("link set lo down"), set_up_cures=False
    ),
    "the interface is down": Story(
        {"server-interface-down", "no-way-to-clients"},
        lines("link set eth0 down"), fixed=False, set_up_cures=False,
    ),
    "ARP is answered": Story({"arp-answers-vip"}, sysctl("net/ipv4/conf/all/arp_ignore", "0")),
    "ARP is answered for all but the host's own": Story(
        {"arp-answers-vip"}, sysctl("net/ipv4/conf/eth0/arp_ignore", "3"),
    ),
    "ARP is asked as the VIP": Story(
        {"arp-announces-vip"}, sysctl("net/ipv4/conf/all/arp_announce", "1")
    ),
    "ARP is answered for others": Story(
        {"proxy-arp-on-server"}, sysctl("net/ipv4/conf/eth0/proxy_arp", "1"), set_up_cures=False
    ),
    "answers leave elsewhere, strictly": Story(
        {"rp-filter-on-way-in"},
        both(
            lines("route replace default via 10.9.1.254 dev eth1"),
            sysctl("net/ipv4/conf/all/rp_filter", "1"),
        ),
    ),
    "there is no way back": Story(
        {"no-way-to-clients"}, lines("route del default"), fixed=False, set_up_cures=False
    ),
    "answers go by the balancer": Story(
        {"answers-through-balancer"}, lines(f"route replace default via {PEER}"),
        fixed=False, set_up_cures=False,
    ),
    "with nat, answers do not go by the balancer": Story(
        {"answers-past-balancer"}, lines("route replace default via 10.9.0.254"), NAT,
        fixed=False, set_up_cures=False,
    ),
    "decap is not there": Story({"decap-missing"}, no_decap, XDP, fixed=False),
    "another program is there": Story(
        {"decap-place-taken"}, another_program, XDP, fixed=False, set_up_cures=False
    ),
    "decap is generic": Story({"decap-generic"}, generic_decap, XDP, fixed=False),
    "an address came later": Story(
        {"decap-other-address"}, lines("addr add 10.9.0.12/24 dev eth0"), XDP, fixed=False
    ),
    "decap has another port": Story({"decap-other-port"}, decap(gue_port=7000), GUE, fixed=False),
    "decap has no port": Story({"decap-other-port"}, decap(gue_port=0), GUE, fixed=False),
    "decap takes from others": Story(
        {"decap-refuses-balancer"}, decap(sources=(CLIENT,)), XDP, fixed=False
    ),
    "segments are not limited": Story(
        {LARGE}, nft("delete table inet kernlb_realserver"), XDP, fixed=False
    ),
    "the MTU is smaller": Story({LARGE}, lines("link set eth0 mtu 1400"), XDP, fixed=False),
    "clients are dropped": Story(
        {"filter-drops-clients"},
        nft(INPUT % "drop" + "add rule inet f i tcp dport 22 accept"),
        fixed=False, set_up_cures=False,
    ),
    "only the server's own address is let in": Story(
        {"filter-drops-clients"},
        nft(INPUT % "accept" + f"add rule inet f i ip daddr != {OWN} tcp dport 80 drop"),
        fixed=False, set_up_cures=False,
    ),
    "answers are dropped": Story(
        {"filter-drops-answers"},
        nft(OUTPUT + f"add rule inet f o ip saddr {VIP} drop"), fixed=False, set_up_cures=False,
    ),
    "ICMP is dropped": Story(
        {"icmp-dropped-on-server"},
        nft(INPUT % "accept" + "add rule inet f i meta l4proto icmp drop"),
        fixed=False, set_up_cures=False,
    ),
    "strays are dropped": Story(
        {"strays-dropped-on-server"},
        both(
            nft(INPUT % "accept" + "add rule inet f i ct state invalid drop"),
            sysctl("net/netfilter/nf_conntrack_tcp_loose", "0"),
        ),
        fixed=False, set_up_cures=False,
    ),
}  # fmt: skip


@pytest.fixture
def fine(server: Server, request: pytest.FixtureRequest) -> Server:
    """Set up as its story wants."""
    prepare(server, request.param.wish)
    return server


def prepare(server: Server, wish: Wish) -> None:
    if wish is NAT:
        server.setup(DSR)
        server.remove()
        server.asked = replace(server.asked, wish=NAT)
        server.ip(f"route replace default via {PEER}\nroute replace default via {PEER6}")
    else:
        server.setup(wish)


@pytest.mark.parametrize("wish", [DSR, XDP, GUE, NAT, replace(XDP, guard=Guard.NFT, mtu=1600)])
def test_nothing_is_found_on_a_server_that_was_set_up(server: Server, wish: Wish) -> None:
    prepare(server, wish)
    report = server.check()
    assert not report.found, [each.finding for each in report.found]
    assert not report.not_checked


@pytest.mark.parametrize(
    ("fine", "story"), [(each, each) for each in STORIES.values()], ids=STORIES, indirect=["fine"]
)
def test_what_is_broken_is_found_alone_and_mended(fine: Server, story: Story) -> None:
    story.break_it(fine)
    report = fine.check()
    assert {each.check.id for each in report.found} == story.found
    assert all(each.finding.evidence and each.check.why for each in report.found)
    assert not report.not_checked
    if story.fixed:
        assert fine.fix()
        assert fine.found() == set()
    elif story.set_up_cures:
        fine.setup(story.wish)
        assert fine.found() == set()


def test_setup_makes_a_server_fine_that_has_many_mistakes(server: Server) -> None:
    prepare(server, XDP)
    no_decap(server)
    server.ip(f"""
        addr del {VIP}/32 dev lo
        addr add {VIP}/24 dev lo
        addr del {VIP6}/128 dev lo
        addr add {VIP6}/128 dev eth0
        route replace default via 10.9.1.254 dev eth1
    """)
    server.sysctl("net/ipv4/conf/all/rp_filter", "1")
    server.sysctl("net/ipv4/conf/all/arp_ignore", "0")
    server.sysctl("net/ipv4/conf/all/arp_announce", "0")
    server.nft("delete table inet kernlb_realserver")
    assert server.found() == {
        *("vip-prefix-too-wide", "vip-on-wrong-interface", "rp-filter-on-way-in", "decap-missing"),
        *("arp-answers-vip", "arp-announces-vip", LARGE),
    }
    server.setup(XDP)
    assert server.found() == set()


def test_a_bare_server_is_told_all_that_it_lacks(server: Server) -> None:
    server.setup(XDP, dry_run=True)
    assert server.found() == {
        "vip-missing-on-server",
        "arp-answers-vip",
        "arp-announces-vip",
        "decap-missing",
        LARGE,
    }


def test_guards_of_nftables_are_as_good_as_sysctls(server: Server) -> None:
    prepare(server, replace(DSR, guard=Guard.NFT))
    server.nft("delete table arp kernlb_realserver")
    assert server.found() == {"arp-answers-vip", "arp-announces-vip"}


def test_nobody_listens(bare: Server) -> None:
    bare.setup(DSR)
    assert bare.found() == {"nobody-listens"}


def test_whoever_listens_is_bound_to_the_servers_own_address(bare: Server) -> None:
    bare.setup(replace(DSR, vips=(VIP,)))
    with closing(bare.inside(lambda: listener(str(OWN)))):
        assert bare.found() == {"listens-elsewhere"}
    with closing(bare.inside(lambda: listener(str(VIP)))):
        assert bare.found() == set()


def test_what_was_set_up_and_is_not_so_any_more(server: Server) -> None:
    server.setup(DSR)
    known = {"root": server.root}
    assert server.found(**known) == set()
    server.ip("addr add 10.9.0.77/32 dev lo")  # somebody's own affair
    assert server.found(**known) == set()
    server.sysctl("net/ipv4/conf/all/arp_announce", "0")
    assert server.found(**known) == {"arp-announces-vip", "setup-undone"}
    server.setup(DSR)
    (server.root / "etc/systemd/system/kernlb-realserver.service").unlink()
    assert server.found(**known) == {"setup-not-kept"}


def test_what_cannot_be_known_is_not_called_clean(server: Server) -> None:
    prepare(server, DSR)
    report = server.check(ports=(), balancers=())
    assert {each.check.id: each.why for each in report.not_checked} == {
        "answers-through-balancer": "no --balancer was named",
        "nobody-listens": "no --port was named",
        "listens-elsewhere": "no --port was named",
    }
    assert not report.found


# Counters: what goes wrong while somebody looks.

RISING = {
    "reverse-path-drops": DSR,
    "unknown-protocol-arrives": XDP,
    "listen-queue-overflows": DSR,
    "decap-refuses-balancer": XDP,
    "decap-leaves-packets": XDP,
}


@pytest.mark.parametrize(("which", "wish"), RISING.items(), ids=RISING)
def test_packets_that_are_lost_while_one_looks(server: Server, which: str, wish: Wish) -> None:
    prepare(server, wish)
    found = {which}
    if which == "reverse-path-drops":
        server.sysctl("net/ipv4/conf/eth1/rp_filter", "1")
        server.sysctl("net/ipv4/conf/all/arp_announce", "2", server.peer)  # or ARP ends it
        act = sender(server, socket.SOCK_DGRAM, 0, b"x", ("10.9.1.11", 9), str(CLIENT))
    elif which == "unknown-protocol-arrives":
        no_decap(server)
        found.add("decap-missing")
        act = sender(server, socket.SOCK_RAW, 200, bytes(40), (str(OWN), 0), str(PEER))
    elif which == "decap-refuses-balancer":
        server.ip(f"route add {OWN}/32 dev eth0 src {CLIENT}", server.peer)
        act = sender(server, socket.SOCK_RAW, 47, inner(0), (str(OWN), 0), str(CLIENT))
    elif which == "decap-leaves-packets":
        act = sender(server, socket.SOCK_RAW, 47, inner(0x2000), (str(OWN), 0), str(PEER))
    else:
        act = crowd(server)
    with act:
        assert server.found(seconds=0.5) == found


def test_a_lenient_filter_drops_what_comes_in_by_a_device_without_an_address(
    server: Server,
) -> None:
    """Why `setup` gives a VIP to the device that unpacks tunnels."""
    prepare(server, DSR)
    server.ip("addr flush dev eth1")
    server.sysctl("net/ipv4/conf/eth1/rp_filter", "2")
    (link,) = json.loads(server.run("ip", "-j", "link", "show", "eth1"))
    mac = link["address"]
    server.ip(f"route add {VIP}/32 dev eth1\nneigh add {VIP} lladdr {mac} dev eth1", server.peer)
    with sender(server, socket.SOCK_DGRAM, 0, b"x", (str(VIP), 9), str(CLIENT)):
        assert server.found(seconds=0.5) == {"reverse-path-drops"}
        server.ip("addr add 10.9.1.11/32 dev eth1")
        assert server.found(seconds=0.5) == set()


def inner(flags: int) -> bytes:
    """GRE with something of IPv4 in it."""
    return struct.pack("!HH", flags, 0x0800) + bytes.fromhex("45") + bytes(39)


@contextmanager
def sender(
    server: Server, kind: int, protocol: int, packet: bytes, to: tuple[str, int], source: str
) -> Iterator[None]:
    """The peer sends a packet again and again."""
    over = threading.Event()

    def send() -> None:
        with closing(socket.socket(socket.AF_INET, kind, protocol)) as out:
            out.bind((source, 0))
            while not over.wait(0.02):
                out.sendto(packet, to)

    sending = threading.Thread(target=lambda: server.inside(send, server.peer))
    sending.start()
    try:
        yield
    finally:
        over.set()
        sending.join(10)


@contextmanager
def crowd(server: Server) -> Iterator[None]:
    """More connections than fit into the queue of a program that accepts none."""
    port, over = 8081, threading.Event()

    def wait() -> socket.socket:
        waiting = socket.create_server((str(OWN), port), backlog=1)
        waiting.listen(1)
        return waiting

    def call() -> None:
        callers = []
        while not over.wait(0.01):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex((str(OWN), port))
            callers.append(caller)
        for caller in callers:
            caller.close()

    with closing(server.inside(wait)):
        calling = threading.Thread(target=lambda: server.inside(call, server.peer))
        calling.start()
        try:
            yield
        finally:
            over.set()
            calling.join(10)


# And that none was forgotten.


def test_every_check_has_its_story() -> None:
    told = set().union(*(story.found for story in STORIES.values())) | set(RISING)
    text = Path(__file__).read_text() + Path(__file__).with_name("test_devices.py").read_text()
    told |= {check.id for check in CHECKS if f'"{check.id}"' in text}
    assert {check.id for check in CHECKS} == told
