"""What is asked of rtnetlink, as bytes: links, neighbours, the way to a destination. Pure.

pyroute2 reads one answer in 94 us; with :mod:`.hop_replies` a question and its answer take 30. A
balancer asks for every one of its servers, and events come in storms.

Layouts: include/uapi/linux/{netlink,rtnetlink,neighbour,if_link}.h. Numbers are in host order.
"""

from __future__ import annotations

import struct

from kernlb.datapath.xdp.hops import NextHop, Question
from kernlb.model import Family, IPAddress

# Multicast groups that carry what hops depend on (RTNLGRP_*): links, neighbours, then addresses,
# routes and rules of IPv4, the same of IPv6, nexthop objects.
GROUPS = (1, 3, 5, 7, 8, 9, 11, 19, 32)

# Marks neighbours that are kept because of kernlb; a number as those of /etc/iproute2/rt_protos.
PROTOCOL = 107

GET_LINK, GET_ROUTE, NEW_NEIGH, GET_NEIGH = 18, 26, 28, 30
INET, INET6 = 2, 10

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg
NDMSG = struct.Struct("=BxxxiHBB")  # struct ndmsg
RTMSG = struct.Struct("=BBBBBBBBI")  # struct rtmsg
ATTRIBUTE = struct.Struct("=HH")
U32 = struct.Struct("=I")

NDA_DST, NDA_LLADDR, NDA_PROTOCOL, NDA_FLAGS_EXT = 1, 2, 12, 15
NTF_USE, NTF_EXT_LEARNED = 0x01, 0x10
NTF_EXT_MANAGED = 0x01  # of NDA_FLAGS_EXT
RTA_DST, RTA_SRC = 1, 2

_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 0x01, 0x04, 0x200, 0x400, 0x300
_IFLA_EXT_MASK = 29
_SKIP_STATS = 1 << 3


def get_links(sequence: int) -> bytes:
    mask = _attribute(_IFLA_EXT_MASK, U32.pack(_SKIP_STATS))
    return _message(GET_LINK, _REQUEST | _DUMP, sequence, IFINFO.pack(0, 0, 0, 0, 0) + mask)


def get_neighbours(family: Family, sequence: int) -> bytes:
    body = NDMSG.pack(INET if family is Family.IPV4 else INET6, 0, 0, 0, 0)
    return _message(GET_NEIGH, _REQUEST | _DUMP, sequence, body)


def get_route(question: Question, sequence: int) -> bytes:
    """The lookup that a packet of this host's own would make: rules, tables, path MTU and all."""
    destination, source = question
    bits = destination.max_prefixlen
    body = RTMSG.pack(_family(destination), bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
    body += _attribute(RTA_DST, destination.packed)
    if source:
        body += _attribute(RTA_SRC, source.packed)
    return _message(GET_ROUTE, _REQUEST, sequence, body)


def keep(to: NextHop, new: bool, sequence: int) -> bytes:
    """Have the kernel look a neighbour up now, and keep it resolved from now on.

    Before 5.16 the kernel has no managed neighbours and ignores the attribute: NTF_USE alone
    looks it up, once. EXT_LEARNED keeps an entry from being collected, and from counting against
    the size of the table. An entry that exists keeps its state and address, but not its
    permanence (net/core/neighbour.c, __neigh_update()): ``new`` refuses to touch one."""
    body = _neighbour(to, NTF_USE | NTF_EXT_LEARNED) + _attribute(NDA_PROTOCOL, bytes([PROTOCOL]))
    body += _attribute(NDA_FLAGS_EXT, U32.pack(NTF_EXT_MANAGED))
    flags = _REQUEST | _ACK | _CREATE | (_EXCL if new else 0)
    return _message(NEW_NEIGH, flags, sequence, body)


def look_up(to: NextHop, sequence: int) -> bytes:
    """Have the kernel look a neighbour up now; it forgets it again when nobody uses it."""
    return _message(NEW_NEIGH, _REQUEST | _ACK | _CREATE, sequence, _neighbour(to, NTF_USE))


def release(to: NextHop, sequence: int) -> bytes:
    """Make a kept neighbour an ordinary one, which the kernel forgets when nobody uses it."""
    return _message(NEW_NEIGH, _REQUEST | _ACK, sequence, _neighbour(to, NTF_USE))


def _neighbour(to: NextHop, flags: int) -> bytes:
    head = NDMSG.pack(_family(to.address), to.ifindex, 0, flags, 0)
    return head + _attribute(NDA_DST, to.address.packed)


def _family(address: IPAddress) -> int:
    return INET if address.version == 4 else INET6


def _attribute(kind: int, payload: bytes) -> bytes:
    length = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body
