"""Whether the VIPs are on this host, where they belong, and usable."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.network import LOOPBACK, Held, Network
from kernlb.doctor.ops import AddAddress, RemoveAddress, SetSysctl, SetUp
from kernlb.doctor.server.role import Kept, Role, talkative
from kernlb.doctor.sysctls import Sysctls, conf_name
from kernlb.model import IPAddress


def _on_lo(vip: IPAddress) -> AddAddress:
    return AddAddress(_alone(vip), LOOPBACK)


def _alone(vip: IPAddress) -> IPv4Interface | IPv6Interface:
    return ip_interface(f"{vip}/{vip.max_prefixlen}")


def _missing(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for vip in facts[Role].holds:
        if not network.is_local(vip):
            yield Finding(str(vip), "it is on no interface", fix=(_on_lo(vip),))


def _elsewhere(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    answering = {link.name for link in talkative(network)}
    for vip in facts[Role].holds:
        for held in network.holding(vip):
            if held.interface in answering:
                evidence = f"{held}, which answers ARP and neighbour discovery for it"
                yield Finding(str(vip), evidence, *_moved(held, network))


def _moved(
    held: Held, network: Network
) -> tuple[tuple[str, ...], tuple[AddAddress | RemoveAddress, ...]]:
    """By ops, unless that would take other addresses or the only one away."""
    removal = RemoveAddress(held.address, held.interface)
    others = [
        each
        for each in network.addresses
        if each.interface == held.interface and each.ip.version == held.ip.version
        if each.ip != held.ip and not each.ip.is_link_local
    ]
    # a network's route goes with its address, and in IPv4 perhaps the addresses after it
    if not others or held.address.network.prefixlen != held.ip.max_prefixlen:
        return (str(_on_lo(held.ip)), str(removal)), ()
    return (), (_on_lo(held.ip), removal)


def _wide(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for vip in facts[Role].holds:
        for held in network.holding(vip):
            if held.interface == LOOPBACK and held.address.network.prefixlen < vip.max_prefixlen:
                evidence = f"{held}: all of {held.address.network} is this host then"
                fix = (_on_lo(vip), RemoveAddress(held.address, LOOPBACK))
                # IPv6 has an address once, whatever its prefix
                yield Finding(str(vip), evidence, fix=fix if vip.version == 4 else fix[::-1])


def _unusable(facts: Facts, duplicate: bool) -> Iterator[Finding]:
    network = facts[Network]
    for vip in facts[Role].of(6):
        for held in network.holding(vip):
            if held.duplicate if duplicate else held.tentative and not held.duplicate:
                evidence = f"{held} is {'a duplicate' if duplicate else 'tentative'}"
                fix = (RemoveAddress(held.address, held.interface), _on_lo(vip))
                yield Finding(str(vip), evidence, fix=fix)


def _lo_down(facts: Facts) -> Iterator[Finding]:
    lo = facts[Network].link(LOOPBACK)
    if facts[Role].holds and lo is not None and not lo.up:
        yield Finding(LOOPBACK, "it is down", fix=(SetUp(LOOPBACK),))


def _interface_down(facts: Facts) -> Iterator[Finding]:
    link = facts[Network].link(facts[Role].interface)
    if link is not None and not link.up:
        yield Finding(link.name, "it is down", fix=(SetUp(link.name),))
    elif link is not None and not link.carrier:
        yield Finding(link.name, "it has no carrier", ("look for the cable, or the other end",))


def _no_ipv6(facts: Facts) -> Iterator[Finding]:
    if facts[Role].of(6):
        for interface in (LOOPBACK, facts[Role].interface):
            name = conf_name(6, interface, "disable_ipv6")
            if facts[Sysctls].number(name) == 1:
                evidence = facts[Sysctls].seen(name)
                yield Finding(interface, evidence, fix=(SetSysctl(name, "0"),))


def _stale(facts: Facts) -> Iterator[Finding]:
    for words in facts[Kept].stale:
        yield Finding("setup", words, ("kernlb realserver setup --from-state",))


def _forgotten(facts: Facts) -> Iterator[Finding]:
    if not facts[Kept].at_boot:
        evidence = "kernlb-realserver.service is not there, or not enabled"
        yield Finding("setup", evidence, ("kernlb realserver setup --from-state",))


# What has to be mended first comes first.
CHECKS = (
    Check(
        id="loopback-down",
        severity=Severity.ERROR,
        means="lo is down, and the VIPs on it do not work.",
        why="Addresses of an interface that is down are not local to the kernel.",
        remedy="ip link set lo up",
        find=_lo_down,
    ),
    Check(
        id="server-interface-down",
        severity=Severity.ERROR,
        means="The interface towards the balancer is down or has no carrier.",
        why="Nothing reaches this server.",
        remedy="ip link set INTERFACE up",
        find=_interface_down,
    ),
    Check(
        id="ipv6-disabled",
        severity=Severity.ERROR,
        means="IPv6 is disabled where an IPv6 VIP needs it.",
        why="The interface takes no IPv6 packets, and lo holds no IPv6 address.",
        remedy="sysctl -w net.ipv6.conf.INTERFACE.disable_ipv6=0",
        find=_no_ipv6,
    ),
    Check(
        id="vip-missing-on-server",
        severity=Severity.ERROR,
        means="A VIP is not on this server.",
        why="With dsr and tunnel the client's packet arrives with the VIP as its destination; a "
        "server that has no such address drops it, or forwards it back.",
        remedy="ip addr add VIP/32 dev lo",
        find=_missing,
    ),
    Check(
        id="vip-on-wrong-interface",
        severity=Severity.ERROR,
        means="A VIP is on an interface that tells the network of it.",
        why="The server answers ARP (or neighbour discovery) for the VIP and takes clients past "
        "the balancer, whatever arp_ignore says. On lo nobody is told.",
        remedy="ip addr add VIP/32 dev lo; ip addr del VIP/PREFIX dev INTERFACE",
        find=_elsewhere,
    ),
    Check(
        id="vip-prefix-too-wide",
        severity=Severity.ERROR,
        means="A VIP is on lo with a network around it.",
        why="Every address of a network on lo counts as this host's own: the server can no longer "
        "reach its neighbours there, and answers in their place.",
        remedy="ip addr add VIP/32 dev lo; ip addr del VIP/PREFIX dev lo",
        find=_wide,
    ),
    Check(
        id="vip-duplicate",
        severity=Severity.ERROR,
        means="An IPv6 VIP failed duplicate address detection.",
        why="The balancer or another server answered for it, as it must; the kernel does not use "
        "an address in this state.",
        remedy="ip addr del VIP/128 dev INTERFACE; ip addr add VIP/128 dev lo nodad",
        find=lambda facts: _unusable(facts, duplicate=True),
    ),
    Check(
        id="vip-tentative",
        severity=Severity.WARNING,
        means="An IPv6 VIP still waits for duplicate address detection.",
        why="Until that ends the kernel takes no packets for the address, and it may end badly, "
        "since others have the address too.",
        remedy="ip addr del VIP/128 dev INTERFACE; ip addr add VIP/128 dev lo nodad",
        find=lambda facts: _unusable(facts, duplicate=False),
    ),
    Check(
        id="setup-undone",
        severity=Severity.WARNING,
        means="Something that `kernlb realserver setup` set is not so any more.",
        why="Somebody or something (a reboot without the unit, another tool) changed it back.",
        remedy="kernlb realserver setup --from-state",
        find=_stale,
    ),
    Check(
        id="setup-not-kept",
        severity=Severity.WARNING,
        means="This server is set up and will not be after a reboot.",
        why="The unit of systemd that does it again at boot is gone or not enabled.",
        remedy="kernlb realserver setup --from-state",
        find=_forgotten,
    ),
)
