"""What is read on a balancer, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernlb.doctor.doors import rtnetlink, sysctl
from kernlb.doctor.facts import Facts, Reader
from kernlb.doctor.network import Network
from kernlb.doctor.sysctls import Sysctls

_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/*/forwarding",
)


def _network(_: Facts) -> Network:
    return rtnetlink.read()


READERS: Sequence[tuple[type[Any], Reader]] = (
    (Sysctls, lambda _: sysctl.read(_SYSCTLS)),
    (Network, _network),
)
