"""What rtnetlink says, from bytes: answers and notifications as the values of hops. Pure.

Every walk advances by at least a header, so hostile bytes end in :class:`MalformedError`, never
in a loop. What does not concern hops is no event.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple

from kernlb.datapath.xdp.hop_requests import (
    ATTRIBUTE,
    HEADER,
    IFINFO,
    INET,
    INET6,
    NDA_DST,
    NDA_FLAGS_EXT,
    NDA_LLADDR,
    NDA_PROTOCOL,
    NDMSG,
    NTF_EXT_LEARNED,
    NTF_EXT_MANAGED,
    PROTOCOL,
    RTA_DST,
    RTMSG,
)
from kernlb.datapath.xdp.hops import (
    AddressesChanged,
    Event,
    Link,
    LinkGone,
    Neighbour,
    NeighbourGone,
    NextHop,
    NoRoute,
    Question,
    Route,
    RoutesChanged,
)
from kernlb.model import Family, IPAddress

ERROR, DONE = 2, 3
_NEW_LINK, _DEL_LINK, _NEW_ADDR, _DEL_ADDR = 16, 17, 20, 21
_NEW_ROUTE, _DEL_ROUTE, _NEW_NEIGH, _DEL_NEIGH = 24, 25, 28, 29
_NEW_RULE, _DEL_RULE, _NEW_NEXTHOP, _DEL_NEXTHOP = 32, 33, 104, 105

_ARPHRD_ETHER = 1
_IFF_UP, _IFF_NOARP, _IFF_LOWER_UP = 0x1, 0x80, 0x10000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK = 1, 3, 4, 5
_IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_LINK_NETNSID = 18, 26, 37
_INFO_KIND, _INFO_DATA = 1, 2
_VLAN_ID, _VLAN_PROTOCOL, _BOND_MODE = 1, 5, 1
_INET6_CONF, _DEVCONF_MTU6 = 2, 2

_RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_METRICS, _RTA_VIA = 4, 5, 7, 8, 18
_RTAX_MTU = 2
_UNICAST = 1
_DISCARDS, _UNREACHABLE, _PROHIBITS = (
    "a route discards what goes to {}",
    "a route declares {} unreachable",
    "a route or rule prohibits {}",
)
_NO_ROUTE = "no route to {}"
_REASONS = {  # by RTN_* of the route that was found
    2: "{} is this host itself, and XDP cannot deliver to it",
    3: "{} is a broadcast address",
    4: "{} is an anycast address of this host",
    5: "{} is a multicast address",
    6: _DISCARDS,
    7: _UNREACHABLE,
    8: _PROHIBITS,
    9: _NO_ROUTE,
}
_REASONS_BY_ERRNO = {  # fib_props[], net/ipv4/fib_semantics.c
    errno.EINVAL: _DISCARDS,
    errno.EHOSTUNREACH: _UNREACHABLE,
    errno.EACCES: _PROHIBITS,
    errno.ENETUNREACH: _NO_ROUTE,
}
_ORDER: Literal["little", "big"] = "little" if struct.pack("=H", 1)[0] else "big"
_EVERY_ROUTE = tuple(RoutesChanged(each, 0, (1 << each.max_prefix) - 1) for each in Family)


class MalformedError(OSError):
    """These bytes are no rtnetlink message."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EBADMSG, f"cannot read rtnetlink: {why}")


class Message(NamedTuple):
    type: int
    sequence: int
    body: bytes

    @property
    def errno(self) -> int:
        """Of an ERROR message; 0 acknowledges."""
        return -int.from_bytes(self.body[:4], _ORDER, signed=True)


