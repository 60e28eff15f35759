"""Whether servers can be reached in the way that their forwarding method needs."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.balancer.used import towards_clients
from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.network import Network, Way, Ways
from kernlb.doctor.services import Declared, Service
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import DatapathKind, Forwarding, RealServer, TunnelType

_HEADERS = {TunnelType.IPIP: 0, TunnelType.GUE: 8 + 4, TunnelType.GRE: 4}
_ETHERNET = 1500


def _pairs(facts: Facts, *methods: Forwarding) -> Iterator[tuple[Service, RealServer, Way]]:
    ways = facts[Ways].to
    for service, server in facts[Declared].pairs(*methods):
        if (way := ways.get(server.address)) is not None:
            yield service, server, way


def _about(service: Service, server: RealServer) -> str:
    return f"{server.key} of service {service.name}"


def _no_route(facts: Facts) -> Iterator[Finding]:
    for service, server, way in _pairs(facts):
        if way.kind not in ("unicast", "local"):
            evidence = f"ip route get {way.to}: {way.kind if way.kind != 'none' else 'no route'}"
            remedy = f"ip route add {way.to} via GATEWAY"
            yield Finding(_about(service, server), evidence, (remedy,))


def _dsr_behind_gateway(facts: Facts) -> Iterator[Finding]:
    for service, server, way in _pairs(facts, Forwarding.DSR):
        if way.gateway is not None:
            remedy = f"kernlb server edit {service.name} {server.key} --forwarding tunnel"
            yield Finding(_about(service, server), f"its route is {way}", (remedy,))


def _nat_by_default(facts: Facts) -> Iterator[Finding]:
    for service, server, way in _pairs(facts, Forwarding.NAT):
        if way.by_default and service.datapath is DatapathKind.IPVS:
            remedy = f"ip route add NETWORK-OF-{way.to} via GATEWAY"
            yield Finding(_about(service, server), f"its route is the default: {way}", (remedy,))


def _neighbour(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for service, server, way in _pairs(facts):
        link = network.link(way.interface)
        if way.kind != "unicast" or link is None or not link.ethernet or not link.up:
            continue
        found = network.neighbour(way.interface, way.next_hop)
        if found is not None and found.state in ("failed", "incomplete"):
            hop = f"gateway {way.gateway}" if way.gateway else str(way.to)
            evidence = f"{hop} does not answer on {way.interface} (neighbour is {found.state})"
            remedy = f"ip neigh show {way.next_hop} dev {way.interface}"
            yield Finding(_about(service, server), evidence, (remedy,))


def _no_carrier(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    seen = set()
    for service, server, way in _pairs(facts):
        link = network.link(way.interface)
        if link is not None and not link.carrier and link.name not in seen:
            seen.add(link.name)
            evidence = f"{link.name} has no carrier; {_about(service, server)} is behind it"
            yield Finding(link.name, evidence, (f"look at the cable of {link.name}",))


def _itself(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for service, server in facts[Declared].pairs():
        if network.is_local(server.address):
            held = network.holding(server.address)
            evidence = str(held[0]) if held else "a local route takes it in"
            remedy = f"kernlb server rm {service.name} {server.key}"
            yield Finding(_about(service, server), evidence, (remedy,))


def overhead(server: RealServer) -> int:
    """Bytes that a tunnel adds to a packet."""
    assert server.tunnel is not None
    outer = 20 if server.address.version == 4 else 40
    checksum = 4 if server.tunnel.checksum and server.tunnel.type is TunnelType.GRE else 0
    return outer + _HEADERS[server.tunnel.type] + checksum


def _mtu(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    seen = set()
    for service, server, way in _pairs(facts, Forwarding.TUNNEL):
        link = network.link(way.interface)
        if link is None or way.kind != "unicast":
            continue
        names = towards_clients(network, service.vip) - {way.interface}
        clients = [each for name in names if (each := network.link(name)) is not None]
        incoming = max((each.mtu for each in clients), default=_ETHERNET)
        room = min(way.mtu or link.mtu, link.mtu)
        needed = incoming + overhead(server)
        if room < needed and (way.interface, room, needed) not in seen:
            seen.add((way.interface, room, needed))
            where = f"the route to {way.to}" if way.mtu else link.name
            evidence = (
                f"{where} takes {room} bytes; a packet of {incoming} in its tunnel has {needed}"
            )
            remedy = (
                f"ip link set {link.name} mtu {needed} (switches and servers too)",
                f"or, on the servers: ip route change default via GATEWAY advmss "
                f"{room - overhead(server) - (40 if service.key.family == 'ipv4' else 60)}",
            )
            yield Finding(_about(service, server), evidence, remedy)


def _pmtu_off(facts: Facts) -> Iterator[Finding]:
    sysctls, name = facts[Sysctls], "net/ipv4/vs/pmtu_disc"
    pairs = facts[Declared].pairs(Forwarding.TUNNEL, datapath=DatapathKind.IPVS)
    if next(pairs, None) is not None and sysctls.number(name) == 0:
        yield Finding("IPVS", sysctls.seen(name), ("sysctl -w net.ipv4.vs.pmtu_disc=1",))


CHECKS = (
    Check(
        id="server-no-route",
        severity=Severity.ERROR,
        means="No route goes to a real server.",
        why="Connections that are given to it are refused or lost.",
        remedy="ip route add NETWORK via GATEWAY",
        find=_no_route,
    ),
    Check(
        id="dsr-behind-gateway",
        severity=Severity.ERROR,
        means="A dsr server is behind a gateway.",
        why="dsr leaves the packet's addresses as they are, so a gateway routes it back to the "
        "balancer; the server has to be on a link of the balancer, or behind a tunnel.",
        remedy="kernlb server edit SERVICE SERVER --forwarding tunnel",
        find=_dsr_behind_gateway,
    ),
    Check(
        id="nat-by-default-route",
        severity=Severity.WARNING,
        means="A nat server is reached by the default route.",
        why="Its answers have to come back through this balancer, and what is behind the default "
        "gateway rarely does: as a rule the address is mistyped or a route is missing.",
        remedy="ip route add NETWORK via GATEWAY",
        find=_nat_by_default,
    ),
    Check(
        id="neighbour-unresolved",
        severity=Severity.ERROR,
        means="A server, or the gateway to it, does not answer on its link.",
        why="Without its Ethernet address packets wait and are dropped.",
        remedy="ip neigh show ADDRESS dev INTERFACE",
        find=_neighbour,
    ),
    Check(
        id="server-no-carrier",
        severity=Severity.ERROR,
        means="The interface that leads to servers has no carrier.",
        why="The route is still there, so packets are sent into nowhere.",
        remedy="ip link show INTERFACE",
        find=_no_carrier,
    ),
    Check(
        id="server-is-balancer",
        severity=Severity.WARNING,
        means="A real server is this host itself.",
        why="IPVS then delivers to a process here, and XDP cannot; as a rule the address is "
        "mistyped, or a service has its own VIP among its servers.",
        remedy="kernlb server rm SERVICE SERVER",
        find=_itself,
    ),
    Check(
        id="tunnel-mtu",
        severity=Severity.WARNING,
        means="The way to a tunnel server has no room for the tunnel's header.",
        why="Full packets do not fit. Clients are told to send smaller ones, by ICMP that many "
        "networks filter: then uploads hang while pages load.",
        remedy="ip link set INTERFACE mtu MTU, or advmss on the servers' routes",
        find=_mtu,
    ),
    Check(
        id="pmtu-disc-off",
        severity=Severity.NOTE,
        means="IPVS fragments tunnel packets and tells clients nothing.",
        why="That helps where ICMP is filtered, and costs two packets for each full one.",
        remedy="sysctl -w net.ipv4.vs.pmtu_disc=1",
        find=_pmtu_off,
    ),
)
