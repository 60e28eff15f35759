"""Prometheus metrics, from one snapshot at scrape time.

Cardinality: a service has one set of series by its name, a server one by service and
``address:port``; no other label has more than a handful of values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kernlb import __version__, metrics_health, metrics_xdp
from kernlb.control.protocol import Status, SyncState

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kernlb.daemon.status import Overview, ServiceFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS = {
    "connections": "Connections scheduled.",
    "packets_in": "Packets from clients.",
    "packets_out": "Packets to clients (nat and fullnat: other replies do not pass here).",
    "bytes_in": "Bytes from clients.",
    "bytes_out": "Bytes to clients (nat and fullnat: other replies do not pass here).",
}
_GAUGES = {
    "active": "Connections established now.",
    "inactive": "Connections closing or idle now.",
    "persistent": "Persistence templates now.",
}


async def render(overview: Overview) -> bytes:
    """The metrics page. Reads the kernel service by service, never all at once."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    figures = [each async for each in overview.figures()]

    class Snapshot(Collector):
        def collect(self) -> Iterable[Metric]:
            status = overview.status()
            yield from _host(status)
            if status.xdp is not None:
                yield from metrics_xdp.collect(status.xdp)
            yield from _services(figures)
            yield from _servers(figures)
            if (health := overview.health_figures()) is not None:
                yield from metrics_health.collect(health)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry)


def _host(status: Status) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

    info = InfoMetricFamily("kernlb_build", "Version of the daemon.")
    info.add_metric([], {"version": __version__})
    yield info
    yield GaugeMetricFamily(
        "kernlb_start_time_seconds", "When the daemon started, since the epoch.", status.started
    )
    available = GaugeMetricFamily(
        "kernlb_datapath_available", "1 if the kernel has this datapath.", labels=["datapath"]
    )
    for datapath in status.datapaths:
        available.add_metric([datapath.kind], float(datapath.available))
    yield available
    services = GaugeMetricFamily("kernlb_services", "Services by state.", labels=["state"])
    for state in SyncState:
        services.add_metric([state], status.services.get(state, 0))
    yield services
    yield CounterMetricFamily(
        "kernlb_drift_repaired",
        "Services found changed behind the daemon's back and put right.",
        status.drift_repaired,
    )
    yield GaugeMetricFamily(
        "kernlb_last_audit_time_seconds",
        "When every service had last been compared with the kernel, since the epoch.",
        status.last_audit,
    )
    yield GaugeMetricFamily(
        "kernlb_document_faults", "Faults in the service documents on disk.", len(status.faults)
    )


def _services(figures: list[ServiceFigures]) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    synced = GaugeMetricFamily(
        "kernlb_service_synced",
        "1 if the kernel holds the service as declared.",
        labels=["service"],
    )
    serving = GaugeMetricFamily(
        "kernlb_service_serving_servers",
        "Real servers that may take new connections.",
        labels=["service"],
    )
    for each in figures:
        name = [each.declaration.name]
        synced.add_metric(name, float(each.sync is SyncState.SYNCED))
        serving.add_metric(name, sum(server.weight > 0 for server in each.state.servers))
    yield synced
    yield serving
    for field, text in _COUNTERS.items():
        family = CounterMetricFamily(f"kernlb_service_{field}", text, labels=["service"])
        for each in figures:
            family.add_metric([each.declaration.name], getattr(each.stats.counters, field))
        yield family


def _servers(figures: list[ServiceFigures]) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ["service", "server"]
    weight = GaugeMetricFamily(
        "kernlb_server_weight", "Weight of the real server in force.", labels=labels
    )
    for each in figures:
        for server in each.state.servers:
            weight.add_metric([each.declaration.name, str(server.key)], server.weight)
    yield weight
    for field, text in _GAUGES.items():
        gauge = GaugeMetricFamily(f"kernlb_server_{field}_connections", text, labels=labels)
        for each in figures:
            for key, stats in each.stats.servers.items():
                gauge.add_metric([each.declaration.name, str(key)], getattr(stats, field))
        yield gauge
    for field, text in _COUNTERS.items():
        family = CounterMetricFamily(f"kernlb_server_{field}", text, labels=labels)
        for each in figures:
            for key, stats in each.stats.servers.items():
                family.add_metric([each.declaration.name, str(key)], getattr(stats.counters, field))
        yield family
