"""Whether this server keeps quiet about its VIPs on the Ethernet."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.network import LOOPBACK, Network
from kernlb.doctor.ops import SetSysctl, written
from kernlb.doctor.server import guards
from kernlb.doctor.server.role import Role, talkative
from kernlb.doctor.sysctls import Sysctls, conf_name
from kernlb.model import IPAddress

_QUIET = (1, 2)  # arp_ignore: only for addresses of the interface that was asked on
_ANNOUNCE = 2  # arp_announce: ask from an address of the interface


def _kept(facts: Facts, guarded: frozenset[IPAddress]) -> tuple[IPAddress, ...]:
    """VIPs that the kernel's own settings have to keep quiet about. On an interface that answers
    for them they are another finding."""
    network = facts[Network]
    answering = {link.name for link in talkative(network)}
    return tuple(
        vip
        for vip in facts[Role].of(4)
        if vip not in guarded
        if not any(held.interface in answering for held in network.holding(vip))
    )


def _answers(facts: Facts) -> Iterator[Finding]:
    role, sysctls, network = facts[Role], facts[Sysctls], facts[Network]
    kept = _kept(facts, guards.unanswered(facts, role.of(4)))
    for link in talkative(network):
        vips = [v for v in kept if not role.wish.tunnelled or _asked_for(v, link.name, network)]
        value, name = sysctls.larger(link.name, "arp_ignore")
        if vips and value not in _QUIET:
            evidence = f"{written(name)} is {value}: it answers for {_some(vips)}"
            names = [conf_name(4, each, "arp_ignore") for each in (link.name, "all")]
            wrong = [n for n in names if (sysctls.number(n) or 0) not in (0, *_QUIET)]
            if (sysctls.number(names[1]) or 0) not in _QUIET:
                wrong.append(names[1])
            fix = tuple(SetSysctl(name, "1") for name in dict.fromkeys(wrong))
            yield Finding(link.name, evidence, fix=fix)


def _asked_for(vip: IPAddress, interface: str, network: Network) -> bool:
    """Is the VIP in the interface's own network, so that neighbours ask for it by ARP?"""
    return any(
        vip in held.address.network for held in network.addresses if held.interface == interface
    )


def _announces(facts: Facts) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    vips = _kept(facts, guards.unsaid(facts, facts[Role].of(4)))
    for link in talkative(facts[Network]):
        value, name = sysctls.larger(link.name, "arp_announce")
        if vips and value < _ANNOUNCE:
            evidence = f"{written(name)} is {value}: it may ask as {_some(vips)}"
            yield Finding(link.name, evidence, fix=(_set("arp_announce", "2"),))


def _proxies(facts: Facts) -> Iterator[Finding]:
    sysctls = facts[Sysctls]
    if not facts[Role].of(4):
        return
    for link in talkative(facts[Network]):
        value, name = sysctls.larger(link.name, "proxy_arp")
        if value:
            fix = sysctls.lower(link.name, "proxy_arp", 0)
            yield Finding(link.name, f"{written(name)} is {value}", fix=fix)


def _set(key: str, value: str) -> SetSysctl:
    return SetSysctl(conf_name(4, "all", key), value)


def _some(vips: list[IPAddress] | tuple[IPAddress, ...]) -> str:
    more = f" and {len(vips) - 2} more" if len(vips) > 2 else ""
    return ", ".join(map(str, vips[:2])) + more


CHECKS = (
    Check(
        id="arp-answers-vip",
        severity=Severity.ERROR,
        means="This server answers ARP for a VIP.",
        why="Whoever asks for the VIP may learn this server's address instead of the balancer's: "
        "one server gets all the clients, and the balancer counts no connection. The larger of "
        f"the interface's and conf.all's arp_ignore counts, on {LOOPBACK} none does.",
        remedy="sysctl -w net.ipv4.conf.all.arp_ignore=1",
        find=_answers,
    ),
    Check(
        id="arp-announces-vip",
        severity=Severity.ERROR,
        means="ARP requests of this server may carry a VIP as their sender.",
        why="Those who hear such a request put this server's Ethernet address down for the VIP, "
        "minutes after everything worked; and routers may leave it unanswered.",
        remedy="sysctl -w net.ipv4.conf.all.arp_announce=2",
        find=_announces,
    ),
    Check(
        id="proxy-arp-on-server",
        severity=Severity.WARNING,
        means="This server answers ARP for addresses that it would forward to.",
        why="Also for those of VIPs and neighbours, if its routes lead there: they become "
        "unreachable for others now and then.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.proxy_arp=0",
        find=_proxies,
    ),
)
