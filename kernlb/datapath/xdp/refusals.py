"""What the XDP datapath does not take, and why, as a value and a sentence. Pure."""

from __future__ import annotations

import errno
from typing import NamedTuple

from kernlb import limits
from kernlb.datapath import Failure, Refusal
from kernlb.model import (
    DatapathKind,
    IPAddress,
    RealServer,
    ServiceKey,
    TunnelType,
    VirtualService,
)
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    RemoveServer,
    RemoveService,
)

MAX_THRESHOLD = 2**31 - 1

_ERRNO = {
    Refusal.ABSENT: errno.ESRCH,
    Refusal.INVALID: errno.EINVAL,
    Refusal.UNSUPPORTED: errno.EOPNOTSUPP,
    Refusal.NO_MEMORY: errno.ENOMEM,
}


class Refused(NamedTuple):
    refusal: Refusal
    why: str


NO_SERVICE = Refused(Refusal.ABSENT, "the service is not there")
NO_SERVER = Refused(Refusal.ABSENT, "the server is not there")


def full(what: str) -> Refused:
    """``what``: the setting that says how many there can be."""
    return Refused(Refusal.NO_MEMORY, f"{what} full: raise xdp.{what}")


def failure(op: Op, refused: Refused) -> Failure:
    detail = f"cannot {_attempt(op)}: {refused.why}"
    return Failure(op, refused.refusal, detail, _ERRNO[refused.refusal])


def of_service(service: VirtualService) -> Refused | None:
    """Why there can be no such service."""
    if limit := limits.of_service(DatapathKind.XDP, service):
        return Refused(Refusal.UNSUPPORTED, str(limit))
    most = service.family.max_prefix
    if (persistence := service.persistence) is not None:
        least = 0 if most == 32 else 1
        if not least <= persistence.prefix <= most:
            why = f"the persistence prefix {persistence.prefix} is out of range"
            return Refused(Refusal.INVALID, why)
    return None


def of_server(key: ServiceKey, server: RealServer) -> Refused | None:
    """Why the service can have no such server."""
    if limit := limits.of_server(DatapathKind.XDP, key, server):
        return Refused(Refusal.UNSUPPORTED, str(limit))
    why = _contradiction(key, server)
    return None if why is None else Refused(Refusal.INVALID, why)


def _contradiction(key: ServiceKey, server: RealServer) -> str | None:
    lower, upper, address = server.lower_threshold, server.upper_threshold, server.address
    if lower > upper:
        return f"the lower threshold {lower} is above the upper {upper}"
    if upper > MAX_THRESHOLD:
        return f"the upper threshold {upper} is above {MAX_THRESHOLD}"
    tunnel = server.tunnel
    if tunnel is None:
        if address.max_prefixlen != key.family.max_prefix:
            return "a server of the other address family needs forwarding method tunnel"
    elif tunnel.type is TunnelType.GUE and tunnel.port == 0:
        return "a GUE tunnel needs a port"
    return None if _is_one_host(address) else f"{address} is not the address of one host"


def _is_one_host(address: IPAddress) -> bool:
    """Not unspecified, multicast or broadcast, and not link-local of IPv6."""
    number = int(address)
    if address.version == 4:
        return 0 < number < 2**32 - 1 and number >> 28 != 0xE
    return number != 0 and number >> 120 != 0xFF and number >> 118 != 0xFE80 >> 6


def _attempt(op: Op) -> str:
    match op:
        case AddService():
            return f"add virtual service {op.key}"
        case EditService():
            return f"change virtual service {op.key}"
        case RemoveService():
            return f"remove virtual service {op.key}"
        case AddServer():
            return f"add real server {op.server.key} to {op.key}"
        case EditServer():
            return f"change real server {op.new.key} of {op.key}"
        case RemoveServer():
            return f"remove real server {op.server.key} from {op.key}"
