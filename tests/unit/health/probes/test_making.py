"""Every kind of check has a probe, and each is made of the same four things."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import get_args

import pytest

from kernlb.health.check import (
    AgentCheck,
    Check,
    DnsCheck,
    ExecCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    Several,
    SimpleCheck,
    Target,
    TcpCheck,
    Tls,
    TlsCheck,
    UdpCheck,
)
from kernlb.health.probes.making import PROBES, make_probe

CHECKS: tuple[Check, ...] = (
    IcmpCheck(),
    TcpCheck(),
    HttpCheck(),
    HttpCheck(tls=Tls()),
    TlsCheck(),
    UdpCheck(),
    DnsCheck(),
    GrpcCheck(),
    ExecCheck(("/bin/true",)),
    AgentCheck(5555),
    Several((TcpCheck(), IcmpCheck()), 1),
)


def test_every_kind_of_check_is_in_the_table() -> None:
    assert set(PROBES) == set(get_args(SimpleCheck))
    assert {type(check) for check in CHECKS} == {*PROBES, Several}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: type(check).__name__)
def test_a_probe_is_made_of_every_kind_and_making_asks_nothing(check: Check) -> None:
    async def made() -> str:
        loop = asyncio.get_running_loop()
        probe = make_probe(check, 1.0, Target(IPv4Address("192.0.2.1"), 80), loop)
        assert callable(probe.start)
        return type(probe).__name__

    name = asyncio.run(made())
    assert name == ("SeveralProbe" if isinstance(check, Several) else PROBES[type(check)][1])
