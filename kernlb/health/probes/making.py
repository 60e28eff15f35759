"""make_probe: the probe of a check. Each kind's module is imported when its first probe is made."""

from __future__ import annotations

import asyncio
from importlib import import_module

from kernlb.health.check import (
    AgentCheck,
    Check,
    DnsCheck,
    ExecCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    Several,
    Target,
    TcpCheck,
    TlsCheck,
    UdpCheck,
)
from kernlb.health.probes import Probe

# Where each is, and its class: constructed as (check, timeout, target, loop).
PROBES: dict[type, tuple[str, str]] = {
    IcmpCheck: ("icmp", "IcmpProbe"),
    TcpCheck: ("tcp", "TcpProbe"),
    HttpCheck: ("http", "HttpProbe"),
    TlsCheck: ("tls", "TlsProbe"),
    UdpCheck: ("udp", "UdpProbe"),
    DnsCheck: ("dns", "DnsProbe"),
    GrpcCheck: ("grpc", "GrpcProbe"),
    ExecCheck: ("exec", "ExecProbe"),
    AgentCheck: ("agent", "AgentProbe"),
}


def make_probe(
    check: Check, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
) -> Probe:
    """``timeout`` in seconds, for the whole probe."""
    if isinstance(check, Several):
        from kernlb.health.probes.several import SeveralProbe

        return SeveralProbe(check, timeout, target, loop, make_probe)
    if target.carried is not None:
        from kernlb.health.probes.carried import CarriedProbe

        return CarriedProbe(check, timeout, target, loop, _make_plain)
    return _make_plain(check, timeout, target, loop)


def _make_plain(
    check: Check, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
) -> Probe:
    module, name = PROBES[type(check)]
    probe: Probe = getattr(import_module(f"kernlb.health.probes.{module}"), name)(
        check, timeout, target, loop
    )
    return probe
