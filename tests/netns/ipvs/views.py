"""What the daemon says, and what a document asks for, as the oracle's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from kernlb.control.protocol import ServerState, ServerView, ServiceView
from tests.netns.ipvs.ipvsadm import Persistence, Server, Service, Tunnel

Document = Mapping[str, Any]
Holds = Mapping[str, str]  # "draining" or "disabled" by endpoint

_OUT = {ServerState.DISABLED, ServerState.DRAINED, ServerState.DOWN, ServerState.STANDBY}


def shown(view: ServiceView) -> Service:
    """What ``service show`` says should be in the kernel. That its kernel side is the same is
    asserted here."""
    inside = []
    for server in view.servers:
        assert server.in_kernel == (server.state not in _OUT), server
        if server.in_kernel:
            assert server.kernel_weight == server.effective_weight, server
            inside.append(_shown_server(server))
    persistence = view.persistence
    return Service(
        key=view.key,
        scheduler=view.scheduler,
        flags=frozenset(view.flags),
        persistence=Persistence(persistence.timeout, persistence.prefix, persistence.engine)
        if persistence
        else None,
        one_packet=view.one_packet,
        servers=frozenset(inside),
    )


def _shown_server(server: ServerView) -> Server:
    tunnel = server.tunnel
    return Server(
        endpoint=endpoint(server.address, server.port),
        weight=server.effective_weight,
        forwarding=server.forwarding,
        tunnel=Tunnel(tunnel.type, tunnel.port, tunnel.checksum) if tunnel else None,
        upper=server.upper_threshold,
        lower=server.lower_threshold,
    )


def asked(document: Document, holds: Holds | None = None) -> Service:
    """What the kernel should hold for a document: its defaults and inheritance, written anew."""
    scheduler = document.get("scheduler", "wlc")
    fallback = [f"{scheduler}-fallback"] if scheduler in ("sh", "mh") else []
    servers = list(_asked_servers(document, holds or {}))
    sorry = document.get("sorry_server")
    if sorry is not None and not any(server.weight for server in servers):
        servers.append(_asked_server(document, sorry, sorry.get("weight", 1), own=True))
    return Service(
        key=key(document),
        scheduler=scheduler,
        flags=frozenset(document.get("scheduler_flags", fallback)),
        persistence=_asked_persistence(document),
        one_packet=document.get("one_packet", False),
        servers=frozenset(servers),
    )


def key(document: Document) -> str:
    if "fwmark" in document:
        return f"fwmark/{document.get('family', 'ipv4')}/{document['fwmark']}"
    where = endpoint(document["address"], document["port"])
    return f"{document.get('protocol', 'tcp')}/{where}"


def server_endpoint(document: Document, server: Document) -> str:
    return endpoint(server["address"], server.get("port", document.get("port", 0)))


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _asked_servers(document: Document, holds: Holds) -> Iterator[Server]:
    for server in document.get("servers", []):
        hold = holds.get(server_endpoint(document, server))
        if hold == "disabled":
            continue
        weight = server.get("weight", document.get("weight", 1))
        yield _asked_server(document, server, 0 if hold == "draining" else weight)


def _asked_server(document: Document, server: Document, weight: int, own: bool = False) -> Server:
    forwarding = server.get("forwarding", document.get("forwarding", "nat"))
    tunnel = server.get("tunnel", document.get("tunnel", {}))
    limits = {} if own else document
    return Server(
        endpoint=server_endpoint(document, server),
        weight=weight,
        forwarding=forwarding,
        tunnel=Tunnel(**tunnel) if forwarding == "tunnel" else None,
        upper=server.get("upper_threshold", limits.get("upper_threshold", 0)),
        lower=server.get("lower_threshold", limits.get("lower_threshold", 0)),
    )


def _asked_persistence(document: Document) -> Persistence | None:
    settings = document.get("persistence")
    if settings is None:
        return None
    if not isinstance(settings, Mapping):
        settings = {"timeout": settings}
    version = 6 if document.get("family") == "ipv6" else 4
    if "address" in document:
        version = ip_address(document["address"]).version
    whole = 32 if version == 4 else 128
    return Persistence(
        settings.get("timeout", 300), settings.get("prefix", whole), settings.get("engine", "")
    )
