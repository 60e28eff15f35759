"""A declaration back to a document: the shortest that says the same."""

from __future__ import annotations

from typing import Any

from kernlb.config.settings import Defaults
from kernlb.declaration import Declaration, Vip
from kernlb.model import (
    DEFAULT_FLAGS,
    AddressKey,
    Family,
    Forwarding,
    L4Protocol,
    Persistence,
    RealServer,
    Tunnel,
    VirtualService,
)

Document = dict[str, Any]


def document_of(declaration: Declaration, defaults: Defaults | None = None) -> Document:
    """Plain values that parse to an equal declaration on a host with these defaults."""
    defaults = defaults or Defaults()
    service = declaration.service
    document = _key(service)
    if declaration.datapath is not defaults.datapath:
        document["datapath"] = declaration.datapath.value
    if service.scheduler is not defaults.scheduler:
        document["scheduler"] = service.scheduler.value
    if service.flags != DEFAULT_FLAGS.get(service.scheduler, frozenset()):
        document["scheduler_flags"] = sorted(flag.value for flag in service.flags)
    forwarding = _usual_forwarding(declaration, defaults)
    if forwarding is not defaults.forwarding:
        document["forwarding"] = forwarding.value
    tunnel = _usual_tunnel(declaration)
    if tunnel != Tunnel():
        document["tunnel"] = _tunnel(tunnel)
    if service.persistence is not None:
        document["persistence"] = _persistence(service.persistence, service.family)
    if service.one_packet:
        document["one_packet"] = True
    document |= _vip(declaration, defaults)
    if declaration.drain_timeout != defaults.drain_timeout:
        document["drain_timeout"] = _number(declaration.drain_timeout or 0)
    if declaration.labels:
        document["labels"] = dict(declaration.labels)
    port = service.key.port if isinstance(service.key, AddressKey) else 0

    def server_document(server: RealServer) -> Document:
        plain = _server(server, port, forwarding, tunnel)
        if labels := declaration.server_labels.get(server.key):
            plain["labels"] = dict(labels)
        return plain

    document["servers"] = [server_document(server) for server in declaration.servers]
    for sorry in declaration.sorry_servers:
        document["sorry_server"] = server_document(sorry)
    return document


def _key(service: VirtualService) -> Document:
    key = service.key
    if isinstance(key, AddressKey):
        document: Document = {"address": str(key.address), "port": key.port}
        if key.protocol is not L4Protocol.TCP:
            document["protocol"] = key.protocol.value
        return document
    document = {"fwmark": key.fwmark}
    if key.family is not Family.IPV4:
        document["family"] = key.family.value
    return document


def _usual_forwarding(declaration: Declaration, defaults: Defaults) -> Forwarding:
    """What most servers have; the host's default where there are none."""
    methods = [server.forwarding for server in declaration.servers]
    return max(methods, key=methods.count) if methods else defaults.forwarding


def _usual_tunnel(declaration: Declaration) -> Tunnel:
    tunnels = [server.tunnel for server in declaration.servers if server.tunnel is not None]
    return max(tunnels, key=tunnels.count) if tunnels else Tunnel()


def _tunnel(tunnel: Tunnel) -> Document:
    document: Document = {"type": tunnel.type.value}
    if tunnel.port:
        document["port"] = tunnel.port
    if tunnel.checksum:
        document["checksum"] = True
    return document


def _persistence(persistence: Persistence, family: Family) -> int | Document:
    if persistence.prefix == family.max_prefix and persistence.engine is None:
        return persistence.timeout
    document: Document = {"timeout": persistence.timeout}
    if persistence.prefix != family.max_prefix:
        document["prefix"] = persistence.prefix
    if persistence.engine is not None:
        document["engine"] = persistence.engine
    return document


def _vip(declaration: Declaration, defaults: Defaults) -> Document:
    if declaration.address is None:
        return {}
    vip, interface = declaration.vip, defaults.vip_interface
    if vip is None:
        return {} if interface is None else {"vip": False}
    usual = None if vip.interface == "lo" else vip.interface
    if vip == Vip(interface or "", usual):
        return {}
    document: Document = {"interface": vip.interface}
    if vip.announce != usual:
        document["announce"] = vip.announce or False
    return {"vip": document}


def _server(server: RealServer, port: int, forwarding: Forwarding, tunnel: Tunnel) -> Document:
    document: Document = {"address": str(server.address)}
    if server.port != port:
        document["port"] = server.port
    if server.weight != 1:
        document["weight"] = server.weight
    if server.forwarding is not forwarding:
        document["forwarding"] = server.forwarding.value
    if server.tunnel is not None and server.tunnel != tunnel:
        document["tunnel"] = _tunnel(server.tunnel)
    if server.upper_threshold:
        document["upper_threshold"] = server.upper_threshold
    if server.lower_threshold:
        document["lower_threshold"] = server.lower_threshold
    return document


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value
