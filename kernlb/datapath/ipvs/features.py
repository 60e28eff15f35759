"""What this kernel's IPVS can do, found out by doing it.

Probes work on services of a reserved firewall mark that no packet carries. They are removed at
once, and what a killed probe left is removed at the next start. Trying a scheduler loads its
module, so :meth:`Probe.supports` tries only the one that is asked for.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from kernlb.datapath import DatapathUnavailableError, Features
from kernlb.datapath.ipvs import replies, requests, settings
from kernlb.datapath.ipvs.abi import Command
from kernlb.datapath.ipvs.attributes import Run
from kernlb.datapath.ipvs.netlink import Netlink
from kernlb.model import (
    DatapathKind,
    Family,
    Forwarding,
    FwmarkKey,
    Persistence,
    RealServer,
    Scheduler,
    Tunnel,
    TunnelType,
    VirtualService,
)

_MARK = 0x6B6C62FE
_SIGN = 7_341_001  # a persistence (85 days) by which a probe is told from anyone's service
_SERVERS = {Family.IPV4: ip_address("192.0.2.1"), Family.IPV6: ip_address("2001:db8::1")}


def is_probe(service: VirtualService) -> bool:
    """True for what a probe made, now or before it was killed."""
    key, persistence = service.key, service.persistence
    if not isinstance(key, FwmarkKey) or key.fwmark != _MARK or persistence is None:
        return False
    return persistence.timeout == _SIGN


class Probe:
    """Remembers what it has tried."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._schedulers: dict[Scheduler, bool] = {}
        self._features: Features | None = None
        self._clean()

    def information(self) -> settings.Information:
        run = self._netlink.ask(requests.GET_INFO)
        if run is None:
            raise DatapathUnavailableError(errno.ESRCH, "cannot ask IPVS for its version")
        return settings.information(run)

    def supports(self, scheduler: Scheduler) -> bool:
        if scheduler not in self._schedulers:
            with self._service(Family.IPV4, scheduler) as made:
                self._schedulers[scheduler] = made
        return self._schedulers[scheduler]

    def features(self) -> Features:
        if self._features is None:
            information = self.information()
            self._features = Features(
                kind=DatapathKind.IPVS,
                version=information.version,
                schedulers=frozenset(s for s in Scheduler if self.supports(s)),
                tunnels=frozenset(t for t in TunnelType if self._takes_tunnel(t)),
                mixed_families=self._mixes(Family.IPV4) and self._mixes(Family.IPV6),
                connection_table_size=information.connection_table_size,
            )
        return self._features

    def _takes_tunnel(self, kind: TunnelType) -> bool:
        """Old kernels ignore the type silently, so what they kept is read back."""
        tunnel = Tunnel(kind, port=6080 if kind is TunnelType.GUE else 0)
        return self._takes(Family.IPV4, _server(Family.IPV4, tunnel))

    def _mixes(self, family: Family) -> bool:
        other = Family.IPV6 if family is Family.IPV4 else Family.IPV4
        return self._takes(family, _server(other, Tunnel()))

    def _takes(self, family: Family, server: RealServer) -> bool:
        with self._service(family, None) as made:
            if not made:
                return False
            key = FwmarkKey(family, _MARK)
            add = Command.NEW_DEST, requests.service_key(key) + requests.server(server)
            if self._netlink.exchange([add]):
                return False
            dumped = self._netlink.dump(requests.get_servers(key))
            return list(replies.servers(dumped)) == [server]

    @contextmanager
    def _service(self, family: Family, scheduler: Scheduler | None) -> Iterator[bool]:
        """True while a service is there that has ``scheduler``, or none at all."""
        key = FwmarkKey(family, _MARK)
        sign = Persistence(_SIGN, key.family.max_prefix)
        service = VirtualService(key, scheduler or Scheduler.RR, persistence=sign)
        encode = requests.new_service if scheduler else requests.new_idle_service
        number = self._netlink.exchange([encode(service)]).get(0, 0)
        if number == errno.EPERM:
            raise DatapathUnavailableError(number, "cannot probe IPVS: CAP_NET_ADMIN is needed")
        if number == errno.EEXIST:
            raise DatapathUnavailableError(
                number, f"cannot probe IPVS: firewall mark {_MARK:#x} is reserved but in use"
            )
        try:
            yield number == 0
        finally:
            if number == 0:
                self._netlink.exchange([requests.del_service(key)])

    def _clean(self) -> None:
        for family in Family:
            key = FwmarkKey(family, _MARK)
            if (run := self._ask(key)) is not None and is_probe(next(replies.services([run]))):
                self._netlink.exchange([requests.del_service(key)])

    def _ask(self, key: FwmarkKey) -> Run | None:
        try:
            return self._netlink.ask(requests.get_service(key))
        except DatapathUnavailableError as error:
            if error.errno == errno.EAFNOSUPPORT:  # a kernel without IPv6
                return None
            raise


def _server(family: Family, tunnel: Tunnel) -> RealServer:
    return RealServer(_SERVERS[family], 80, forwarding=Forwarding.TUNNEL, tunnel=tunnel)
