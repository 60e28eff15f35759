"""What the daemon tells of a service, as the state that the kernel holds."""

from __future__ import annotations

from ipaddress import ip_address

from kernlb.control.protocol import ServerView, ServiceView
from kernlb.model import (
    DatapathKind,
    Forwarding,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServiceState,
    Tunnel,
    TunnelType,
    VirtualService,
    parse_service_key,
)


def state_of(view: ServiceView) -> ServiceState | None:
    """None for a service that IPVS does not carry. Servers that are out of the kernel are left
    out, and weights are those of the kernel."""
    if view.datapath != DatapathKind.IPVS:
        return None
    kept = view.persistence
    service = VirtualService(
        key=parse_service_key(view.key),
        scheduler=Scheduler(view.scheduler),
        flags=frozenset(map(SchedulerFlag, view.flags)),
        persistence=None
        if kept is None
        else Persistence(kept.timeout, kept.prefix, kept.engine or None),
        one_packet=view.one_packet,
    )
    return ServiceState(service, tuple(map(_server, filter(_is_there, view.servers))))


def _is_there(server: ServerView) -> bool:
    return server.in_kernel


def _server(view: ServerView) -> RealServer:
    tunnel = view.tunnel
    return RealServer(
        address=ip_address(view.address),
        port=view.port,
        weight=view.effective_weight if view.kernel_weight is None else view.kernel_weight,
        forwarding=Forwarding(view.forwarding),
        tunnel=None
        if tunnel is None
        else Tunnel(TunnelType(tunnel.type), tunnel.port, tunnel.checksum),
        upper_threshold=view.upper_threshold,
        lower_threshold=view.lower_threshold,
    )
