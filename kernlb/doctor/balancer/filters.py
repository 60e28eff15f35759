"""What the packet filter does to the packets that IPVS handles. XDP is before it, and unharmed.

A client's packet meets prerouting and input up to priority 97: IPVS takes it at 98 (ip_vs_core.c,
ip_vs_ops4: NF_IP_PRI_NAT_SRC - 2). A nat server's answer meets prerouting and forward up to 98.
What IPVS sends to a server meets output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.netfilter import Fate, Packet, Ruleset, letting
from kernlb.doctor.network import Ways
from kernlb.doctor.services import Declared, Service
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Forwarding,
    FwmarkKey,
    RealServer,
    TunnelType,
)

_IN, _BEFORE_IPVS = ("prerouting", "input"), 98
_BACK, _BEFORE_REPLY = ("prerouting", "forward"), 99
_OUT = ("output", "postrouting")
_TUNNEL_L4 = {TunnelType.IPIP: "ipip", TunnelType.GUE: "udp", TunnelType.GRE: "gre"}
_CONNTRACK, _LOOSE = "net/ipv4/vs/conntrack", "net/netfilter/nf_conntrack_tcp_loose"


def _services(facts: Facts) -> Iterator[tuple[Service, AddressKey]]:
    for service in facts[Declared].of(DatapathKind.IPVS):
        if isinstance(service.key, AddressKey):
            yield service, service.key


def _request(key: AddressKey, state: str) -> Packet:
    return Packet(key.address, l4=str(key.protocol), dport=key.port or None, state=state)


def _reply(facts: Facts, server: RealServer, key: AddressKey, state: str) -> Packet:
    """To a client that is not known: of its family, from documentation's addresses."""
    way = facts[Ways].to.get(server.address)
    client = type(server.address)("203.0.113.99" if server.address.version == 4 else "2001:db8::99")
    return Packet(
        client,
        server.address,
        str(key.protocol),
        sport=server.port or None,
        state=state,
        iif=way.interface if way else None,
    )


def _drops_requests(facts: Facts) -> Iterator[Finding]:
    rules = facts[Ruleset]
    for service, key in _services(facts):
        if (fate := rules.drops(_IN, _request(key, "new"), _BEFORE_IPVS)) is not None:
            yield _dropped(service, f"a connection to {key}", fate, _request(key, "new"))


def _drops_replies(facts: Facts) -> Iterator[Finding]:
    rules = facts[Ruleset]
    for service, key in _services(facts):
        for server in service.forwards(Forwarding.NAT):
            fates = [
                rules.drops(_BACK, _reply(facts, server, key, state), _BEFORE_REPLY)
                for state in ("established", "new", "invalid")
            ]
            if fates[0] is not None and all(fates):
                packet = _reply(facts, server, key, "established")
                yield _dropped(service, f"an answer of {server.key}", fates[0], packet)
                break


def _drops_forwarded(facts: Facts) -> Iterator[Finding]:
    rules, ways = facts[Ruleset], facts[Ways].to
    for service, key in _services(facts):
        for server in service.servers:
            way = ways.get(server.address)
            fates = [
                rules.drops(_OUT, _sent(server, key, state, way.interface if way else None))
                for state in ("established", "new", "invalid")
            ]
            if fates[0] is not None and all(fates):
                packet = _sent(server, key, "new", None)
                yield _dropped(service, f"what is sent to {server.key}", fates[0], packet)
                break


def _sent(server: RealServer, key: AddressKey, state: str, oif: str | None) -> Packet:
    match server.forwarding:
        case Forwarding.TUNNEL:
            assert server.tunnel is not None
            l4 = _TUNNEL_L4[server.tunnel.type]
            if l4 == "ipip" and key.address.version == 6:
                l4 = "ipv6"
            port = server.tunnel.port or None
            return Packet(server.address, l4=l4, dport=port, state=state, oif=oif)
        case Forwarding.DSR:
            return replace(_request(key, state), oif=oif)
    return Packet(
        server.address, l4=str(key.protocol), dport=server.port or None, state=state, oif=oif
    )


def _dropped(service: Service, what: str, fate: Fate, packet: Packet) -> Finding:
    evidence = f"{what} is dropped by: {fate}"
    return Finding(f"service {service.name}", evidence, (letting(fate, packet),))


def _invalid(facts: Facts) -> Iterator[Finding]:
    """Conntrack sees half of a connection, unless IPVS keeps it informed (vs.conntrack), which it
    can for nat alone. Half a TCP connection is invalid from its second packet on if the first one
    was kept; if it was not, FIN, RST and answers are (nf_conntrack_proto_tcp.c)."""
    rules, informed = facts[Ruleset], bool(facts[Sysctls].number(_CONNTRACK))
    for service, key in _services(facts):
        if informed and all(each.forwarding is Forwarding.NAT for each in service.servers):
            continue
        packet = _request(key, "invalid")
        fate = rules.drops(_IN, packet, _BEFORE_IPVS)
        if fate is not None and rules.drops(_IN, replace(packet, state="new"), _BEFORE_IPVS):
            fate = None  # filter-drops-requests says so already
        for server in service.forwards(Forwarding.NAT) if fate is None and not informed else ():
            reply = _reply(facts, server, key, "invalid")
            if rules.drops(_BACK, replace(reply, state="established"), _BEFORE_REPLY) is None:
                fate, packet = rules.drops(_BACK, reply, _BEFORE_REPLY), reply
                break
        if fate is not None:
            evidence = f"{fate}; net.ipv4.vs.conntrack is {int(informed)}"
            yield Finding(f"service {service.name}", evidence, (letting(fate, packet),))


