"""Prometheus metrics, from one snapshot at scrape time.

Cardinality: a service has one set of series by its name, a server one by service and
``address:port``; no other label has more than a handful of values. Where there are more servers
than settings allow, none has series of its own, and the page says how many were left out.

The page is made in parts, and whoever else wants the processor gets it in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from kernlb import __version__, metrics_health, metrics_xdp
from kernlb.control.protocol import Status, SyncState
from kernlb.metrics_text import head, labels, samples

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kernlb.daemon.figures import ServiceFigures
    from kernlb.daemon.health_views import HealthFigures, ServerFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
AT_ONCE = 1000  # samples written between two turns of the event loop

COUNTERS = {
    "connections": "Connections scheduled.",
    "packets_in": "Packets from clients.",
    "packets_out": "Packets to clients (nat and fullnat: other replies do not pass here).",
    "bytes_in": "Bytes from clients.",
    "bytes_out": "Bytes to clients (nat and fullnat: other replies do not pass here).",
}
GAUGES = {
    "active": "Connections established now.",
    "inactive": "Connections closing or idle now.",
    "persistent": "Persistence templates now.",
}


class Source(Protocol):
    """What a page is made of (daemon.figures.Figures)."""

    @property
    def most_servers(self) -> int: ...

    @property
    def events(self) -> int: ...

    def status(self) -> Status: ...

    @property
    def servers(self) -> int: ...

    def services(self, *, each_server: bool) -> AsyncIterator[ServiceFigures]: ...

    def health(self) -> HealthFigures | None: ...

    def watched(self) -> Iterator[ServerFigures]: ...


async def render(source: Source) -> bytes:
    """The metrics page."""
    parts: list[bytes] = []
    async for part in pages(source):
        parts.append(part.encode())
        await asyncio.sleep(0)
    return b"".join(parts)


async def pages(source: Source) -> AsyncIterator[str]:
    """The metrics page, a part at a time; each is work of a few milliseconds at most."""
    count = source.servers
    left_out = count if count > source.most_servers else 0
    services = [each async for each in source.services(each_server=not left_out)]
    status = source.status()
    yield _generated([*_host(status), *_page(source, services, count, left_out)])
    if status.xdp is not None:
        yield _generated(metrics_xdp.collect(status.xdp))
    for text in _services(services):
        yield text
    if not left_out:
        for text in _servers(services):
            yield text
    if (health := source.health()) is not None:
        yield _generated(metrics_health.collect(health))
        if not left_out:
            for text in _watched(source.watched()):
                yield text


def _generated(metrics: Iterable[Metric]) -> str:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Snapshot(Collector):
        def collect(self) -> Iterable[Metric]:
            return metrics

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry).decode()


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


def _page(
    source: Source, services: Sequence[ServiceFigures], count: int, left_out: int
) -> Iterable[Metric]:
    """What there is to say of this page, and of what it was made from."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield CounterMetricFamily(
        "kernlb_events", "Events told, over restarts of the daemon too.", source.events
    )
    yield GaugeMetricFamily("kernlb_servers", "Real servers declared.", count)
    yield GaugeMetricFamily(
        "kernlb_servers_left_out",
        "Real servers without series here, for there are more than metrics_servers allows.",
        left_out,
    )
    oldest = min((each.reading.time for each in services), default=0.0)
    yield GaugeMetricFamily(
        "kernlb_counters_time_seconds",
        "When the oldest counters of this page were read, since the epoch.",
        oldest,
    )


def _services(services: Sequence[ServiceFigures]) -> Iterator[str]:
    marks = [each.marks.service for each in services]

    def family(name: str, kind: str, text: str, value: Callable[[ServiceFigures], int]) -> str:
        return head(name, kind, text) + samples(name, marks, map(value, services))

    yield family(
        "kernlb_service_synced",
        "gauge",
        "1 if the kernel holds the service as declared.",
        lambda each: int(each.synced),
    )
    yield family(
        "kernlb_service_serving_servers",
        "gauge",
        "Real servers that may take new connections.",
        lambda each: sum(server.weight > 0 for server in each.servers),
    )
    for index, (field, text) in enumerate(COUNTERS.items()):
        name = f"kernlb_service_{field}_total"
        totals = (each.reading.totals[index] for each in services)
        yield head(name, "counter", text) + samples(name, marks, totals)
    if watched := [each for each in services if each.below is not None]:
        name, text = "kernlb_service_below_quorum", "1 if too few of its servers are good."
        below = samples(
            name,
            (each.marks.service for each in watched),
            (int(bool(each.below)) for each in watched),
        )
        yield head(name, "gauge", text) + below


def _servers(services: Sequence[ServiceFigures]) -> Iterator[str]:
    name = "kernlb_server_weight"
    yield head(name, "gauge", "Weight of the real server in force.")
    for each in services:
        yield samples(name, each.marks.weighed, [server.weight for server in each.servers])
    for field, text in GAUGES.items():
        name = f"kernlb_server_{field}_connections"
        yield head(name, "gauge", text)
        for each in services:
            yield samples(name, each.marks.read, each.reading.column(field))
    for field, text in COUNTERS.items():
        name = f"kernlb_server_{field}_total"
        yield head(name, "counter", text)
        for each in services:
            yield samples(name, each.marks.read, each.reading.column(field))


def _watched(servers: Iterator[ServerFigures]) -> Iterator[str]:
    up, went = "kernlb_server_up", "kernlb_health_transitions_total"
    yield head(up, "gauge", "1 if its checks find it good.")
    changed: list[str] = []  # the other family, for it is to be in one piece
    while part := list(islice(servers, AT_ONCE)):
        marks = [_mark(each.service, each.server) for each in part]
        yield samples(up, marks, (int(each.up) for each in part))
        ways = [
            (f'{mark[:-1]},to="{to}"}}', each.went.get(to, 0))
            for mark, each in zip(marks, part, strict=True)
            for to in ("up", "down")
        ]
        changed.append(samples(went, (mark for mark, _ in ways), (count for _, count in ways)))
    yield head(went, "counter", "How often it came up or went down.")
    yield from changed


def _mark(service: str, server: str) -> str:
    return f'{{server="{server}",{labels({"service": service})[1:]}'
