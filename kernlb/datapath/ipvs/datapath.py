"""IPVS as a :class:`kernlb.datapath.Datapath`.

It owns the order of requests within an apply, and idempotence: what exists is set, what is absent
need not be removed. Beyond the seam it offers what only IPVS has: timeouts and connection sync.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence

from kernlb.datapath import Failure, Features, ServiceStats
from kernlb.datapath.ipvs import probing, replies, requests, settings
from kernlb.datapath.ipvs.applying import Applying
from kernlb.datapath.ipvs.features import Probe, is_probe
from kernlb.datapath.ipvs.netlink import Netlink
from kernlb.datapath.ipvs.requests import Request
from kernlb.datapath.ipvs.settings import SyncDaemon, SyncRole, Timeouts
from kernlb.model import DatapathKind, Scheduler, ServiceKey, ServiceState, VirtualService
from kernlb.plan import Op


class IPVSDatapath:
    """The IPVS of the network namespace in which this is made."""

    def __init__(self, netlink: Netlink | None = None) -> None:
        """Raises DatapathUnavailableError where there is no IPVS."""
        self._netlink = netlink or Netlink()
        self._probe = Probe(self._netlink)

    @property
    def kind(self) -> DatapathKind:
        return DatapathKind.IPVS

    @property
    def version(self) -> str:
        return self._probe.information().version

    def close(self) -> None:
        self._netlink.close()

    def features(self) -> Features:
        """Tries every scheduler, which loads its module: ask :meth:`supports_scheduler` for one."""
        return self._probe.features()

    def supports_scheduler(self, scheduler: Scheduler) -> bool:
        return self._probe.supports(scheduler)

    @property
    def connection_table_size(self) -> int:
        """Hash buckets of the table of connections."""
        return self._probe.information().connection_table_size

    def services(self) -> list[VirtualService]:
        found = replies.services(self._netlink.dump(requests.ALL_SERVICES))
        return [each for each in found if not is_probe(each) and not probing.is_ours(each)]

    def probing(self) -> list[VirtualService]:
        """The services that carry health probes, which are none of those above."""
        found = replies.services(self._netlink.dump(requests.ALL_SERVICES))
        return [each for each in found if probing.is_ours(each)]

    def read(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceState]:
        states = {}
        for key in keys:
            run = self._netlink.ask(requests.get_service(key))
            if run is None:
                continue
            (service,) = replies.services([run])
            dumped = self._netlink.dump(requests.get_servers(key))
            states[key] = ServiceState(service, tuple(replies.servers(dumped)))
        return states

    def fingerprint(self, key: ServiceKey) -> bytes | None:
        run = self._netlink.ask(requests.get_service(key))
        if run is None:
            return None
        return replies.fingerprint(run, self._netlink.dump(requests.get_servers(key)))

    def stats(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceStats]:
        counts = {}
        for key in keys:
            run = self._netlink.ask(requests.get_service(key))
            if run is None:
                continue
            dumped = self._netlink.dump(requests.get_servers(key))
            servers = dict(replies.server_stats(dumped))
            counts[key] = ServiceStats(replies.service_counters(run), servers)
        return counts

    def apply(self, ops: Sequence[Op]) -> list[Failure]:
        return Applying(self._netlink, ops).run()

    def flush(self) -> None:
        """Remove every service of this namespace, whoever made it."""
        self._command("flush IPVS", requests.FLUSH)

    def zero(self, key: ServiceKey | None = None) -> None:
        """Set counters to zero: of one service, or of all."""
        self._command(f"zero the counters of {key or 'IPVS'}", requests.zero(key))

    def timeouts(self) -> Timeouts:
        run = self._netlink.ask(requests.GET_CONFIG)
        return Timeouts() if run is None else settings.timeouts(run)

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Zero keeps a timeout as it is."""
        self._command(f"set {timeouts}", settings.set_timeouts(timeouts))

    def sync_daemons(self) -> list[SyncDaemon]:
        return list(settings.daemons(self._netlink.dump(requests.GET_DAEMON)))

    def start_sync(self, daemon: SyncDaemon) -> None:
        """Run ``daemon``, in place of one of that role that runs otherwise."""
        for running in self.sync_daemons():
            if running.role is daemon.role:
                if daemon.satisfied_by(running):
                    return
                self.stop_sync(daemon.role)
        what = f"start connection sync ({daemon.role}) on {daemon.interface}"
        self._command(what, settings.new_daemon(daemon))

    def stop_sync(self, role: SyncRole) -> None:
        """Stopping what does not run succeeds."""
        self._command(f"stop connection sync ({role})", settings.del_daemon(role), errno.ESRCH)

    def _command(self, what: str, request: Request, fine: int = 0) -> None:
        number = self._netlink.exchange([request]).get(0, 0)
        if number not in (0, fine):
            raise OSError(number, f"cannot {what}: {os.strerror(number)}")
