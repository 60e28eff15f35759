"""Services of ipvsadm as service documents, and parts of them as changes of documents.

A document says outright what a command of ipvsadm says by default: datapath, scheduler, the flags
of sh and mh, forwarding. The host's defaults then change nothing of it.
"""

from __future__ import annotations

from typing import Any

from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    ServiceKey,
    ServiceState,
    Tunnel,
    VirtualService,
)

Document = dict[str, Any]

_SETTINGS = ("scheduler", "scheduler_flags", "persistence", "one_packet")


def document_of(state: ServiceState) -> Document:
    """A whole service."""
    methods = [server.forwarding for server in state.servers]
    document = service_document(state.service)
    port = state.key.port if isinstance(state.key, AddressKey) else 0
    usual: Forwarding | None = None
    if methods:
        usual = max(dict.fromkeys(methods), key=methods.count)
        document["forwarding"] = usual.value
    servers = [server_document(server, port) for server in state.servers]
    for server in servers:
        if server["forwarding"] == usual:
            del server["forwarding"]
    return document | {"servers": servers}


def service_document(service: VirtualService) -> Document:
    """What -A says."""
    return _key(service.key) | {"datapath": "ipvs"} | _settings(service)


def service_patch(service: VirtualService) -> Document:
    """What -E says of a service that has a document: all of its settings, None for not."""
    settings = _settings(service)
    if isinstance(persistence := settings.get("persistence"), dict):
        settings["persistence"] = {"prefix": None, "netmask": None, "engine": None} | persistence
    return dict.fromkeys(_SETTINGS) | settings


def server_document(server: RealServer, service_port: int) -> Document:
    """What -a says; what a server can inherit is said only where it is not what ipvsadm has by
    default."""
    document: Document = {"address": str(server.address)}
    if server.port != service_port:
        document["port"] = server.port
    if server.weight != 1:
        document["weight"] = server.weight
    document["forwarding"] = server.forwarding.value
    if server.tunnel is not None and server.tunnel != Tunnel():
        document["tunnel"] = _said(_tunnel(server.tunnel))
    if server.upper_threshold:
        document["upper_threshold"] = server.upper_threshold
    if server.lower_threshold:
        document["lower_threshold"] = server.lower_threshold
    return document


def new_server(server: RealServer, service_port: int) -> Document:
    """What -a says of a service whose document may have something to inherit: all is said."""
    patch = server_patch(server)
    if patch["tunnel"] is not None:
        patch["tunnel"] = _said(patch["tunnel"])
    return server_document(server, service_port) | _said(patch)


def server_patch(server: RealServer) -> Document:
    """What -e says: everything but which server it is."""
    return {
        "weight": server.weight,
        "forwarding": server.forwarding.value,
        "tunnel": None if server.tunnel is None else _tunnel(server.tunnel),
        "upper_threshold": server.upper_threshold,
        "lower_threshold": server.lower_threshold,
    }


def _key(key: ServiceKey) -> Document:
    if isinstance(key, AddressKey):
        document: Document = {"address": str(key.address), "port": key.port}
        return (
            document
            if key.protocol is L4Protocol.TCP
            else document | {"protocol": key.protocol.value}
        )
    if key.family is Family.IPV4:
        return {"fwmark": key.fwmark}
    return {"fwmark": key.fwmark, "family": key.family.value}


def _settings(service: VirtualService) -> Document:
    settings: Document = {"scheduler": service.scheduler.value}
    if service.scheduler in (Scheduler.SH, Scheduler.MH):
        settings["scheduler_flags"] = sorted(flag.value for flag in service.flags)
    if service.persistence is not None:
        settings["persistence"] = _persistence(service.persistence, service.family)
    if service.one_packet:
        settings["one_packet"] = True
    return settings


def _persistence(persistence: Persistence, family: Family) -> int | Document:
    document: Document = {"timeout": persistence.timeout}
    if persistence.prefix != family.max_prefix:
        document["prefix"] = persistence.prefix
    if persistence.engine is not None:
        document["engine"] = persistence.engine
    return document if len(document) > 1 else persistence.timeout


def _said(document: Document) -> Document:
    return {key: value for key, value in document.items() if value is not None}


def _tunnel(tunnel: Tunnel) -> Document:
    """None for what this tunnel has not: in a patch it goes."""
    return {
        "type": tunnel.type.value,
        "port": tunnel.port or None,
        "checksum": True if tunnel.checksum else None,
    }
