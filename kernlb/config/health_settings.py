"""The host's health monitor as it is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from kernlb.config.duration import seconds
from kernlb.config.errors import Report
from kernlb.config.health_document import MonitorDocument
from kernlb.config.share import share

LEAST_LATENESS = 0.02  # a busy loop is that late without being starved
LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """``lateness_limit`` and ``partition_grace`` in seconds, the latter 0 for none;
    ``partition_share`` of what is asked must fail at once for it to count as a partition."""

    lateness_limit: float = 0.25
    partition_grace: float = 30.0
    partition_share: float = 0.9
    concurrent_execs: int = 16


def read_monitor(document: MonitorDocument, report: Report) -> HealthSettings:
    """What is wrong goes to ``report``."""
    settings = HealthSettings(
        lateness_limit=seconds(document.lateness_limit),
        partition_grace=seconds(document.partition_grace),
        partition_share=share(document.partition_share),
        concurrent_execs=document.concurrent_execs,
    )
    if not LEAST_LATENESS <= settings.lateness_limit <= 60:
        report.add(("health", "lateness_limit"), "must be within 20ms..60s")
    if settings.partition_grace > 3600:
        report.add(("health", "partition_grace"), "must be 1 hour at most")
    if settings.partition_share < LEAST_SHARE:
        report.add(
            ("health", "partition_share"),
            "must be 0.5 at least: less than half of the servers is no partition",
        )
    return settings
