"""Decoding: the kernel's answers to values of the model. Pure.

What kernlb has no word for (a scheduler from outside the kernel tree, a forwarding method that
only a program can set) is read as a *foreign* enum member: it prints as what it is and differs
from every value that can be desired, so foreign services are shown and drift of ours is seen.

Kernel side: net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_genl_fill_service() and _fill_dest().
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from socket import ntohs
from typing import TypeVar

from kernlb.datapath import Counters, ServerStats
from kernlb.datapath.ipvs import abi
from kernlb.datapath.ipvs.abi import Cmd, Dest, Svc
from kernlb.datapath.ipvs.attributes import MalformedReplyError, Run, nested
from kernlb.datapath.ipvs.shape import Shape
from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    FwmarkKey,
    IPAddress,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    ServerKey,
    ServiceKey,
    Tunnel,
    TunnelType,
    VirtualService,
)

NO_PREFIX = -1  # a netmask that is no prefix, as `ipvsadm -M 255.0.255.0` makes it

Attributes = dict[int, tuple[int, int]]
Word = TypeVar("Word", bound=StrEnum)

_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")

_SERVERS = Shape(
    Cmd.DEST,
    (
        ((Dest.ADDR,), "16s", None),
        ((Dest.PORT,), "H", None),
        ((Dest.FWD_METHOD,), "I", None),
        ((Dest.WEIGHT,), "I", None),
        ((Dest.TUN_TYPE,), "B", 0),
        ((Dest.TUN_PORT,), "H", 0),
        ((Dest.TUN_FLAGS,), "H", 0),
        ((Dest.U_THRESH,), "I", None),
        ((Dest.L_THRESH,), "I", None),
        ((Dest.ADDR_FAMILY,), "H", None),
    ),
)
_CONFIGURED = Shape(  # the same as bytes, to be compared but not understood
    Cmd.DEST,
    (
        ((Dest.ADDR,), "16s", None),
        ((Dest.PORT,), "2s", None),
        ((Dest.FWD_METHOD,), "4s", None),
        ((Dest.WEIGHT,), "4s", None),
        ((Dest.TUN_TYPE,), "1s", b"\0"),
        ((Dest.TUN_PORT,), "2s", b"\0\0"),
        ((Dest.TUN_FLAGS,), "2s", b"\0\0"),
        ((Dest.U_THRESH,), "4s", None),
        ((Dest.L_THRESH,), "4s", None),
        ((Dest.ADDR_FAMILY,), "2s", None),
    ),
)
_SERVER_STATS = Shape(
    Cmd.DEST,
    (
        ((Dest.ADDR,), "16s", None),
        ((Dest.PORT,), "H", None),
        ((Dest.ACTIVE_CONNS,), "I", None),
        ((Dest.INACT_CONNS,), "I", None),
        ((Dest.PERSIST_CONNS,), "I", None),
        ((Dest.ADDR_FAMILY,), "H", None),
        *(((Dest.STATS64, number), "Q", 0) for number in range(1, 11)),
    ),
)
_SERVICE_STATS = Shape(
    Cmd.SERVICE, tuple(((Svc.STATS64, number), "Q", 0) for number in range(1, 11))
)


@lru_cache(maxsize=256)
def foreign(kind: type[Word], name: str) -> Word:
    """A member of ``kind`` that is not listed in it and equals none that is."""
    member = str.__new__(kind, name)
    member._name_ = name
    member._value_ = name
    return member


def errno_of(run: Run) -> int:
    """The positive errno of an NLMSG_ERROR, 0 for an acknowledgement."""
    if run.length < 20:
        raise MalformedReplyError(f"error message of {run.length} bytes")
    number: int = _S32.unpack_from(run.data, run.start + 16)[0]
    return -number


def services(runs: list[Run]) -> Iterator[VirtualService]:
    for run in runs:
        for start in range(run.start, run.start + run.length * run.messages, run.length):
            yield _service(run.data, nested(run.data, start, start + run.length, Cmd.SERVICE))


def servers(runs: list[Run]) -> Iterator[RealServer]:
    for run in runs:
        for address, port, forward, weight, kind, t_port, t_flags, u, low, af in _SERVERS.rows(run):
            method = forward & abi.FWD_MASK
            forwarding = abi.FORWARDING_OF.get(method) or foreign(Forwarding, f"method-{method}")
            tunnel = None
            if forwarding is Forwarding.TUNNEL:
                tunnel = _tunnel(kind, ntohs(t_port), t_flags)
            yield RealServer(_address(af, address), ntohs(port), weight, forwarding, tunnel, u, low)


def fingerprint(service: Run, dumped: list[Run]) -> bytes:
    """A digest of what is configured, whatever the order in which servers were added."""
    end = service.start + service.length
    places = nested(service.data, service.start, end, Cmd.SERVICE)
    if not places:
        raise MalformedReplyError("a service without attributes")
    first = min(start for start, _end in places.values())
    stats = places.get(Svc.STATS) or places.get(Svc.STATS64) or (end, end)
    digest = blake2b(service.data[first : stats[0]], digest_size=16)
    rows = [b"".join(row) for run in dumped for row in _CONFIGURED.rows(run)]
    rows.sort()
    digest.update(b"".join(rows))
    return digest.digest()


def service_counters(run: Run) -> Counters:
    return Counters(*next(iter(_SERVICE_STATS.rows(run))))


def server_stats(runs: list[Run]) -> Iterator[tuple[ServerKey, ServerStats]]:
    for run in runs:
        for address, port, active, inactive, persistent, af, *counts in _SERVER_STATS.rows(run):
            key = ServerKey(_address(af, address), ntohs(port))
            yield key, ServerStats(Counters(*counts), active, inactive, persistent)


def _service(data: bytes, places: Attributes) -> VirtualService:
    flags = _number(data, places, Svc.FLAGS)
    name = _text(data, places, Svc.SCHED_NAME)
    scheduler = abi.SCHEDULER_OF.get(name) or foreign(Scheduler, name)
    key = _key(data, places)
    persistence = None
    if flags & abi.SVC_F_PERSISTENT:
        persistence = Persistence(
            timeout=_number(data, places, Svc.TIMEOUT),
            prefix=_prefix(data, places, key.family),
            engine=_text(data, places, Svc.PE_NAME) if Svc.PE_NAME in places else None,
        )
    return VirtualService(
        key=key,
        scheduler=scheduler,
        flags=frozenset(flag for flag, bit in abi.FLAGS_OF.get(scheduler, ()) if flags & bit),
        persistence=persistence,
        one_packet=bool(flags & abi.SVC_F_ONEPACKET),
    )


def _key(data: bytes, places: Attributes) -> ServiceKey:
    family = _number(data, places, Svc.AF)
    if Svc.FWMARK in places:
        mark = _number(data, places, Svc.FWMARK)
        return FwmarkKey(Family.IPV4 if family == abi.AF_INET else Family.IPV6, mark)
    number = _number(data, places, Svc.PROTOCOL)
    protocol = abi.PROTOCOL_OF.get(number) or foreign(L4Protocol, str(number))
    start, end = _place(places, Svc.ADDR, 16)
    port = ntohs(_number(data, places, Svc.PORT))
    return AddressKey(protocol, _address(family, data[start:end]), port)


def _prefix(data: bytes, places: Attributes, family: Family) -> int:
    if family is Family.IPV6:
        return _number(data, places, Svc.NETMASK)
    start, _end = _place(places, Svc.NETMASK, 4)
    mask = int.from_bytes(data[start : start + 4], "big")
    prefix = mask.bit_count()
    return prefix if mask == 0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF else NO_PREFIX


@lru_cache(maxsize=256)
def _tunnel(kind: int, port: int, flags: int) -> Tunnel:
    tunnel = abi.TUNNEL_OF.get(kind) or foreign(TunnelType, f"type-{kind}")
    if flags & ~abi.TUNNEL_FLAG_CSUM:
        tunnel = foreign(TunnelType, f"{tunnel}+flags-{flags}")  # remote checksum offload
    return Tunnel(tunnel, port, bool(flags & abi.TUNNEL_FLAG_CSUM))


@lru_cache(maxsize=65536)
def _address(family: int, packed: bytes) -> IPAddress:
    if family == abi.AF_INET:
        return IPv4Address(packed[:4])
    if family == abi.AF_INET6:
        return IPv6Address(packed[:16])
    raise MalformedReplyError(f"address family {family}")


def _place(places: Attributes, kind: int, size: int) -> tuple[int, int]:
    if kind not in places or places[kind][1] - places[kind][0] < size:
        raise MalformedReplyError(f"attribute {kind} is missing or short")
    return places[kind]


def _number(data: bytes, places: Attributes, kind: int) -> int:
    """A number of two or four bytes (the first four of longer ones: FLAGS has a mask behind)."""
    start, end = _place(places, kind, 2)
    packing = _U32 if end - start >= 4 else _U16
    number: int = packing.unpack_from(data, start)[0]
    return number


def _text(data: bytes, places: Attributes, kind: int) -> str:
    start, end = _place(places, kind, 1)
    return data[start:end].partition(b"\0")[0].decode(errors="replace")
