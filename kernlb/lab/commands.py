"""The lab's network as commands: what each namespace is told, decided before anything is done.

Pure. A `Setup` is the few `ip -batch` lines, sysctls and offload settings of one namespace; it
prints as a shell script (`kernlb lab up --dry-run`) and `network.py` applies it with one fork.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kernlb.lab.topology import (
    BACK,
    BACK_VIP_NETWORKS,
    FRONT,
    GUE_PORT,
    SUBNETS,
    VIP_NETWORKS,
    Host,
    Topology,
)

REPLIES_FROM_VIPS = 100  # the servers' routing table for what leaves through the router

# What a kernel may lack, by the module that brings it. Each is prepared where it is there.
TUNNEL_MODULES = ("ipip", "ip6_tunnel", "sit", "fou", "fou6", "ip_gre", "ip6_gre")
XDP = "xdp"  # a feature like those: libbpf and the compiled programs are there
PASS_OBJECT = "kernlb/datapath/xdp/objects/decap.bpf.o"
FALLBACK_DEVICES = {
    "ipip": "tunl0",
    "ip6_tunnel": "ip6tnl0",
    "sit": "sit0",
    "ip_gre": "gre0",
    "ip6_gre": "ip6gre0",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """What one namespace is told. `ip6` is for what `ip` does for IPv6 only when run as `ip -6`.

    `passing` are the far ends of links that XDP sends into: they take nothing without a program
    of their own. On `decap` devices tunnels are undone by XDP.
    """

    namespace: str
    ip: tuple[str, ...]
    ip6: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    offload_off: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    decap: tuple[str, ...] = ()

    def script(self) -> Iterator[str]:
        """The same as shell commands, to read or to paste."""
        for key, value in self.sysctls:
            yield f"ip netns exec {self.namespace} sysctl -w {key}={value}"
        for line in self.ip:
            yield f"ip -n {self.namespace} {line}"
        for line in self.ip6:
            yield f"ip -n {self.namespace} -6 {line}"
        for device in self.offload_off:
            yield f"ip netns exec {self.namespace} ethtool -K {device} tx off"
        for device in self.passing:
            link = f"ip -n {self.namespace} link set {device}"
            yield f"{link} xdpdrv object {PASS_OBJECT} program pass"
        for device in self.decap:
            # not `ip netns exec`, which hides /sys/fs/bpf
            inside = f"nsenter --net=/run/netns/{self.namespace}"
            yield f"{inside} kernlb realserver decap attach {device} --gue-port {GUE_PORT}"


def creation(lab: Topology) -> tuple[str, ...]:
    """`ip` lines for the root namespace: all namespaces, and a link from each to the switch."""
    switch = lab.namespace("switch")
    lines = [f"netns add {lab.namespace(role)}" for role in lab.roles]
    for host in lab.hosts:
        end = f"{host.segment} netns {lab.namespace(host.role)}"
        lines.append(f"link add {end} type veth peer name {_port(host)} netns {switch}")
    return tuple(lines)


def setups(lab: Topology, features: frozenset[str]) -> tuple[Setup, ...]:
    """Every namespace's setup; `features` are those of TUNNEL_MODULES and XDP that are there."""
    servers = tuple(_server(lab, server, features) for server in lab.servers)
    return (_switch(lab, features), _client(lab), _router(lab), _balancer(lab), *servers)


def removal(namespaces: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"netns del {namespace}" for namespace in namespaces)


def holding_vips() -> tuple[str, ...]:
    """`ip` lines that make every VIP local, as IPVS wants it, where nothing else adds them."""
    return tuple(f"route add local {network} dev lo" for network in VIP_NETWORKS)


def _switch(lab: Topology, features: frozenset[str]) -> Setup:
    lines = ["link set lo up"]
    for segment in (FRONT, BACK):
        lines += [f"link add {segment} type bridge mcast_snooping 0", f"link set {segment} up"]
    lines += [f"link set {_port(host)} master {host.segment} up" for host in lab.hosts]
    sysctls = (("net.ipv6.conf.all.disable_ipv6", "1"),)
    ends = (_port(lab.balancer_front), _port(lab.balancer)) if XDP in features else ()
    return Setup(lab.namespace("switch"), tuple(lines), (), sysctls, passing=ends)


