"""Numbers of the kernel's IPVS interface, from include/uapi/linux/{netlink,genetlink,ip_vs}.h.

Nothing here decides or packs anything. Values of the model are mapped to the kernel's here, in
tables, so that ``requests`` and ``replies`` are each other's reverse by construction.
"""

from __future__ import annotations

from enum import IntEnum

from kernlb.model import Forwarding, L4Protocol, Scheduler, SchedulerFlag, TunnelType

FAMILY_NAME = b"IPVS\0"
FAMILY_VERSION = 1

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

GENL_ID_CTRL = 0x10
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2

AF_INET = 2
AF_INET6 = 10


class Command(IntEnum):
    NEW_SERVICE = 1
    SET_SERVICE = 2
    DEL_SERVICE = 3
    GET_SERVICE = 4
    NEW_DEST = 5
    SET_DEST = 6
    DEL_DEST = 7
    GET_DEST = 8
    NEW_DAEMON = 9
    DEL_DAEMON = 10
    GET_DAEMON = 11
    SET_CONFIG = 12
    GET_CONFIG = 13
    SET_INFO = 14
    GET_INFO = 15
    ZERO = 16
    FLUSH = 17


class Cmd(IntEnum):
    """Attributes of a command (IPVS_CMD_ATTR_*)."""

    SERVICE = 1
    DEST = 2
    DAEMON = 3
    TIMEOUT_TCP = 4
    TIMEOUT_TCP_FIN = 5
    TIMEOUT_UDP = 6


class Svc(IntEnum):
    """Attributes of a virtual service (IPVS_SVC_ATTR_*)."""

    AF = 1
    PROTOCOL = 2
    ADDR = 3
    PORT = 4
    FWMARK = 5
    SCHED_NAME = 6
    FLAGS = 7
    TIMEOUT = 8
    NETMASK = 9
    STATS = 10
    PE_NAME = 11
    STATS64 = 12


class Dest(IntEnum):
    """Attributes of a real server (IPVS_DEST_ATTR_*)."""

    ADDR = 1
    PORT = 2
    FWD_METHOD = 3
    WEIGHT = 4
    U_THRESH = 5
    L_THRESH = 6
    ACTIVE_CONNS = 7
    INACT_CONNS = 8
    PERSIST_CONNS = 9
    STATS = 10
    ADDR_FAMILY = 11
    STATS64 = 12
    TUN_TYPE = 13
    TUN_PORT = 14
    TUN_FLAGS = 15


class Daemon(IntEnum):
    """Attributes of a connection-sync daemon (IPVS_DAEMON_ATTR_*)."""

    STATE = 1
    MCAST_IFN = 2
    SYNC_ID = 3
    SYNC_MAXLEN = 4
    MCAST_GROUP = 5
    MCAST_GROUP6 = 6
    MCAST_PORT = 7
    MCAST_TTL = 8


class Info(IntEnum):
    """Attributes of the answer to GET_INFO (IPVS_INFO_ATTR_*)."""

    VERSION = 1
    CONN_TAB_SIZE = 2


SVC_F_PERSISTENT = 0x1
SVC_F_HASHED = 0x2  # set by the kernel on every service
SVC_F_ONEPACKET = 0x4
SVC_F_SCHED1 = 0x8
SVC_F_SCHED2 = 0x10

SCHEDULER_FLAGS: dict[SchedulerFlag, int] = {
    SchedulerFlag.SH_FALLBACK: SVC_F_SCHED1,
    SchedulerFlag.SH_PORT: SVC_F_SCHED2,
    SchedulerFlag.MH_FALLBACK: SVC_F_SCHED1,
    SchedulerFlag.MH_PORT: SVC_F_SCHED2,
}
PROTOCOLS = {L4Protocol.TCP: 6, L4Protocol.UDP: 17, L4Protocol.SCTP: 132}
FORWARDINGS = {Forwarding.NAT: 0, Forwarding.TUNNEL: 2, Forwarding.DSR: 3}
TUNNELS = {TunnelType.IPIP: 0, TunnelType.GUE: 1, TunnelType.GRE: 2}

FWD_MASK = 0x7
TUNNEL_FLAG_CSUM = 0x1
TUNNEL_FLAG_REMCSUM = 0x2

# A service without a scheduler: it takes servers and serves nobody (ip_vs_add_service()).
NO_SCHEDULER = "none"

PROTOCOL_OF = {number: protocol for protocol, number in PROTOCOLS.items()}
FORWARDING_OF = {number: forwarding for forwarding, number in FORWARDINGS.items()}
TUNNEL_OF = {number: tunnel for tunnel, number in TUNNELS.items()}
SCHEDULER_OF = {scheduler.value: scheduler for scheduler in Scheduler}
FLAGS_OF: dict[str, tuple[tuple[SchedulerFlag, int], ...]] = {
    scheduler: tuple(
        (flag, bit) for flag, bit in SCHEDULER_FLAGS.items() if flag.scheduler is scheduler
    )
    for scheduler in Scheduler
}
