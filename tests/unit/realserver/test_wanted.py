"""What a wish means on a host: which slots, and in which order."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kernlb.doctor.network import Link
from kernlb.realserver.slots import Kind
from kernlb.realserver.wanted import WishError, wanted
from kernlb.realserver.wish import Decap, Guard, Tunnel, from_plain, parse_tunnel, to_plain
from tests.unit.realserver.hosts import ETH0, LO, VIP, VIP6, default, dsr, held, host, tunnel


def said(wish, where):
    return [f"{want.slot} = {want.value}" for want in wanted(wish, where)]


def test_dsr_keeps_quiet_about_a_vip_before_it_has_it():
    assert said(dsr(VIP, VIP6), host()) == [
        "net.ipv4.conf.all.arp_ignore = 1",
        "net.ipv4.conf.eth0.arp_ignore = 1",
        "net.ipv4.conf.all.arp_announce = 2",
        "address 192.0.2.10 on lo = 32",
        "address 2001:db8::10 on lo = 128",
    ]


def test_an_ipv6_vip_needs_no_guard():
    assert said(dsr(VIP6), host()) == ["address 2001:db8::10 on lo = 128"]


def test_a_tunnel_is_taken_in_by_the_device_of_its_families():
    assert said(tunnel(VIP), host())[:3] == [
        "module ipip = loaded",
        "net.ipv4.conf.tunl0.rp_filter = 2",
        "state of tunl0 = up",
    ]
    assert "state of ip6tnl0 = up" in said(tunnel(VIP6), host())
    six_in_four = said(tunnel(VIP6, ends=(ip_address("10.1.0.11"),)), host())
    assert "state of sit0 = up" in six_in_four
    gre = said(tunnel(VIP, VIP6, tunnel=Tunnel.GRE), host())
    assert {"state of gre0 = up", "state of ip6gre0 = up"} <= set(gre)


def test_a_device_that_unpacks_ipv4_has_an_address_or_a_lenient_filter_would_drop():
    assert "address 192.0.2.10 on tunl0 = 32" in said(tunnel(VIP, VIP6), host())
    tunl0 = Link(3, "tunl0", "ipip", ethernet=False)
    there = host(held("192.0.2.10/32", "tunl0"), links=(LO, ETH0, tunl0))
    for wish in (tunnel(VIP), dsr(VIP)):  # nobody asks for an address there
        assert not [s for s in said(wish, there) if s.endswith("None")]


def test_gue_is_a_port_in_front_of_the_device():
    four = said(tunnel(VIP, tunnel=Tunnel.GUE, port=7000), host())
    assert {"module fou = loaded", "state of tunl0 = up", "fou port 7000 (IPv4) = gue"} <= set(four)


def test_ipv4_in_ipv6_needs_a_device_of_its_own():
    found = said(tunnel(VIP, ends=(ip_address("fd00:b::11"),)), host())
    assert "device kernlb4in6 = type ip6tnl mode any local fd00:b::11 remote ::" in found


def test_a_kernel_without_devices_takes_tunnels_in_by_xdp():
    assert said(tunnel(VIP), host(modules=()))[0] == (
        "decap on eth0 = --address 10.1.0.11 --address fd00:b::11 --gue-port 0"
    )
    named = wanted(tunnel(VIP, sources=(ip_address("10.0.0.2"),)), host())  # a device cannot tell
    assert "--source 10.0.0.2" in (named[0].value or "")


@pytest.mark.parametrize(
    ("of_all", "fine"), [("0", {"0", "2"}), ("1", {"2"}), ("2", {"0", "1", "2"})]
)
def test_the_larger_rp_filter_counts(of_all, fine):
    (want,) = [w for w in wanted(tunnel(), host(all_rp_filter=of_all)) if "rp_filter" in str(w)]
    assert {value for value in "012" if want.met_by(value)} == fine


def test_answers_that_leave_elsewhere_make_the_way_in_lenient():
    eth1 = Link(3, "eth1")
    there = host(links=(LO, ETH0, eth1), routes=(default("eth1"),))
    assert "net.ipv4.conf.eth0.rp_filter = 2" in said(dsr(interface="eth0"), there)
    assert not [s for s in said(dsr(interface="eth1"), there) if "rp_filter" in s]


def test_auto_mss_is_what_the_tunnel_leaves():
    def limits(wish):
        (table,) = [w.value for w in wanted(wish, host()) if w.slot.kind is Kind.RULES]
        return [line.rpartition(" ")[2] for line in table.splitlines() if "maxseg" in line]

    assert limits(tunnel(VIP, VIP6, mss="auto")) == ["1440", "1400"]
    assert limits(tunnel(VIP, mss="auto")) == ["1440"]
    assert limits(tunnel(VIP, mss="auto", mtu=1600)) == ["1540"]
    assert limits(tunnel(VIP, mss=1300)) == ["1300"]
    assert limits(tunnel(VIP, mss="auto", tunnel=Tunnel.GUE)) == ["1428"]
    assert limits(dsr(VIP, mss=1300)) == ["1300"]


def test_a_guard_of_nftables_leaves_sysctls_alone():
    (table,) = [w for w in wanted(dsr(guard=Guard.NFT), host()) if "table" in str(w.slot)]
    text = table.value or ""
    assert "arp daddr ip { 192.0.2.10 } drop" in text
    assert "arp saddr ip set 10.1.0.11" in text
    assert "arp_ignore" not in str(wanted(dsr(guard=Guard.NFT), host()))


def test_a_vip_elsewhere_moves_to_lo():
    moved = said(dsr(), host(held("192.0.2.10/32")))
    assert moved[-2:] == ["address 192.0.2.10 on eth0 = None", "address 192.0.2.10 on lo = 32"]


@pytest.mark.parametrize(
    ("wish", "where", "why"),
    [
        (dsr(), host(links=(LO, ETH0, Link(3, "eth1")), routes=()), "name it with --interface"),
        (dsr(interface="eth9"), host(), "there is no such interface"),
        (dsr(ip_address("10.1.0.11")), host(own=("10.1.0.11/24",)), "this server's own"),
        (
            dsr(),
            host(held("192.0.2.10/24"), held("192.0.2.11/24")),
            "ip address del 192.0.2.10/24 dev eth0",
        ),
        (tunnel(decap=Decap.XDP), host(own=()), "it has no address"),
        (tunnel(decap=Decap.DEVICE, sources=(VIP,)), host(), "--source needs --decap xdp"),
        (dsr(guard=Guard.NFT), host(own=()), "no IPv4 address to ask from"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(wish, where, why):
    with pytest.raises(WishError, match="cannot") as caught:
        wanted(wish, where)
    assert why in str(caught.value)


def test_a_wish_outlives_its_json():
    wish = tunnel(
        VIP, VIP6, tunnel=Tunnel.GUE, decap=Decap.XDP, sources=(VIP6,), mss="auto", mtu=1600
    )
    assert from_plain(to_plain(wish)) == wish


@pytest.mark.parametrize("text", ["gue:0", "gue:65536", "gue:x", "ipip:1", "vxlan", "", "gue:٣"])
def test_a_tunnel_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="is not a"):
        parse_tunnel(text)


def test_a_persistent_wish_ends_with_its_unit():
    from dataclasses import replace

    found = said(replace(dsr(), persist=True), host())
    assert "ExecStart=/usr/bin/kernlb realserver setup --from-state" in found[-2]
    assert "multi-user.target.wants" in found[-1]
