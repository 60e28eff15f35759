"""What one kernel datapath cannot carry and the other can, said once for all who refuse it.

The reader of documents, the datapaths and the stand-in ask here; what contradicts itself in any
datapath (families that do not mix, a port that a method cannot change) is not of this module.
"""

from __future__ import annotations

from typing import NamedTuple

from kernlb.model import (
    DatapathKind,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    RealServer,
    Scheduler,
    ServiceKey,
    VirtualService,
)

XDP_SCHEDULERS = (
    Scheduler.RR,
    Scheduler.WRR,
    Scheduler.LC,
    Scheduler.WLC,
    Scheduler.SH,
    Scheduler.MH,
)


class Limit(NamedTuple):
    """``key`` is what a document calls the setting, ``why`` goes on with that sentence."""

    key: str  # nested with dots
    why: str

    def __str__(self) -> str:
        return f"{self.key} {self.why}"


def of_service(kind: DatapathKind, service: VirtualService) -> Limit | None:
    """Why this datapath cannot carry the service, its servers aside; None if it can."""
    if kind is not DatapathKind.XDP:
        return None
    if isinstance(service.key, FwmarkKey):
        why = "does not go with datapath xdp: it sees packets before a packet filter marks them"
        return Limit("fwmark", why)
    if service.scheduler not in XDP_SCHEDULERS:
        known = ", ".join(XDP_SCHEDULERS)
        why = f"{service.scheduler} is not in datapath xdp (it has {known})"
        return Limit("scheduler", why)
    if service.persistence is not None and service.persistence.engine is not None:
        why = f"{service.persistence.engine} does not go with datapath xdp: it reads no payload"
        return Limit("persistence.engine", why)
    return None


def of_server(kind: DatapathKind, service: ServiceKey, server: RealServer) -> Limit | None:
    """Why this datapath cannot carry the server; None if it can."""
    fullnat = server.forwarding is Forwarding.FULLNAT
    if kind is DatapathKind.IPVS:
        if fullnat:
            return Limit("forwarding", "fullnat goes with datapath xdp only")
        return None
    if server.address.is_loopback:
        why = f"{server.address} is a loopback address: datapath xdp cannot reach it"
        return Limit("address", why)
    if server.tunnel is not None and server.tunnel.checksum:
        return Limit("tunnel.checksum", "does not go with datapath xdp: it would read every byte")
    if isinstance(service, FwmarkKey) or service.protocol is not L4Protocol.SCTP:
        return None
    # RFC 9260, 6.8: SCTP's checksum is a CRC over the whole packet, ports included.
    if fullnat:
        why = "fullnat does not go with sctp: its checksum covers the ports"
        return Limit("forwarding", why)
    if server.forwarding is Forwarding.NAT and server.port not in (0, service.port):
        why = "must be the service's: the checksum of sctp covers the ports, in datapath xdp"
        return Limit("port", why)
    return None
