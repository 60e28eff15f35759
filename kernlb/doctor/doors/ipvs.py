"""The door to IPVS. Asks only, and loads no module: a kernel without it says so."""

from __future__ import annotations

import errno
from pathlib import Path

from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.ipvs import probing, replies, requests, settings
from kernlb.datapath.ipvs.features import is_probe
from kernlb.datapath.ipvs.netlink import Netlink
from kernlb.datapath.ipvs.settings import SyncRole
from kernlb.doctor.facts import UnreadError
from kernlb.doctor.ipvs import Ipvs

_MODULE = Path("/sys/module/ip_vs")
MOST = 2000  # services whose connections are counted


def read() -> Ipvs:
    """Raises OSError, UnreadError."""
    if not _MODULE.exists() and not Path("/proc/net/ip_vs").exists():
        raise UnreadError("this kernel has no IPVS, or its module is not loaded")
    netlink = Netlink()
    try:
        return _read(netlink)
    except DatapathUnavailableError as error:
        if error.errno == errno.EPERM:
            raise UnreadError("IPVS cannot be asked: root is needed") from error
        raise
    finally:
        netlink.close()


def _read(netlink: Netlink) -> Ipvs:
    dumped = netlink.dump(requests.ALL_SERVICES)
    services = [
        each
        for each in replies.services(dumped)
        if not is_probe(each) and not probing.is_ours(each)
    ]
    connections = 0
    for service in services[:MOST]:
        servers = replies.server_stats(netlink.dump(requests.get_servers(service.key)))
        connections += sum(stats.active + stats.inactive for _, stats in servers)
    information = netlink.ask(requests.GET_INFO)
    size = 0
    if information is not None:
        size = settings.information(information).connection_table_size
    daemons = settings.daemons(netlink.dump(requests.GET_DAEMON))
    return Ipvs(
        frozenset(service.key for service in services),
        size,
        connections,
        any(daemon.role is SyncRole.BACKUP for daemon in daemons),
    )
