"""Whether the addresses of services are where they belong, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from kernlb.doctor.balancer.used import ALL_ONES, around, used_interfaces
from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.host import Listeners
from kernlb.doctor.network import LOOPBACK, Claims, Network, Ways
from kernlb.doctor.ops import AddAddress, Op, RemoveAddress
from kernlb.doctor.services import Declared, names
from kernlb.model import AddressKey, DatapathKind, Forwarding, IPAddress


def _missing(facts: Facts) -> Iterator[Finding]:
    """IPVS takes packets for addresses of this host only; XDP takes them before that matters."""
    network = facts[Network]
    for vip, services in facts[Declared].vips.items():
        interface = next((each.vip_interface for each in services if each.vip_interface), None)
        needed = interface or any(each.datapath is DatapathKind.IPVS for each in services)
        if not needed or network.is_local(vip) or all(each.withdrawn for each in services):
            continue
        evidence = f"no interface has it and no route takes it in; it is of {names(services)}"
        place = interface or "INTERFACE"
        remedy = (f"ip addr add {vip}/{ALL_ONES[vip.version]} dev {place}",)
        fix: tuple[Op, ...] = ()
        if interface is not None and network.link(interface) is not None:
            fix = (AddAddress(alone(vip), interface),)
        yield Finding(str(vip), evidence, remedy, fix)


def alone(vip: IPAddress) -> IPv4Interface | IPv6Interface:
    """As /32 or /128: on an interface, and no network with it."""
    return ip_interface(f"{vip}/{ALL_ONES[vip.version]}")


def _elsewhere(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for vip, services in facts[Declared].vips.items():
        wanted = {each.vip_interface for each in services if each.vip_interface}
        held = {each.interface for each in network.holding(vip)}
        if wanted and held and not held & wanted:
            place, there = sorted(wanted)[0], network.holding(vip)[0]
            evidence = (
                f"it is on {', '.join(sorted(held))}, and {names(services)} want it on {place}"
            )
            ops = (AddAddress(alone(vip), place), RemoveAddress(there.address, there.interface))
            fix = ops if network.link(place) is not None else ()
            yield Finding(str(vip), evidence, tuple(map(str, ops)), fix)


def _whole_network(facts: Facts) -> Iterator[Finding]:
    """Of IPv4: an address on lo with a prefix makes all of its network local (fib_frontend.c,
    fib_add_ifaddr(): RTN_LOCAL where the device is a loopback)."""
    network = facts[Network]
    for vip, services in facts[Declared].vips.items():
        for held in network.holding(vip):
            if (
                held.interface == LOOPBACK
                and vip.version == 4
                and held.address.network.prefixlen < 32
            ):
                evidence = f"{held}: all of {held.address.network} is taken for this host"
                ops = (RemoveAddress(held.address, LOOPBACK), AddAddress(alone(vip), LOOPBACK))
                yield Finding(f"{vip} of {names(services)}", evidence, fix=ops)


def _prefix(facts: Facts) -> Iterator[Finding]:
    """Beside an address of the host's own; alone, it is the host's own."""
    network = facts[Network]
    for vip, services in facts[Declared].vips.items():
        for held in network.holding(vip):
            beside = [
                other
                for other in network.addresses
                if other.interface == held.interface
                and other.address.version == vip.version
                and other.scope == 0
                and other.ip not in facts[Declared].vips
            ]
            short = held.address.network.prefixlen < ALL_ONES[vip.version]
            if short and beside and held.interface != LOOPBACK:
                evidence = f"{held}, beside {beside[0].address}"
                remedy = f"ip addr add {alone(vip)} dev {held.interface}"
                removal = f"ip addr del {held.address} dev {held.interface}"
                yield Finding(f"{vip} of {names(services)}", evidence, (removal, remedy))


def _claimed(facts: Facts, by_server: bool) -> Iterator[Finding]:
    network, declared = facts[Network], facts[Declared]
    servers = {server.address for _, server in declared.pairs()}
    macs = {each.mac: each.address for each in network.neighbours if each.address in servers}
    for vip, mac, interface in facts[Claims].all:
        if not network.is_local(vip) and not by_server:
            continue  # somebody has to have it: the other balancer is at work
        services = names(declared.vips.get(vip, []))
        if by_server and mac in macs:
            evidence = f"real server {macs[mac]} ({mac}) answers ARP for {vip} on {interface}"
            yield Finding(f"{vip} of {services}", evidence)
        elif not by_server and mac not in macs:
            evidence = f"{mac} on {interface} answers ARP for {vip}, which is on this host as well"
            yield Finding(f"{vip} of {services}", evidence, ("ip addr del VIP there, or here",))


def _duplicate(facts: Facts) -> Iterator[Finding]:
    declared, used = facts[Declared], used_interfaces(facts)
    for held in facts[Network].addresses:
        if held.duplicate and (held.ip in declared.vips or held.interface in used):
            remedy = f"find its other holder, then: ip addr del {held.address} dev {held.interface}"
            evidence = f"{held} has failed the search for duplicates (dadfailed)"
            yield Finding(str(held.ip), evidence, (remedy,))


def _down(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for vip, services in facts[Declared].vips.items():
        places = {each.interface for each in (*network.holding(vip), *around(network, vip))}
        wanted = {each.vip_interface for each in services if each.vip_interface}
        for name in sorted(places | wanted):
            link = network.link(name)
            if link is None or (link.up and link.carrier) or name == LOOPBACK:
                continue
            what = "is switched off" if not link.up else "has no carrier"
            remedy = f"ip link set {name} up" if not link.up else f"look at the cable of {name}"
            yield Finding(name, f"{name} {what}; {vip} of {names(services)} is there", (remedy,))


def _listener(facts: Facts, exactly: bool) -> Iterator[Finding]:
    for service in facts[Declared].services:
        if not isinstance(service.key, AddressKey) or not service.key.port:
            continue
        key = service.key
        for socket in facts[Listeners].all:
            if not socket.takes(str(key.protocol), key.address, key.port):
                continue
            if exactly == (socket.address == key.address):
                remedy = f"ss -lnp 'sport = :{key.port}' names it; have it listen elsewhere"
                evidence = f"a process here listens on {socket}"
                yield Finding(f"{key} of service {service.name}", evidence, (remedy,))


def _source(facts: Facts) -> Iterator[Finding]:
    """A server that has the VIP itself answers to itself."""
    declared = facts[Declared]
    ways = facts[Ways].to
    seen = set()
    for _, server in declared.pairs(Forwarding.DSR, Forwarding.TUNNEL):
        way = ways.get(server.address)
        if way is None or way.source not in declared.vips or way.source is None:
            continue
        if (where := (way.interface, way.source)) not in seen:
            seen.add(where)
            evidence = f"the route to {way.to} has source {way.source} (ip route get {way.to})"
            remedy = f"ip route change NETWORK dev {way.interface} src ADDRESS-OF-THIS-HOST"
            yield Finding(str(way.source), evidence, (remedy,))


CHECKS = (
    Check(
        id="vip-missing",
        severity=Severity.ERROR,
        means="The address of a service is not on this host.",
        why="IPVS takes packets to addresses of this host only: others are routed on or refused, "
        "and no client gets through.",
        remedy="ip addr add VIP/32 dev INTERFACE",
        find=_missing,
    ),
    Check(
        id="vip-elsewhere",
        severity=Severity.WARNING,
        means="The address of a service is on another interface than declared.",
        why="Announcements leave by the declared one, and who answers ARP depends on where it is.",
        remedy="ip addr add VIP/32 dev DECLARED; ip addr del VIP/PREFIX dev OTHER",
        find=_elsewhere,
    ),
    Check(
        id="vip-network-on-lo",
        severity=Severity.ERROR,
        means="The address of a service is on lo with a whole network.",
        why="On lo, a prefix shorter than /32 makes every address of that network local: this "
        "host can reach none of its neighbours there any more.",
        remedy="ip addr del VIP/PREFIX dev lo; ip addr add VIP/32 dev lo",
        find=_whole_network,
    ),
    Check(
        id="vip-prefix",
        severity=Severity.WARNING,
        means="The address of a service is not a /32 (/128) beside the host's own.",
        why="It brings a route to its network along, and with it the choice of a source address: "
        "probes and the host's own connections come and go with the VIP.",
        remedy="ip addr del VIP/PREFIX dev INTERFACE; ip addr add VIP/32 dev INTERFACE",
        find=_prefix,
    ),
    Check(
        id="vip-claimed",
        severity=Severity.ERROR,
        means="Another host answers ARP for an address that is on this one.",
        why="Clients go to whoever answered last: half of the connections fail, and which half "
        "changes by the minute.",
        remedy="ip addr del VIP/PREFIX dev INTERFACE, on the host that must not have it",
        find=lambda facts: _claimed(facts, by_server=False),
    ),
    Check(
        id="vip-answered-by-server",
        severity=Severity.ERROR,
        means="A real server answers ARP for the address of a service.",
        why="It takes all the traffic of those who heard it, past the balancer: one server is "
        "overloaded, and its failure is everybody's.",
        remedy="sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 "
        "(on the server; kernlb realserver setup does it)",
        find=lambda facts: _claimed(facts, by_server=True),
    ),
    Check(
        id="address-duplicate",
        severity=Severity.ERROR,
        means="An IPv6 address has failed the search for duplicates.",
        why="The kernel keeps it and does not use it: nothing is sent from it or taken for it.",
        remedy="ip addr del ADDRESS dev INTERFACE, on one of its holders",
        find=_duplicate,
    ),
    Check(
        id="vip-interface-down",
        severity=Severity.ERROR,
        means="The interface of a service's address is down.",
        why="No client on its link can reach the address.",
        remedy="ip link set INTERFACE up",
        find=_down,
    ),
    Check(
        id="vip-listener",
        severity=Severity.WARNING,
        means="A process on the balancer listens at the very address and port of a service.",
        why="It gets nothing while the balancer works, and answers in place of the servers as "
        "soon as it does not: an outage that looks like success.",
        remedy="ss -lnp 'sport = :PORT'",
        find=lambda facts: _listener(facts, exactly=True),
    ),
    Check(
        id="port-listener",
        severity=Severity.NOTE,
        means="A process on the balancer listens at a service's port on every address.",
        why="At the address of the service it gets nothing while the balancer works, and answers "
        "in place of the servers when it does not.",
        remedy="ss -lnp 'sport = :PORT'",
        find=lambda facts: _listener(facts, exactly=False),
    ),
    Check(
        id="source-is-vip",
        severity=Severity.ERROR,
        means="This host talks to servers from the address of a service.",
        why="Servers of dsr and tunnel have that address too, so they answer to themselves: "
        "probes fail, and servers are taken out that are well.",
        remedy="ip route change NETWORK dev INTERFACE src ADDRESS-OF-THIS-HOST",
        find=_source,
    ),
)
