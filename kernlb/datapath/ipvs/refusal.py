"""Why the kernel refused an op, as a value and a sentence. Pure.

The kernel answers with an errno only; what it means depends on the op. Cases are those of
net/netfilter/ipvs/ip_vs_ctl.c.
"""

from __future__ import annotations

import errno
import os

from kernlb.datapath import Failure, Refusal
from kernlb.limits import Limit, of_server
from kernlb.model import DatapathKind, Forwarding, RealServer, ServiceKey, VirtualService
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    RemoveServer,
    RemoveService,
    ServerOp,
)

_MAX_THRESHOLD = 2**31 - 1  # of kernels since 6.1.y; older ones take more

_KINDS = {
    errno.ESRCH: Refusal.ABSENT,
    errno.EPERM: Refusal.NO_PERMISSION,
    errno.EACCES: Refusal.NO_PERMISSION,
    errno.ENOMEM: Refusal.NO_MEMORY,
    errno.EINVAL: Refusal.INVALID,
    errno.ERANGE: Refusal.INVALID,
    errno.EAFNOSUPPORT: Refusal.UNSUPPORTED,
    errno.EPROTONOSUPPORT: Refusal.UNSUPPORTED,
    errno.EOPNOTSUPP: Refusal.UNSUPPORTED,
}


def failure(op: Op, number: int) -> Failure:
    """``number`` is the errno that the kernel gave for ``op``."""
    refusal, why = _reason(op, number)
    return Failure(op, refusal, f"cannot {_attempt(op)}: {why}", number)


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


def _reason(op: Op, number: int) -> tuple[Refusal, str]:
    match number:
        case errno.ENOENT:
            return _not_found(op)
        case errno.ESRCH:
            return Refusal.ABSENT, "the service is not there"
        case errno.EPERM | errno.EACCES:
            return Refusal.NO_PERMISSION, "CAP_NET_ADMIN is needed"
        case errno.EAFNOSUPPORT:
            return Refusal.UNSUPPORTED, "this kernel does not have that address family for IPVS"
        case errno.EINVAL | errno.ERANGE:
            return Refusal.INVALID, _contradiction(op)
        case errno.EOPNOTSUPP if limit := _limit(op):
            return Refusal.UNSUPPORTED, str(limit)
    return _KINDS.get(number, Refusal.OTHER), os.strerror(number)


def _not_found(op: Op) -> tuple[Refusal, str]:
    """ENOENT: a module that IPVS looked for, or the server."""
    match op:
        case AddService(service=service) | EditService(new=service):
            words = [f'scheduler "{service.scheduler}"']
            if service.persistence and service.persistence.engine:
                words.append(f'persistence engine "{service.persistence.engine}"')
            return Refusal.UNSUPPORTED, f"{' or '.join(words)} is unknown to this kernel"
        case _:
            return Refusal.ABSENT, "the server is not there"


def _contradiction(op: Op) -> str:
    match op:
        case AddService(service=service) | EditService(new=service):
            return _service_contradiction(service)
        case AddServer(server=server) | EditServer(new=server) | RemoveServer(server=server):
            return _server_contradiction(op, server)
        case RemoveService():
            return os.strerror(errno.EINVAL)


def _service_contradiction(service: VirtualService) -> str:
    if service.persistence is not None:
        return f"the persistence prefix {service.persistence.prefix} is out of range"
    return "the kernel calls it invalid"


def _server_contradiction(op: ServerOp, server: RealServer) -> str:
    if server.lower_threshold > server.upper_threshold:
        return (
            f"the lower threshold {server.lower_threshold} is above the upper "
            f"{server.upper_threshold}"
        )
    if mixed(op.key, server) and server.forwarding is not Forwarding.TUNNEL:
        return "a server of the other address family needs forwarding method tunnel"
    if mixed(op.key, server):
        return "servers of the other address family do not go with connection sync"
    if server.tunnel is not None and server.tunnel.type == "gue" and server.tunnel.port == 0:
        return "a GUE tunnel needs a port"
    if server.upper_threshold > _MAX_THRESHOLD:
        return f"the upper threshold {server.upper_threshold} is above {_MAX_THRESHOLD}"
    # ip_vs_new_dest() asks the routing table too, which knows the broadcast addresses.
    return f"{server.address} is not the address of one host"


def _limit(op: Op) -> Limit | None:
    match op:
        case AddServer(server=server) | EditServer(new=server):
            return of_server(DatapathKind.IPVS, op.key, server)
        case _:
            return None


def mixed(key: ServiceKey, server: RealServer) -> bool:
    """True if service and server are of different address families."""
    return key.family.max_prefix != server.address.max_prefixlen
