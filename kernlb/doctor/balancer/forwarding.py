"""Whether this host passes on what servers send back, and does not meddle with it."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.balancer.used import (
    around,
    towards_clients,
    towards_servers,
    used_interfaces,
)
from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.host import Counters
from kernlb.doctor.network import LOOPBACK, Network, Ways
from kernlb.doctor.ops import SetSysctl, written
from kernlb.doctor.services import Declared, names
from kernlb.doctor.sysctls import Sysctls, conf_name
from kernlb.model import DatapathKind, Forwarding, IPAddress

_SWITCHES = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def _forward_off(facts: Facts, version: int) -> Iterator[Finding]:
    """Of IPVS alone: XDP passes packets on itself."""
    pairs = facts[Declared].pairs(Forwarding.NAT, datapath=DatapathKind.IPVS)
    services = [service for service, server in pairs if server.address.version == version]
    switch, sysctls = _SWITCHES[version], facts[Sysctls]
    if services and sysctls.number(switch) == 0:
        evidence = f"{sysctls.seen(switch)}, and {names(services)} by nat"
        yield Finding(f"IPv{version}", evidence, fix=(SetSysctl(switch, "1"),))


def _nat_servers(facts: Facts) -> set[IPAddress]:
    pairs = facts[Declared].pairs(Forwarding.NAT, datapath=DatapathKind.IPVS)
    return {server.address for _, server in pairs}


def _interface_forwarding_off(facts: Facts) -> Iterator[Finding]:
    """net.ipv4.ip_forward sets it for all; somebody may have set one back."""
    sysctls, nat = facts[Sysctls], _nat_servers(facts)
    for interface, ways in towards_servers(facts).items():
        for version in (4, 6):
            name = conf_name(version, interface, "forwarding")
            servers = [way.to for way in ways if way.to in nat and way.to.version == version]
            if servers and sysctls.number(_SWITCHES[version]) and sysctls.number(name) == 0:
                evidence = f"{sysctls.seen(name)}, and nat server {servers[0]} is there"
                yield Finding(interface, evidence, fix=(SetSysctl(name, "1"),))


def _redirects(facts: Facts) -> Iterator[Finding]:
    sysctls, network, ways = facts[Sysctls], facts[Network], facts[Ways].to
    seen = set()
    for service, server in facts[Declared].pairs(Forwarding.NAT, datapath=DatapathKind.IPVS):
        way = ways.get(server.address)
        if way is None or way.to.version != 4 or way.interface in seen:
            continue
        value, name = sysctls.larger(way.interface, "send_redirects")
        if value and way.interface in towards_clients(network, service.vip):
            seen.add(way.interface)
            evidence = f"{sysctls.seen(name)}; clients and nat servers are both on {way.interface}"
            fix = sysctls.lower(way.interface, "send_redirects", 0)
            yield Finding(way.interface, evidence, fix=fix)


def _reverse_path(facts: Facts) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    dropped = facts[Counters].values.get("IPReversePathFilter", 0)
    if not dropped:
        return
    for interface in sorted(used_interfaces(facts)):
        value, name = sysctls.larger(interface, "rp_filter")
        if value == 1:
            evidence = f"{sysctls.seen(name)}, and {dropped} packets were dropped by it since boot"
            yield Finding(
                interface, evidence, (f"sysctl -w {written(name)}=2",), _loosen(interface)
            )


def _loosen(interface: str) -> tuple[SetSysctl, ...]:
    """2 on the interface wins, as the larger counts."""
    return (SetSysctl(conf_name(4, interface, "rp_filter"), "2"),)


def _proxy_arp(facts: Facts) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    for interface in sorted(used_interfaces(facts) - {LOOPBACK}):
        value, name = sysctls.larger(interface, "proxy_arp")
        if value:
            fix = sysctls.lower(interface, "proxy_arp", 0)
            yield Finding(interface, sysctls.seen(name), fix=fix)


def _proxy_ndp(facts: Facts) -> Iterator[Finding]:
    """Harmless without entries (`ip -6 neigh add proxy`), hence a note."""
    sysctls = facts[Sysctls]
    for interface in sorted(used_interfaces(facts) - {LOOPBACK}):
        name = conf_name(6, interface, "proxy_ndp")
        if sysctls.number(name):
            yield Finding(interface, sysctls.seen(name), fix=(SetSysctl(name, "0"),))


def _silent(facts: Facts) -> Iterator[Finding]:
    """A VIP on lo is answered for on every interface, unless arp_ignore says no."""
    sysctls, network = facts[Sysctls], facts[Network]
    for vip, services in facts[Declared].vips.items():
        held = {each.interface for each in network.holding(vip)}
        for near in around(network, vip):
            if not held or near.interface in held or vip.version != 4:
                continue
            value, name = sysctls.larger(near.interface, "arp_ignore")
            if value:
                evidence = (
                    f"{sysctls.seen(name)}; {vip} of {names(services)} is on "
                    f"{', '.join(sorted(held))} and asked for on {near.interface}"
                )
                fix = sysctls.lower(near.interface, "arp_ignore", 0)
                yield Finding(near.interface, evidence, fix=fix)
                break


def _noarp(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for interface in sorted(used_interfaces(facts)):
        link = network.link(interface)
        if link is not None and link.ethernet and not link.answers_arp:
            command = f"ip link set {interface} arp on"
            yield Finding(interface, "its flags have NOARP", (command,))


_NAT_WHY = (
    "Answers of nat servers come back through the balancer, which drops them unless it forwards: "
    "clients time out while servers show connections."
)

CHECKS = (
    Check(
        id="ip-forward-off",
        severity=Severity.ERROR,
        means="IPv4 forwarding is off on a balancer that forwards by nat.",
        why=_NAT_WHY,
        remedy="sysctl -w net.ipv4.ip_forward=1",
        find=lambda facts: _forward_off(facts, 4),
    ),
    Check(
        id="ip6-forward-off",
        severity=Severity.ERROR,
        means="IPv6 forwarding is off on a balancer that forwards by nat.",
        why=_NAT_WHY,
        remedy="sysctl -w net.ipv6.conf.all.forwarding=1",
        find=lambda facts: _forward_off(facts, 6),
    ),
    Check(
        id="interface-forwarding-off",
        severity=Severity.ERROR,
        means="Forwarding is off on the interface that nat servers answer to.",
        why="The interface's own switch counts for what comes in there, whatever ip_forward says.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.forwarding=1",
        find=_interface_forwarding_off,
    ),
    Check(
        id="send-redirects",
        severity=Severity.WARNING,
        means="ICMP redirects are sent to nat servers on the interface of the clients.",
        why="A redirect tells the server to send to the client directly, past the balancer, which "
        "alone can undo nat: connections break some time after they worked.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.send_redirects=0, and the same of conf.all",
        find=_redirects,
    ),
    Check(
        id="rp-filter-drops",
        severity=Severity.WARNING,
        means="The strict reverse path filter is on, and has dropped packets.",
        why="It drops what comes in by another interface than answers would leave by, without a "
        "word; with several ways to clients or servers that is normal traffic.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.rp_filter=2",
        find=_reverse_path,
    ),
    Check(
        id="proxy-arp",
        severity=Severity.WARNING,
        means="The balancer answers ARP for addresses of others.",
        why="With proxy_arp it claims every address that it has a route to: servers, routers and "
        "the other balancer lose packets to it.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.proxy_arp=0, and the same of conf.all",
        find=_proxy_arp,
    ),
    Check(
        id="proxy-ndp",
        severity=Severity.NOTE,
        means="The balancer may answer neighbour solicitations for addresses of others.",
        why="It does so for those that are listed by `ip -6 neigh show proxy`; a balancer needs "
        "none of them.",
        remedy="sysctl -w net.ipv6.conf.INTERFACE.proxy_ndp=0",
        find=_proxy_ndp,
    ),
    Check(
        id="arp-ignore-on-balancer",
        severity=Severity.ERROR,
        means="The balancer does not answer ARP for an address of a service.",
        why="arp_ignore belongs on real servers. Here it leaves the address, which is on another "
        "interface, without anybody who answers for it: no client gets through.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.arp_ignore=0, and the same of conf.all",
        find=_silent,
    ),
    Check(
        id="interface-noarp",
        severity=Severity.ERROR,
        means="An interface neither asks nor answers ARP.",
        why="Neither clients nor servers on its link find the balancer, and the balancer finds "
        "none of them.",
        remedy="ip link set INTERFACE arp on",
        find=_noarp,
    ),
)
