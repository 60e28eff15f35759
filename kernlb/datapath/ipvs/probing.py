"""Probes at a VIP by IPVS: for each mark a firewall-mark service with exactly one server.

A socket's mark is seen where local packets leave (ip_vs_in() at LOCAL_OUT), before the kernel
would deliver them to the VIP on this host, and mark services are looked up before all others
(ip_vs_service_find()). One packet at a time: UDP leaves no connection entry that a later probe,
from the same port to another server, could fall into.

These services are known by their mark and settings, so that nothing has to be written down, and
nobody else's is ever touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Protocol

from kernlb.datapath import Failure
from kernlb.datapath.probing import MARKS, Path, Paths
from kernlb.model import (
    FwmarkKey,
    RealServer,
    Scheduler,
    ServiceKey,
    ServiceState,
    VirtualService,
)
from kernlb.plan import AddServer, AddService, Op, RemoveServer, RemoveService

LOOKS = 64  # services that a carry looks at again


def is_ours(service: VirtualService) -> bool:
    key = service.key
    return isinstance(key, FwmarkKey) and key.fwmark in MARKS and service == _service(key)


class Ipvs(Protocol):
    """The part of IPVSDatapath that is needed here."""

    def probing(self) -> list[VirtualService]: ...
    def read(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceState]: ...
    def apply(self, ops: list[Op]) -> list[Failure]: ...


class ProbeServices:
    """Those of one network namespace."""

    def __init__(self, ipvs: Ipvs) -> None:
        self._ipvs = ipvs
        self._there: dict[ServiceKey, ServiceState] | None = None  # as last seen
        self._paths: dict[int, Path] = {}
        self._wanted: dict[FwmarkKey, ServiceState] = {}

    def carry(self, paths: Paths) -> Mapping[int, str]:
        there = self._look()
        if paths != self._paths:
            self._paths = dict(paths)
            keys = [(FwmarkKey(path.family, mark), path) for mark, path in paths.items()]
            self._wanted = {k: ServiceState(_service(k), (_server(path),)) for k, path in keys}
        wanted = self._wanted
        taken = self._taken([key for key in wanted if key not in there])
        ops: list[Op] = []
        for key, state in wanted.items():
            if there.get(key) != state and key not in taken:
                ops += _make(state, there.get(key))
        ops += [RemoveService(state.service) for key, state in there.items() if key not in wanted]
        refused = {failure.op.key: failure.detail for failure in self._ipvs.apply(ops)}
        self._there = {
            **{key: state for key, state in there.items() if key in refused},
            **{k: state for k, state in wanted.items() if k not in refused and k not in taken},
        }
        refused |= {key: f"{key} is somebody else's service" for key in taken}
        return {key.fwmark: why for key, why in refused.items() if isinstance(key, FwmarkKey)}

    def close(self) -> None:
        pass  # the datapath is not ours to close

    def _look(self) -> dict[ServiceKey, ServiceState]:
        """What is there: all at first, then some at a time again."""
        if self._there is None:
            return self._ipvs.read([each.key for each in self._ipvs.probing()])
        looks = list(islice(self._there, LOOKS))
        seen = self._ipvs.read(looks)
        rest = {key: state for key, state in self._there.items() if key not in looks}
        return rest | seen  # the next look begins where this one ended

    def _taken(self, keys: list[FwmarkKey]) -> set[ServiceKey]:
        found = self._ipvs.read(keys)
        return {key for key, state in found.items() if not is_ours(state.service)}


def _service(key: FwmarkKey) -> VirtualService:
    return VirtualService(key, Scheduler.RR, one_packet=True)


def _server(path: Path) -> RealServer:
    """As declared, but for what says how much it gets."""
    server = path.server
    return RealServer(server.address, server.port, 1, server.forwarding, server.tunnel)


def _make(state: ServiceState, before: ServiceState | None) -> list[Op]:
    """Adding what is there makes it as asked; another server than ours goes first, for with two
    of them the wrong one could be asked."""
    key = state.key
    (server,) = state.servers
    old = before.servers if before is not None else ()
    gone: list[Op] = [RemoveServer(key, each) for each in old if each.key != server.key]
    return [AddService(state.service), *gone, AddServer(key, server)]