def _untranslated(facts: Facts) -> Iterator[Finding]:
    rules, ways = facts[Ruleset], facts[Ways].to
    if facts[Sysctls].number(_CONNTRACK) != 0:
        return
    for service, key in _services(facts):
        for server in service.forwards(Forwarding.NAT):
            way = ways.get(server.address)
            packet = _sent(server, key, "new", way.interface if way else None)
            if (fate := rules.translating(packet)) is not None:
                evidence = "net.ipv4.vs.conntrack is 0, and this matches packets to "
                evidence += f"{server.key}: {fate}"
                remedy = "sysctl -w net.ipv4.vs.conntrack=1"
                yield Finding(f"service {service.name}", evidence, (remedy,))
                break


def _unmarked(facts: Facts) -> Iterator[Finding]:
    for service in facts[Declared].of(DatapathKind.IPVS):
        if isinstance(service.key, FwmarkKey) and not facts[Ruleset].sets_mark(service.key.fwmark):
            mark = service.key.fwmark
            remedy = f"nft add rule inet TABLE PREROUTING-CHAIN ... meta mark set {mark}"
            evidence = f"no rule of the packet filter sets mark {mark}"
            yield Finding(f"service {service.name}", evidence, (remedy,))


def _conntrack_fill(facts: Facts, low: float, high: float) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    count = sysctls.number("net/netfilter/nf_conntrack_count")
    most = sysctls.number("net/netfilter/nf_conntrack_max")
    if count and most and low <= count / most < high:
        remedy = f"sysctl -w net.netfilter.nf_conntrack_max={most * 2} (in the host's namespace)"
        yield Finding("conntrack", f"{count} of {most} entries are in use", (remedy,))


CHECKS = (
    Check(
        id="filter-drops-requests",
        severity=Severity.ERROR,
        means="The packet filter drops what clients send to a service.",
        why="IPVS takes packets after the input chains, so they need to be let in as if a process "
        "listened there.",
        remedy="nft insert rule FAMILY TABLE CHAIN ip daddr VIP tcp dport PORT accept",
        find=_drops_requests,
    ),
    Check(
        id="filter-drops-replies",
        severity=Severity.ERROR,
        means="The packet filter drops what nat servers answer.",
        why="Answers come from the server's own address and port and are forwarded, which many "
        "rulesets forbid: clients time out while servers show connections.",
        remedy="nft insert rule FAMILY TABLE CHAIN ip saddr SERVER tcp sport PORT accept",
        find=_drops_replies,
    ),
    Check(
        id="filter-drops-forwarded",
        severity=Severity.ERROR,
        means="The packet filter drops what IPVS sends to a server.",
        why="These packets leave by the output chains, tunnels as IP protocol 4, 41, 47 or UDP.",
        remedy="nft insert rule FAMILY TABLE CHAIN ip daddr SERVER accept",
        find=_drops_forwarded,
    ),
    Check(
        id="ct-invalid-drop",
        severity=Severity.ERROR,
        means="Packets of a service that conntrack calls invalid are dropped.",
        why="Of dsr and tunnel conntrack sees one direction only, and of nat nothing unless "
        "net.ipv4.vs.conntrack is 1: sound packets are invalid to it, and connections hang, "
        "or never end.",
        remedy="nft insert rule FAMILY TABLE CHAIN ip daddr VIP accept",
        find=_invalid,
    ),
    Check(
        id="snat-without-conntrack",
        severity=Severity.WARNING,
        means="A source NAT rule matches packets to servers and has no effect.",
        why="IPVS hides its packets from conntrack, and so from NAT rules, unless "
        "net.ipv4.vs.conntrack is 1: servers see clients' addresses and answer past the balancer.",
        remedy="sysctl -w net.ipv4.vs.conntrack=1, or take the rule away",
        find=_untranslated,
    ),
    Check(
        id="fwmark-never-set",
        severity=Severity.ERROR,
        means="No rule of the packet filter sets the mark of a service.",
        why="A service of a firewall mark gets the packets that bear it, and none does.",
        remedy="nft add rule inet TABLE CHAIN ip daddr VIP meta mark set MARK",
        find=_unmarked,
    ),
    Check(
        id="conntrack-full",
        severity=Severity.ERROR,
        means="The table of conntrack is full.",
        why="New connections are dropped, of services and of everything else, when there is no "
        "room (nf_conntrack: table full, dropping packet).",
        remedy="sysctl -w net.netfilter.nf_conntrack_max=NUMBER",
        find=lambda facts: _conntrack_fill(facts, 0.95, 1e9),
    ),
    Check(
        id="conntrack-filling",
        severity=Severity.WARNING,
        means="The table of conntrack is filling up.",
        why="When it is full, new connections are dropped.",
        remedy="sysctl -w net.netfilter.nf_conntrack_max=NUMBER",
        find=lambda facts: _conntrack_fill(facts, 0.75, 0.95),
    ),
)
