"""Prometheus metrics of the host's XDP; nothing where it is not in use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kernlb.control.protocol_xdp import XdpStatus

MODES = ("native", "generic", "none")


def collect(xdp: XdpStatus) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    packets = CounterMetricFamily(
        "kernlb_xdp_packets",
        "Packets that came in on interfaces with XDP, by what became of them.",
        labels=["reason"],
    )
    for reason, count in xdp.packets.items():
        packets.add_metric([reason], count)
    yield packets
    modes = GaugeMetricFamily(
        "kernlb_xdp_interface", "1 for the mode of an interface.", labels=["interface", "mode"]
    )
    for each in xdp.interfaces:
        for mode in MODES:
            modes.add_metric([each.name, mode], float((each.mode or "none") == mode))
    yield modes
    used = GaugeMetricFamily("kernlb_xdp_table_used", "Entries in use.", labels=["table"])
    size = GaugeMetricFamily("kernlb_xdp_table_size", "Entries that fit.", labels=["table"])
    for table in xdp.tables:
        used.add_metric([table.name], table.used)
        size.add_metric([table.name], table.size)
    yield used
    yield size
    yield GaugeMetricFamily(
        "kernlb_xdp_half_open_connections",
        "Connections begun and not established, as of the last sweep.",
        xdp.half_open,
    )
    yield GaugeMetricFamily(
        "kernlb_xdp_unresolved_servers",
        "Real servers whose next hop is not known.",
        len(xdp.unresolved),
    )
    yield GaugeMetricFamily("kernlb_xdp_memory_bytes", "Memory of all tables.", xdp.memory)
