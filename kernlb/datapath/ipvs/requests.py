"""Encoding: values of the model to the bodies of IPVS requests. Pure.

A request is a command and its attributes; ``netlink`` puts the header in front when it knows the
sequence number. Everything that repeats is encoded once: a service's key is shared by all of its
servers, and of a server only address, port and weight are packed each time.

Kernel side: net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_genl_parse_service() and _parse_dest().
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address
from socket import htons

from kernlb.datapath.ipvs import abi
from kernlb.datapath.ipvs.abi import Cmd, Command, Dest, Svc
from kernlb.datapath.ipvs.attributes import pack
from kernlb.model import (
    Family,
    Forwarding,
    FwmarkKey,
    IPAddress,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServiceKey,
    Tunnel,
    VirtualService,
)

Request = tuple[int, bytes]

_U8 = struct.Struct("=B")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_BE32 = struct.Struct(">I")
_FLAGS = struct.Struct("=II")
_ADDRESS = struct.Struct("=16s")
_NO_TUNNEL = Tunnel()

_HEADER = struct.Struct("=HH")
_SERVER_REST = 7 * 8  # ADDR_FAMILY, FWD_METHOD, U_THRESH, L_THRESH, TUN_TYPE, TUN_PORT, TUN_FLAGS

# A server's nest header, ADDR, PORT and WEIGHT; the attributes' own headers are constants.
_SERVER = struct.Struct("=8s16s4sH2x4sI")
_SERVER_HEAD = _HEADER.pack(_SERVER.size + _SERVER_REST, Cmd.DEST) + _HEADER.pack(20, Dest.ADDR)
_SERVER_PORT = _HEADER.pack(6, Dest.PORT)
_SERVER_WEIGHT = _HEADER.pack(8, Dest.WEIGHT)

ALL_SERVICES: Request = (Command.GET_SERVICE, b"")
GET_INFO: Request = (Command.GET_INFO, b"")
GET_CONFIG: Request = (Command.GET_CONFIG, b"")
GET_DAEMON: Request = (Command.GET_DAEMON, b"")
FLUSH: Request = (Command.FLUSH, b"")


def get_family() -> Request:
    """Sent to the generic netlink controller, whose attributes are its own."""
    return abi.CTRL_CMD_GETFAMILY, pack(abi.CTRL_ATTR_FAMILY_NAME, abi.FAMILY_NAME)


def new_service(service: VirtualService) -> Request:
    return Command.NEW_SERVICE, _service(service, service.scheduler)


def new_idle_service(service: VirtualService) -> Request:
    """The service without its scheduler: servers can be added at no cost, none is chosen."""
    return Command.NEW_SERVICE, _service(service, abi.NO_SCHEDULER)


def set_service(service: VirtualService) -> Request:
    return Command.SET_SERVICE, _service(service, service.scheduler)


def del_service(key: ServiceKey) -> Request:
    return Command.DEL_SERVICE, service_key(key)


def get_service(key: ServiceKey) -> Request:
    return Command.GET_SERVICE, service_key(key)


def get_servers(key: ServiceKey) -> Request:
    return Command.GET_DEST, service_key(key)


def zero(key: ServiceKey | None = None) -> Request:
    """Set the counters of one service, or of all, to zero."""
    return Command.ZERO, b"" if key is None else service_key(key)


@lru_cache(maxsize=4096)
def service_key(key: ServiceKey) -> bytes:
    """The SERVICE attribute that names a service."""
    return pack(Cmd.SERVICE, _key_attributes(key))


def server(server: RealServer) -> bytes:
    """The DEST attribute with everything about a server."""
    address = server.address
    ipv4 = type(address) is IPv4Address  # as int() below, half the cost of the properties
    return _SERVER.pack(
        _SERVER_HEAD,
        int(address).to_bytes(4 if ipv4 else 16, "big"),
        _SERVER_PORT,
        htons(server.port),
        _SERVER_WEIGHT,
        server.weight,
    ) + _server_rest(
        ipv4, server.forwarding, server.tunnel, server.upper_threshold, server.lower_threshold
    )


def server_key(address: IPAddress, port: int) -> bytes:
    """The DEST attribute that names a server."""
    return pack(
        Cmd.DEST,
        b"".join(
            (
                pack(Dest.ADDR, _ADDRESS.pack(address.packed)),
                pack(Dest.PORT, _U16.pack(htons(port))),
                pack(Dest.ADDR_FAMILY, _U16.pack(_family(type(address)))),
            )
        ),
    )


@lru_cache(maxsize=1024)
def _server_rest(
    ipv4: bool,
    forwarding: Forwarding,
    tunnel: Tunnel | None,
    upper: int,
    lower: int,
) -> bytes:
    tunnel = tunnel or _NO_TUNNEL
    flags = abi.TUNNEL_FLAG_CSUM if tunnel.checksum else 0
    return b"".join(
        (
            pack(Dest.ADDR_FAMILY, _U16.pack(abi.AF_INET if ipv4 else abi.AF_INET6)),
            pack(Dest.FWD_METHOD, _U32.pack(abi.FORWARDINGS[forwarding])),
            pack(Dest.U_THRESH, _U32.pack(upper)),
            pack(Dest.L_THRESH, _U32.pack(lower)),
            pack(Dest.TUN_TYPE, _U8.pack(abi.TUNNELS[tunnel.type])),
            pack(Dest.TUN_PORT, _U16.pack(htons(tunnel.port))),
            pack(Dest.TUN_FLAGS, _U16.pack(flags)),
        )
    )


def _service(service: VirtualService, scheduler: Scheduler | str) -> bytes:
    attributes = service_key(service.key)[_HEADER.size :]
    attributes += _service_settings(
        service.family, scheduler, service.flags, service.persistence, service.one_packet
    )
    return _HEADER.pack(_HEADER.size + len(attributes), Cmd.SERVICE) + attributes


@lru_cache(maxsize=256)
def _service_settings(
    family: Family,
    scheduler: Scheduler | str,
    scheduler_flags: frozenset[SchedulerFlag],
    persistence: Persistence | None,
    one_packet: bool,
) -> bytes:
    flags = abi.SVC_F_ONEPACKET if one_packet else 0
    for flag, bit in abi.FLAGS_OF.get(scheduler, ()):
        if flag in scheduler_flags:
            flags |= bit
    timeout, prefix, engine = 0, family.max_prefix, b""
    if persistence is not None:
        flags |= abi.SVC_F_PERSISTENT
        timeout, prefix = persistence.timeout, persistence.prefix
        if persistence.engine is not None:
            engine = pack(Svc.PE_NAME, persistence.engine.encode() + b"\0")
    return b"".join(
        (
            pack(Svc.SCHED_NAME, scheduler.encode() + b"\0"),
            engine,
            # With the whole mask, a flag that is not asked for is cleared.
            pack(Svc.FLAGS, _FLAGS.pack(flags, 0xFFFFFFFF)),
            pack(Svc.TIMEOUT, _U32.pack(timeout)),
            pack(Svc.NETMASK, _netmask(family, prefix)),
        )
    )


def _key_attributes(key: ServiceKey) -> bytes:
    if isinstance(key, FwmarkKey):
        number = abi.AF_INET if key.family is Family.IPV4 else abi.AF_INET6
        return pack(Svc.AF, _U16.pack(number)) + pack(Svc.FWMARK, _U32.pack(key.fwmark))
    protocol = abi.PROTOCOLS.get(key.protocol)
    return b"".join(
        (
            pack(Svc.AF, _U16.pack(_family(type(key.address)))),
            # A foreign service's protocol is called by its number (replies.foreign()).
            pack(Svc.PROTOCOL, _U16.pack(int(key.protocol) if protocol is None else protocol)),
            pack(Svc.ADDR, _ADDRESS.pack(key.address.packed)),
            pack(Svc.PORT, _U16.pack(htons(key.port))),
        )
    )


def _netmask(family: Family, prefix: int) -> bytes:
    """IPv4: a mask in network order. IPv6: the prefix length in host order."""
    if family is Family.IPV6:
        return _U32.pack(prefix)
    return _BE32.pack(0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF)


def _family(kind: type[IPAddress]) -> int:
    return abi.AF_INET if kind is IPv4Address else abi.AF_INET6
