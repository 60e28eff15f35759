"""The IPVS datapath: the kernel's own layer-4 load balancer, over generic netlink.

``requests`` and ``replies`` (on ``abi``, ``attributes``, ``shape``) turn values to bytes and back,
``program`` turns ops to requests, ``refusal`` turns errnos to sentences; all of them are pure.
``netlink`` is the one door to the kernel; ``datapath`` puts them together.
"""

from kernlb.datapath.ipvs.datapath import IPVSDatapath
from kernlb.datapath.ipvs.settings import SyncDaemon, SyncRole, Timeouts

__all__ = ["IPVSDatapath", "SyncDaemon", "SyncRole", "Timeouts"]
