"""Whether answers find their way, and nothing on it is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.facts import Facts, UnreadError
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.ops import SetSysctl, written
from kernlb.doctor.server.role import Attached, Counters, Kernel, Role, WaysBack
from kernlb.doctor.sysctls import Sysctls, conf_name
from kernlb.realserver.wish import Method


def _known_balancers(facts: Facts) -> Role:
    role = facts[Role]
    if not role.balancers:
        raise UnreadError("no --balancer was named")
    return role


def _through_balancer(facts: Facts) -> Iterator[Finding]:
    if facts[Role].wish.method is Method.NAT:
        return
    role = _known_balancers(facts)
    for way in facts[WaysBack].all:
        if way.gateway in role.balancers:
            remedy = f"ip route add default via ROUTER dev {way.interface} table 100; "
            remedy += f"ip rule add from {way.source} lookup 100"
            yield Finding(str(way.source), f"{way}: the balancer", (remedy,))


def _past_balancer(facts: Facts) -> Iterator[Finding]:
    if facts[Role].wish.method is not Method.NAT:
        return
    role = _known_balancers(facts)
    for way in facts[WaysBack].all:
        if way.interface and way.gateway not in role.balancers:
            same = [each for each in role.balancers if each.version == way.source.version]
            if same:
                remedy = f"ip route replace default via {same[0]}"
                yield Finding(str(way.source), f"{way}: not the balancer", (remedy,))


def _no_way(facts: Facts) -> Iterator[Finding]:
    for way in facts[WaysBack].all:
        if not way.interface:
            yield Finding(str(way.source), str(way))


def _strict(facts: Facts) -> Iterator[Finding]:
    role, sysctls = facts[Role], facts[Sysctls]
    ways = [way for way in facts[WaysBack].all if way.source.version == 4]
    elsewhere = [way for way in ways if way.interface not in ("", role.interface)]
    value, name = sysctls.larger(role.interface, "rp_filter")
    if elsewhere and value == 1 and not role.by_device:
        evidence = f"{written(name)} is 1, and the way back is {elsewhere[0]}"
        fix = SetSysctl(conf_name(4, role.interface, "rp_filter"), "2")
        yield Finding(role.interface, evidence, fix=(fix,))


def _risen(facts: Facts, counter: str) -> Iterator[str]:
    counters = facts[Counters]
    if more := counters.risen.get(counter):
        yield f"{counter} rose by {more} in {counters.seconds:g} s, to {counters.values[counter]}"


def _reverse_path(facts: Facts) -> Iterator[Finding]:
    for evidence in _risen(facts, "TcpExtIPReversePathFilter"):
        yield Finding("kernel", evidence)


def _unknown_protocol(facts: Facts) -> Iterator[Finding]:
    role = facts[Role]
    if role.wish.tunnelled and not _left_by_decap(facts):
        for evidence in _risen(facts, "IpInUnknownProtos"):
            loaded = ", ".join(sorted(facts[Kernel].modules)) or "none"
            yield Finding("kernel", f"{evidence} (modules of tunnels: {loaded})")


def _left_by_decap(facts: Facts) -> bool:
    """Are there packets that decap counts, and that are findings of its own?"""
    if not facts[Role].by_xdp:
        return False
    return any(more for name, _, more in facts[Attached].risen if name != "stripped")


def _overflows(facts: Facts) -> Iterator[Finding]:
    for evidence in _risen(facts, "TcpExtListenOverflows"):
        yield Finding("kernel", evidence)


CHECKS = (
    Check(
        id="answers-through-balancer",
        severity=Severity.ERROR,
        means="Answers of a VIP leave through the balancer, with dsr or tunnel.",
        why="The VIP is local on the balancer, which drops packets from its own addresses that "
        "come in by a wire, as martians: clients time out.",
        remedy="ip rule add from VIP lookup 100, and a default route there past the balancer",
        find=_through_balancer,
    ),
    Check(
        id="answers-past-balancer",
        severity=Severity.ERROR,
        means="Answers do not leave through the balancer, with nat.",
        why="The client gets an answer from an address that it never talked to, and refuses it.",
        remedy="ip route replace default via BALANCER",
        find=_past_balancer,
    ),
    Check(
        id="no-way-to-clients",
        severity=Severity.ERROR,
        means="There is no route from a VIP to clients.",
        why="Answers cannot be sent.",
        remedy="ip route add default via ROUTER",
        find=_no_way,
    ),
    Check(
        id="rp-filter-on-way-in",
        severity=Severity.ERROR,
        means="Strict reverse path filtering where packets of clients come in.",
        why="Answers leave by another interface, so the kernel takes those packets for forged and "
        "drops them in silence. 2 is lenient.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.rp_filter=2",
        find=_strict,
    ),
    Check(
        id="reverse-path-drops",
        severity=Severity.ERROR,
        means="The kernel drops packets for their source right now.",
        why="Reverse path filtering (rp_filter=1) takes them for forged. With dsr and tunnel these "
        "are clients.",
        remedy="sysctl -w net.ipv4.conf.INTERFACE.rp_filter=2",
        find=_reverse_path,
    ),
    Check(
        id="unknown-protocol-arrives",
        severity=Severity.ERROR,
        means="Packets of a protocol that this kernel does not know arrive right now.",
        why="As a rule these are the balancer's tunnels, of a type that nothing here takes in.",
        remedy="kernlb realserver setup --method tunnel --vip VIP --tunnel TYPE",
        find=_unknown_protocol,
    ),
    Check(
        id="listen-queue-overflows",
        severity=Severity.WARNING,
        means="A program does not accept connections as fast as they come, right now.",
        why="The kernel drops what does not fit into the queue; clients try again after a second.",
        remedy="a larger backlog in the program, and sysctl -w net.core.somaxconn=4096",
        find=_overflows,
    ),
)