def split(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    start, size = 0, len(data)
    while start < size:
        if start + HEADER.size > size:
            raise MalformedError(f"{size - start} bytes are left after the last message")
        length, kind, _flags, sequence, _port = HEADER.unpack_from(data, start)
        if length < HEADER.size or start + length > size:
            raise MalformedError(f"a message of {length} bytes with {size - start} left")
        yield Message(kind, sequence, data[start + HEADER.size : start + length])
        start += length + (-length & 3)


def route(question: Question, message: Message) -> Route | NoRoute:
    """The answer to one question."""
    destination, body = question.destination, message.body
    if message.type == ERROR:
        number = message.errno
        name = errno.errorcode.get(number, str(number))
        text = _REASONS_BY_ERRNO.get(number, f"cannot look up the route to {{}}: {name}")
        return NoRoute(text.format(destination))
    if len(body) < RTMSG.size:
        raise MalformedError(f"an answer of {len(body)} bytes")
    found, kind = _attributes(body, RTMSG.size), body[7]
    if kind != _UNICAST:
        return NoRoute(_REASONS.get(kind, "the route to {} is none").format(destination))
    if _RTA_OIF not in found:
        return NoRoute(f"the route to {destination} names no interface")
    gateway = _address(found[_RTA_GATEWAY]) if _RTA_GATEWAY in found else None
    if _RTA_VIA in found:  # of the other family, which stands in the first two bytes
        gateway = _address(found[_RTA_VIA][2:])
    source = _address(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else question.source
    metrics = _attributes(found[_RTA_METRICS], 0) if _RTA_METRICS in found else {}
    return Route(_number(found[_RTA_OIF]), gateway, source, _number(metrics.get(_RTAX_MTU, b"")))


def event(message: Message) -> tuple[Event, ...]:
    """What a notification, or a message of a dump, says."""
    kind, body = message.type, message.body
    try:
        if kind in (_NEW_NEIGH, _DEL_NEIGH):
            return _neighbour(body, gone=kind == _DEL_NEIGH)
        if kind in (_NEW_ROUTE, _DEL_ROUTE):
            return _routes(body)
        if kind in (_NEW_LINK, _DEL_LINK):
            return _link(body, gone=kind == _DEL_LINK)
        if kind in (_NEW_ADDR, _DEL_ADDR):
            return (AddressesChanged(int.from_bytes(body[4:8], _ORDER)),)
    except (struct.error, IndexError) as error:
        raise MalformedError(f"a message of {len(body)} bytes and type {kind}") from error
    rules = (_NEW_RULE, _DEL_RULE, _NEW_NEXTHOP, _DEL_NEXTHOP)
    return _EVERY_ROUTE if kind in rules else ()


def _neighbour(body: bytes, *, gone: bool) -> tuple[Event, ...]:
    family, ifindex, state, flags, _type = NDMSG.unpack_from(body)
    found = _attributes(body, NDMSG.size)
    if family not in (INET, INET6) or NDA_DST not in found:
        return ()  # of a bridge
    to = NextHop(ifindex, _address(found[NDA_DST]))
    if gone:
        return (NeighbourGone(to),)
    return (
        Neighbour(
            to,
            state,
            mac=found.get(NDA_LLADDR, b""),
            managed=bool(_number(found.get(NDA_FLAGS_EXT, b"")) & NTF_EXT_MANAGED),
            ours=_number(found.get(NDA_PROTOCOL, b"")) == PROTOCOL,
            learned=bool(flags & NTF_EXT_LEARNED),
        ),
    )


def _routes(body: bytes) -> tuple[Event, ...]:
    number, length = body[0], body[1]
    if number not in (INET, INET6):
        return ()
    family = Family.IPV4 if number == INET else Family.IPV6
    if length > family.max_prefix:
        raise MalformedError(f"an {family} prefix of {length} bits")
    packed = _attributes(body, RTMSG.size).get(RTA_DST, b"")
    first = int.from_bytes(packed, "big")
    return (RoutesChanged(family, first, first | ((1 << (family.max_prefix - length)) - 1)),)


def _link(body: bytes, *, gone: bool) -> tuple[Event, ...]:
    family, hardware, index, flags, _change = IFINFO.unpack_from(body)
    if family != 0:
        return ()  # a bridge's port, or a device's settings for IPv6
    if gone:
        return (LinkGone(index),)
    found = _attributes(body, IFINFO.size)
    info = _attributes(found.get(_IFLA_LINKINFO, b""), 0)
    kind = _text(info.get(_INFO_KIND, b""))
    data = _attributes(info.get(_INFO_DATA, b""), 0) if kind in ("vlan", "bond") else {}
    ethernet = hardware == _ARPHRD_ETHER
    here = _IFLA_LINK_NETNSID not in found
    link = Link(
        index,
        _text(found.get(_IFLA_IFNAME, b"")),
        mac=found.get(_IFLA_ADDRESS, b"") if ethernet else b"",
        mtu=_number(found.get(_IFLA_MTU, b"")),
        kind=kind,
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        arp=ethernet and not flags & _IFF_NOARP,
        mtu6=_mtu6(found.get(_IFLA_AF_SPEC, b"")),
    )
    if kind == "vlan":
        link = replace(
            link,
            parent=_number(found.get(_IFLA_LINK, b"")) if here else 0,
            vlan=_number(data.get(_VLAN_ID, b"")),
            vlan_protocol=int.from_bytes(data.get(_VLAN_PROTOCOL, b"\x81\0"), "big"),
        )
    elif kind == "bond":
        link = replace(link, bond_mode=_number(data.get(_BOND_MODE, b"")))
    return (link,)


def _mtu6(families: bytes) -> int:
    """Of AF_INET6's settings (an array of int), 0 if they are not there."""
    settings = _attributes(families, 0).get(INET6, b"")
    values = _attributes(settings, 0).get(_INET6_CONF, b"")
    return _number(values[4 * _DEVCONF_MTU6 : 4 * _DEVCONF_MTU6 + 4])


def _attributes(data: bytes, start: int) -> dict[int, bytes]:
    found, end = {}, len(data)
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            raise MalformedError(f"an attribute of {length} bytes with {end - start} left")
        found[kind & 0x3FFF] = data[start + 4 : start + length]  # NLA_TYPE_MASK
        start += length + (-length & 3)
    return found


def _address(packed: bytes) -> IPAddress:
    if len(packed) == 4:
        return IPv4Address(packed)
    if len(packed) == 16:
        return IPv6Address(packed)
    raise MalformedError(f"an address of {len(packed)} bytes")


def _number(packed: bytes) -> int:
    """In host order; 0 where there is none."""
    return int.from_bytes(packed, _ORDER)


def _text(packed: bytes) -> str:
    return packed.rstrip(b"\0").decode(errors="replace")
