"""The monitor of a host, made and tuned as its settings say."""

from __future__ import annotations

import asyncio
from random import Random

from kernlb.config.health_settings import HealthSettings
from kernlb.daemon.health import HealthKeeper
from kernlb.daemon.probe_counts import ProbeCounts
from kernlb.health.check import Check, Target
from kernlb.health.monitor import Monitor
from kernlb.health.partition import Partition
from kernlb.health.probes import Probe
from kernlb.health.probes.exec_door import door_of
from kernlb.health.probes.making import make_probe
from kernlb.health.probes.sockets import poller_of


def make_monitor(settings: HealthSettings, keeper: HealthKeeper, counts: ProbeCounts) -> Monitor:
    """Of the running event loop. ``keeper`` uses it from now on."""
    loop = asyncio.get_running_loop()

    def make(check: Check, timeout: float, target: Target) -> Probe:
        return make_probe(check, timeout, target, loop)

    monitor = Monitor(
        loop,
        make,
        keeper.changed,
        counts.add,
        Partition(settings.partition_share, settings.partition_grace),
        behind=poller_of(loop).lag,
        lateness_limit=settings.lateness_limit,
        random=Random(),
    )
    keeper.use(monitor)
    tune(monitor, settings)
    return monitor


def tune(monitor: Monitor, settings: HealthSettings) -> None:
    """Other settings, at once; what is held or doubted already stays so for its time."""
    monitor.trust.limit = settings.lateness_limit
    monitor.partition.share = settings.partition_share
    monitor.partition.grace = settings.partition_grace
    door_of(asyncio.get_running_loop()).at_once = settings.concurrent_execs