def _client(lab: Topology) -> Setup:
    lines = _interface(lab.client)
    for version in (4, 6):
        length = SUBNETS[FRONT][version == 6].prefixlen
        for source in lab.sources(version):
            lines.append(f"addr add {source}/{length} dev {FRONT}" + _nodad(version))
        lines.append(_route(VIP_NETWORKS[version == 6], lab.balancer_front, version))
        lines.append(_route(BACK_VIP_NETWORKS[version == 6], lab.router_front, version))
        lines.append(_route(SUBNETS[BACK][version == 6], lab.router_front, version))
    sysctls = (
        *_any_direction(),
        *_usable_at_once("all", FRONT),
        ("net.ipv4.conf.all.accept_redirects", "0"),
    )
    return Setup(lab.namespace("client"), tuple(lines), (), sysctls, (FRONT,))


def _router(lab: Topology) -> Setup:
    lines = _interface(lab.router_front) + _interface(lab.router)[1:]
    lines += [_route(BACK_VIP_NETWORKS[version == 6], lab.balancer, version) for version in (4, 6)]
    return Setup(lab.namespace("router"), tuple(lines), (), _forwarding(), (FRONT, BACK))


def _balancer(lab: Topology) -> Setup:
    lines = _interface(lab.balancer_front) + _interface(lab.balancer)[1:]
    return Setup(lab.namespace("balancer"), tuple(lines), (), _forwarding(), (FRONT, BACK))


def _server(lab: Topology, server: Host, features: frozenset[str]) -> Setup:
    lines = _interface(server)
    lines6: list[str] = []
    for vip in lab.all_vips():
        lines.append(f"addr add {vip}/{vip.max_prefixlen} dev lo" + _nodad(vip.version))
    for version in (4, 6):
        lines.append(_route("default", lab.balancer, version))
        lines.append(_route("default", lab.router, version) + f" table {REPLIES_FROM_VIPS}")
        front_vip = lab.front_vip(version)
        for replies in (VIP_NETWORKS[version == 6], f"{front_vip}/{front_vip.max_prefixlen}"):
            rules = lines if version == 4 else lines6
            rules.append(f"rule add from {replies} lookup {REPLIES_FROM_VIPS}")
    devices = [device for module, device in FALLBACK_DEVICES.items() if module in features]
    lines += [f"link set {device} up" for device in devices]
    if "ip6_tunnel" in features:
        # ip6tnl0 takes IPv6 in IPv6 only; an IPv4 VIP with IPv6 servers sends IPv4 in IPv6.
        lines.append(f"link add anyip6 type ip6tnl mode any local {server.v6} remote ::")
        lines.append("link set anyip6 up")
    if "fou" in features:
        lines.append(f"fou add port {GUE_PORT} gue")
    if "fou6" in features:
        lines6.append(f"fou add port {GUE_PORT} gue")
    sysctls = (
        *_any_direction(),
        *_usable_at_once("all", BACK),
        *((f"net.ipv4.conf.{device}.rp_filter", "0") for device in devices),
        ("net.ipv4.conf.all.arp_ignore", "1"),
        ("net.ipv4.conf.all.arp_announce", "2"),
    )
    decap = (BACK,) if XDP in features and not features.issuperset(TUNNEL_MODULES) else ()
    return Setup(
        lab.namespace(server.role), tuple(lines), tuple(lines6), sysctls, (BACK,), decap=decap
    )


def _interface(host: Host) -> list[str]:
    v4, v6 = (network.prefixlen for network in SUBNETS[host.segment])
    return [
        "link set lo up",
        f"addr add {host.v4}/{v4} dev {host.segment}",
        f"addr add {host.v6}/{v6} dev {host.segment} nodad",
        f"link set {host.segment} up",
    ]


def _nodad(version: int) -> str:
    """An address that is still being checked for duplicates cannot be used yet."""
    return " nodad" if version == 6 else ""


def _route(destination: object, gateway: Host, version: int) -> str:
    return f"route add {destination} via {gateway.address(version)}"


def _any_direction() -> tuple[tuple[str, str], ...]:
    """Replies may come back another way than requests left; the larger of the two keys counts."""
    return (("net.ipv4.conf.all.rp_filter", "0"), ("net.ipv4.conf.default.rp_filter", "0"))


def _usable_at_once(*devices: str) -> tuple[tuple[str, str], ...]:
    """No search for duplicates of link-local addresses: neighbours would wait two seconds."""
    return tuple((f"net.ipv6.conf.{device}.accept_dad", "0") for device in devices)


def _forwarding() -> tuple[tuple[str, str], ...]:
    return (
        *_any_direction(),
        *_usable_at_once("all", FRONT, BACK),
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
        ("net.ipv6.conf.all.forwarding", "1"),
    )


def _port(host: Host) -> str:
    """The switch's end of a host's link; 15 characters are what the kernel allows."""
    return host.role if host.role.startswith("server") else f"{host.role}-{host.segment[0]}"
