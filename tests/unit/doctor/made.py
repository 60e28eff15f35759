"""Facts made by hand: a sound balancer of nothing, to which a test adds what it is about."""

from __future__ import annotations

from ipaddress import ip_address

from kernlb.doctor.balancer import CHECKS
from kernlb.doctor.daemon import Daemon
from kernlb.doctor.examining import examine
from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Report
from kernlb.doctor.netfilter import Ruleset
from kernlb.doctor.network import Network, Ways
from kernlb.doctor.services import Declared, Service
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Forwarding,
    L4Protocol,
    RealServer,
    Scheduler,
    Tunnel,
)

VIP, SERVER = ip_address("192.0.2.10"), ip_address("10.1.0.11")


def service(
    forwarding: Forwarding = Forwarding.NAT, datapath: DatapathKind = DatapathKind.IPVS
) -> Service:
    tunnel = Tunnel() if forwarding is Forwarding.TUNNEL else None
    servers = (RealServer(SERVER, 80, 1, forwarding, tunnel),)
    return Service("web", datapath, AddressKey(L4Protocol.TCP, VIP, 80), Scheduler.WLC, servers)


def facts(*parts: object) -> Facts:
    """These parts, and empty ones of what most checks ask for."""
    made = Facts()
    for part in (
        *(Declared((service(),)), Daemon(True, "/run/s"), Network(), Ways({})),
        *(Sysctls({}), Ruleset()),
        *parts,
    ):
        made = made.having(part)
    return made


def look(*parts: object) -> Report:
    return examine(CHECKS, facts(*parts))


def found(*parts: object) -> dict[str, str]:
    """Evidence by id; of several the last."""
    return {each.check.id: each.finding.evidence for each in look(*parts).found}
