"""The lab's network as commands: decided from the topology and the kernel's features alone."""

from __future__ import annotations

from ipaddress import ip_network

from kernlb.lab.commands import TUNNEL_MODULES, XDP, Setup, creation, setups
from kernlb.lab.topology import Topology

EVERYTHING = frozenset(TUNNEL_MODULES)
LAB = Topology("some")


def setup_of(role: str, features: frozenset[str] = EVERYTHING) -> Setup:
    (found,) = [s for s in setups(LAB, features) if s.namespace == LAB.namespace(role)]
    return found


def test_every_role_is_created_before_it_is_linked() -> None:
    lines = creation(LAB)
    added = [line.removeprefix("netns add ") for line in lines if line.startswith("netns add")]
    assert added == [LAB.namespace(role) for role in LAB.roles]
    assert all(line.startswith("link add") for line in lines[len(added) :])


def test_no_device_has_a_name_that_the_kernel_would_refuse() -> None:
    many = Topology("some", server_count=200)
    for line in creation(many):
        if line.startswith("link add"):
            words = line.split()
            assert len(words[2]) <= 15 and len(words[words.index("name") + 1]) <= 15


def test_servers_hold_every_vip_and_do_not_tell_their_neighbours() -> None:
    server = setup_of("server1")
    for vip in LAB.all_vips():
        assert any(line.startswith(f"addr add {vip}/") and " dev lo" in line for line in server.ip)
    assert ("net.ipv4.conf.all.arp_ignore", "1") in server.sysctls
    assert ("net.ipv4.conf.all.arp_announce", "2") in server.sysctls


def test_replies_from_vips_go_by_the_router_and_others_by_the_balancer() -> None:
    server = setup_of("server2")
    assert f"route add default via {LAB.balancer.v4}" in server.ip
    assert f"route add default via {LAB.router.v4} table 100" in server.ip
    assert "rule add from 192.0.2.0/24 lookup 100" in server.ip
    assert "rule add from fd00:aa::/64 lookup 100" in server.ip6


def test_a_kernel_without_tunnels_gets_a_lab_without_tunnels() -> None:
    bare = " ".join((*setup_of("server1", frozenset()).ip, *setup_of("server1", frozenset()).ip6))
    assert not any(word in bare for word in ("tunl0", "ip6tnl", "gre0", "fou"))
    assert "fou add port 6080 gue" in setup_of("server1").ip


def test_servers_undo_tunnels_by_xdp_where_their_kernel_does_not() -> None:
    assert setup_of("server1", frozenset({XDP})).decap == ("back",)
    assert setup_of("server1", EVERYTHING | {XDP}).decap == ()
    assert setup_of("server1", frozenset()).decap == ()


def test_what_xdp_on_the_balancer_sends_is_taken_at_the_switch() -> None:
    assert setup_of("switch", frozenset({XDP})).passing == ("balancer-f", "balancer-b")
    assert setup_of("switch", frozenset()).passing == ()


def test_vips_of_one_arm_come_to_the_balancer_by_the_router() -> None:
    for version, network in ((4, "192.0.2.192/26"), (6, "fd00:aa:0:0:1::/80")):
        router = LAB.router_front.address(version)
        assert f"route add {network} via {router}" in setup_of("client").ip
        balancer = LAB.balancer.address(version)
        assert f"route add {network} via {balancer}" in setup_of("router").ip
        assert all(vip in ip_network(network) for vip in LAB.back_vips(version))


def test_a_setup_reads_as_a_shell_script() -> None:
    setup = Setup(
        "some-client",
        ("link set lo up",),
        ("rule add x",),
        (("a.b", "1"),),
        ("front",),
        ("port",),
        ("back",),
    )
    assert list(setup.script()) == [
        "ip netns exec some-client sysctl -w a.b=1",
        "ip -n some-client link set lo up",
        "ip -n some-client -6 rule add x",
        "ip netns exec some-client ethtool -K front tx off",
        "ip -n some-client link set port xdpdrv object "
        "kernlb/datapath/xdp/objects/decap.bpf.o program pass",
        "nsenter --net=/run/netns/some-client kernlb realserver decap attach back --gue-port 6080",
    ]


def test_clients_vips_and_servers_have_addresses_of_their_own() -> None:
    everything = [
        address
        for version in (4, 6)
        for address in (
            *LAB.sources(version),
            *LAB.vips(version),
            *LAB.back_vips(version),
            LAB.front_vip(version),
            *(host.address(version) for host in LAB.hosts),
        )
    ]
    assert len(everything) == len(set(everything))
