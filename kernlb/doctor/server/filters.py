"""Whether the packet filter of this server lets clients, tunnels and answers pass."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.netfilter import Packet, Ruleset
from kernlb.doctor.network import Network
from kernlb.doctor.server.role import Role
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import IPAddress
from kernlb.realserver.tunnels import TUNNEL_DEVICES
from kernlb.realserver.wish import Tunnel

_IN, _OUT = ("prerouting", "input"), ("output", "postrouting")
_LOOSE = "net/netfilter/nf_conntrack_tcp_loose"


def _arriving(facts: Facts) -> Iterator[Packet]:
    """The first packet of a client to each service, as the filter sees it. Where a device unpacks
    it, it comes in by that device."""
    role = facts[Role]
    for vip in role.holds:
        device: str | None = role.interface
        if role.by_device:
            kind = "gre" if role.wish.tunnel is Tunnel.GRE else "ipip"
            device = TUNNEL_DEVICES[kind, vip.version, role.wish.outer(vip.version)[0]][1]
        for protocol, port in role.ports or (("tcp", None),):
            yield Packet(vip, l4=protocol, dport=port, state="new", iif=device)


def _drops_clients(facts: Facts) -> Iterator[Finding]:
    for packet in _arriving(facts):
        if fate := facts[Ruleset].drops(_IN, packet):
            yield Finding(_named(packet.daddr, packet.dport), f"dropped by: {fate}")


def _drops_answers(facts: Facts) -> Iterator[Finding]:
    role = facts[Role]
    for vip in role.holds:
        for protocol, port in role.ports or (("tcp", None),):
            # to whom is not known: any client
            somebody = type(vip)("203.0.113.1" if vip.version == 4 else "2001:db8:ffff::1")
            packet = Packet(somebody, vip, l4=protocol, sport=port, state="established")
            if fate := facts[Ruleset].drops(_OUT, packet):
                yield Finding(_named(vip, port), f"dropped by: {fate}")


def _drops_tunnels(facts: Facts) -> Iterator[Finding]:
    role = facts[Role]
    if not role.by_device:
        return  # XDP comes before the filter
    for end in _ends(facts):
        sources = [each for each in role.balancers if each.version == end.version]
        for source in sources or (None,):
            # ipip and gre have no ports: no rule about one is about them
            port = role.wish.port if role.wish.tunnel is Tunnel.GUE else 0
            packet = Packet(end, source, _outer(role, end), port, iif=role.interface)
            if fate := facts[Ruleset].drops(_IN, packet):
                yield Finding(str(end), f"{_outer(role, end)} is dropped by: {fate}")


def _ends(facts: Facts) -> Iterator[IPAddress]:
    role = facts[Role]
    if role.wish.ends:
        yield from role.wish.ends
        return
    for held in facts[Network].addresses:
        here = held.interface == role.interface and not held.ip.is_link_local
        if here and held.ip.version in role.wish.outers:
            yield held.ip


def _outer(role: Role, end: IPAddress) -> str:
    if role.wish.tunnel is Tunnel.GUE:
        return "udp"
    if role.wish.tunnel is Tunnel.GRE:
        return "gre"
    return "ipip" if 4 in role.wish.versions else "ipv6"


def _drops_icmp(facts: Facts) -> Iterator[Finding]:
    for vip in facts[Role].holds:
        protocol = "icmp" if vip.version == 4 else "icmpv6"
        packet = Packet(vip, l4=protocol, state="related")
        if fate := facts[Ruleset].drops(_IN, packet):
            yield Finding(str(vip), f"{protocol} is dropped by: {fate}")


def _drops_strays(facts: Facts) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    for packet in _arriving(facts) if sysctls.number(_LOOSE) == 0 else ():
        stray = Packet(packet.daddr, l4=packet.l4, dport=packet.dport, state="invalid")
        if packet.l4 == "tcp" and (fate := facts[Ruleset].drops(_IN, stray)):
            evidence = f"{sysctls.seen(_LOOSE)}, and dropped by: {fate}"
            yield Finding(_named(packet.daddr, packet.dport), evidence)


def _named(address: IPAddress, port: int | None) -> str:
    return f"{address} port {port}" if port else str(address)


CHECKS = (
    Check(
        id="filter-drops-clients",
        severity=Severity.ERROR,
        means="The packet filter drops packets of clients to a VIP.",
        why="Rules that were written for the server's own address do not cover the VIP, or not "
        "the device that unpacks tunnels: clients time out.",
        remedy="nft add rule inet TABLE input ip daddr VIP tcp dport PORT accept",
        find=_drops_clients,
    ),
    Check(
        id="filter-drops-tunnels",
        severity=Severity.ERROR,
        means="The packet filter drops the balancer's tunnels.",
        why="Tunnels are a protocol of their own (ipip 4, ipv6 41, gre 47; gue is UDP), which "
        "rules for TCP and UDP ports do not let in.",
        remedy="nft add rule inet TABLE input ip saddr BALANCER meta l4proto ipencap accept",
        find=_drops_tunnels,
    ),
    Check(
        id="filter-drops-answers",
        severity=Severity.ERROR,
        means="The packet filter drops answers of a VIP.",
        why="Rules for the server's own address do not let packets from the VIP out.",
        remedy="nft add rule inet TABLE output ip saddr VIP accept",
        find=_drops_answers,
    ),
    Check(
        id="icmp-dropped-on-server",
        severity=Severity.WARNING,
        means="The packet filter drops ICMP errors to a VIP.",
        why='"Fragmentation needed" and "packet too big" never arrive: large answers hang on paths '
        "with a smaller MTU, while small ones work.",
        remedy="nft add rule inet TABLE input ct state related accept",
        find=_drops_icmp,
    ),
    Check(
        id="strays-dropped-on-server",
        severity=Severity.WARNING,
        means="Packets of connections that this server does not know are dropped in silence.",
        why="A client that the balancer hands to another server, after one went away, should get a "
        "reset at once. With nf_conntrack_tcp_loose=0 and a rule against ct state invalid it hangs "
        "until its own timeout.",
        remedy="sysctl -w net.netfilter.nf_conntrack_tcp_loose=1",
        find=_drops_strays,
    ),
)
