"""Settings of the host that belong to no service: IPVS's timeouts, sysctls, connection sync.

What the settings do not mention is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kernlb.config.settings import IpvsSettings
from kernlb.config.settings import SyncDaemon as WantedSync
from kernlb.daemon.events import Events
from kernlb.datapath.ipvs import IPVSDatapath
from kernlb.datapath.ipvs.settings import SyncDaemon, SyncRole, Timeouts

SYSCTLS = Path("/proc/sys/net/ipv4/vs")


def apply(settings: IpvsSettings, ipvs: IPVSDatapath, events: Events) -> list[str]:
    """Set what differs; sentences on what could not be set."""
    steps: list[Callable[[], None]] = [
        lambda: _timeouts(settings, ipvs, events),
        lambda: _sync(settings.sync, ipvs, events),
        lambda: _sysctls(settings.sysctls, events),
    ]
    errors: list[str] = []
    for step in steps:
        try:
            step()
        except OSError as error:
            errors.append(str(error))
            events.add(str(error), "settings")
    return errors


def _timeouts(settings: IpvsSettings, ipvs: IPVSDatapath, events: Events) -> None:
    wanted = settings.timeouts
    now = ipvs.timeouts()
    after = Timeouts(wanted.tcp or now.tcp, wanted.tcpfin or now.tcp_fin, wanted.udp or now.udp)
    if after != now:
        ipvs.set_timeouts(after)
        events.add(
            f"ipvs timeouts tcp {now.tcp} -> {after.tcp}, tcpfin {now.tcp_fin} -> "
            f"{after.tcp_fin}, udp {now.udp} -> {after.udp} seconds",
            "settings",
        )


def _sync(wanted: tuple[WantedSync, ...], ipvs: IPVSDatapath, events: Events) -> None:
    running = ipvs.sync_daemons()
    for each in wanted:
        daemon = SyncDaemon(
            SyncRole(each.role),
            each.interface,
            each.sync_id,
            each.max_length or 0,
            each.group,
            each.port or 0,
            each.ttl or 0,
        )
        if not any(daemon.satisfied_by(other) for other in running):
            ipvs.start_sync(daemon)
            events.add(f"connection sync {each.role} on {each.interface}", "settings")


def _sysctls(wanted: Mapping[str, int], events: Events) -> None:
    for name, value in wanted.items():
        path = SYSCTLS / name
        try:
            now = path.read_text().strip()
            if now != str(value):
                path.write_text(f"{value}\n")
                events.add(f"net.ipv4.vs.{name} {now} -> {value}", "settings")
        except OSError as error:
            raise OSError(f"cannot set net.ipv4.vs.{name} to {value}: {error.strerror}") from error
