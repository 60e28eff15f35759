"""Whether this host passes on what servers send back, and does not meddle with it."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.ops import SetSysctl
from kernlb.doctor.services import Declared, names
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import DatapathKind, Forwarding

_SWITCHES = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def _forward_off(facts: Facts, version: int) -> Iterator[Finding]:
    """Of IPVS alone: XDP passes packets on itself."""
    pairs = facts[Declared].pairs(Forwarding.NAT, datapath=DatapathKind.IPVS)
    services = [service for service, server in pairs if server.address.version == version]
    switch, sysctls = _SWITCHES[version], facts[Sysctls]
    if services and sysctls.number(switch) == 0:
        evidence = f"{sysctls.seen(switch)}, and {names(services)} by nat"
        yield Finding(f"IPv{version}", evidence, fix=(SetSysctl(switch, "1"),))


CHECKS = (
    Check(
        id="ip-forward-off",
        severity=Severity.ERROR,
        means="IPv4 forwarding is off on a balancer that forwards by nat.",
        why="Answers of nat servers come back through the balancer, which drops them unless it "
        "forwards: clients time out while servers show connections.",
        remedy="sysctl -w net.ipv4.ip_forward=1",
        find=lambda facts: _forward_off(facts, 4),
    ),
    Check(
        id="ip6-forward-off",
        severity=Severity.ERROR,
        means="IPv6 forwarding is off on a balancer that forwards by nat.",
        why="Answers of nat servers come back through the balancer, which drops them unless it "
        "forwards: clients time out while servers show connections.",
        remedy="sysctl -w net.ipv6.conf.all.forwarding=1",
        find=lambda facts: _forward_off(facts, 6),
    ),
)
