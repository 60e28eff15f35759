"""A declaration back to a document: the shortest that says the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kernlb.config.errors import Report
from kernlb.config.health import hold_policy
from kernlb.config.health_document import HealthDocument
from kernlb.config.plain_check import number, plain_policy, plain_watch
from kernlb.config.settings import Defaults
from kernlb.declaration import Declaration, Vip
from kernlb.health.check import HealthPolicy, Watch
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
        document["drain_timeout"] = number(declaration.drain_timeout or 0)
    if declaration.labels:
        document["labels"] = dict(declaration.labels)
    port = service.key.port if isinstance(service.key, AddressKey) else 0

    watch = _usual_watch(declaration, defaults)
    if declaration.servers and watch != defaults.check:
        document["check"] = plain_watch(watch)
    if health := plain_policy(declaration.health, _usual_policy(declaration, defaults)):
        document["health"] = health

    def server_document(server: RealServer) -> Document:
        plain = _server(server, port, forwarding, tunnel)
        if server.key in declaration.local:
            plain["local"] = True
        if labels := declaration.server_labels.get(server.key):
            plain["labels"] = dict(labels)
        return plain

    document["servers"] = servers = []
    for server in declaration.servers:
        servers.append(server_document(server))
        own = declaration.watches.get(server.key)
        if own != watch:
            servers[-1]["check"] = plain_watch(own)
    sorry = [server_document(server) for server in declaration.sorry_servers]
    if sorry:
        document["sorry_server"] = sorry[0] if len(sorry) == 1 else sorry
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


def _usual_watch(declaration: Declaration, defaults: Defaults) -> Watch | None:
    """What most servers have, the host's default if that is one of them."""
    watches = [declaration.watches.get(server.key) for server in declaration.servers]
    if not watches or defaults.check in watches:
        return defaults.check
    return Counter(watches).most_common(1)[0][0]


def _usual_policy(declaration: Declaration, defaults: Defaults) -> HealthPolicy:
    """What a document that says nothing of health would have."""
    return hold_policy(
        defaults.health,
        HealthDocument(),
        datapath=declaration.datapath,
        has_vip=declaration.vip is not None,
        servers=(),
        has_sorry=bool(declaration.sorry_servers),
        unchecked=bool(declaration.servers) and not declaration.watches,
        report=Report(""),
    )


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
