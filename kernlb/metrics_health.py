"""Prometheus metrics of the health monitor; those of each server are in ``metrics``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kernlb.daemon.health_views import HealthFigures


def collect(health: HealthFigures) -> Iterable[Metric]:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    monitor = health.monitor
    yield GaugeMetricFamily(
        "kernlb_health_targets",
        "Probes that are repeated: shared ones count once.",
        monitor.targets,
    )
    probes = CounterMetricFamily(
        "kernlb_health_probes", "Probes that ended, as counted.", labels=["type", "outcome"]
    )
    for word, outcomes in health.outcomes.items():
        for outcome, count in outcomes.items():
            probes.add_metric([word, outcome], count)
    yield probes
    durations = HistogramMetricFamily(
        "kernlb_health_probe_duration_seconds", "How long probes took.", labels=["type"]
    )
    for word, histogram in health.durations.items():
        durations.add_metric([word], histogram.buckets, histogram.total)
    yield durations
    yield HistogramMetricFamily(
        "kernlb_health_lateness_seconds",
        "How late probes started.",
        buckets=health.lateness.buckets,
        sum_value=health.lateness.total,
    )
    yield GaugeMetricFamily(
        "kernlb_health_suspended",
        "1 while the prober is starved and bad results count for nothing.",
        float(monitor.suspended),
    )
    yield CounterMetricFamily(
        "kernlb_health_suspensions", "How often the prober was starved.", monitor.suspensions
    )
    yield GaugeMetricFamily(
        "kernlb_health_partition_held",
        "1 while everything fails at once and verdicts are held.",
        float(monitor.partition_held),
    )
