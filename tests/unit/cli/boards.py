"""Overviews as the daemon gives them: one small and well, one with trouble, one of a thousand."""

from __future__ import annotations

from msgspec.structs import replace

from kernlb.control.protocol import DatapathStatus, Event, Status
from kernlb.control.protocol_health import Lateness, MonitorView
from kernlb.control.protocol_overview import Moment, Overview, Rates, ServerLine, ServiceLine
from kernlb.control.protocol_xdp import XdpInterface, XdpStatus, XdpTable
from tests.unit.cli.views import NOW

RATES = Rates(12.0, 100.0, 90.0, 12_345.0, 1_234_567.0)
HISTORY = [Moment(NOW - 5 * back, 12.0 / (back + 1), 1e4, 1e6, 10) for back in range(20, -1, -1)]


def server(number: int, weight: int = 1, state: str = "up", **more: object) -> ServerLine:
    line = ServerLine(
        server=f"10.1.0.{10 + number}:80",
        forwarding="dsr",
        state=state,
        since=NOW - 3700,
        weight=weight,
        effective_weight=weight if state == "up" else 0,
        promised=weight / 6 if state == "up" else 0.0,
        received=weight / 6 + 0.01 if state == "up" else 0.0,
        active=weight,
        rates=Rates(2.0 * weight, bytes_in=1000.0, bytes_out=1e6),
        check="http",
        condition="up" if state == "up" else "down",
        duration=0.0012,
        strip="+++++" if state == "up" else "++---",
    )
    return replace(line, **more)


DOWN = server(2, 2, "down", why="wrong status: 503", since=NOW - 65)


def service(name: str = "web", *servers: ServerLine, **more: object) -> ServiceLine:
    line = ServiceLine(
        name=name,
        key="tcp/192.0.2.10:80",
        datapath="xdp",
        scheduler="wrr",
        state="synced",
        servers=list(servers or (server(1, 1), server(2, 2), server(3, 3))),
        serving=sum(each.effective_weight > 0 for each in servers) if servers else 3,
        phase="serving",
        active=6,
        rates=RATES,
        history=HISTORY,
    )
    return replace(line, **more)


XDP = XdpStatus(
    "8a67f4bd1f7cd1e2",
    3,
    64 << 20,
    [XdpInterface("front", "native"), XdpInterface("back", "native")],
    [XdpTable("services", 1, 64), XdpTable("conns4", 1200, 4096), XdpTable("slots", 6, 131072),
     XdpTable("conns6", 0, 4096)],
    half_open=1,
)  # fmt: skip
STATUS = Status(
    version="9.9",
    pid=42,
    started=NOW - 3700,
    datapaths=[
        DatapathStatus("ipvs", False, "", "this kernel has no ip_vs"),
        DatapathStatus("xdp", True, "ABI 3"),
    ],
    services={"synced": 1},
    servers=3,
    serving=3,
    drift_repaired=0,
    last_audit=NOW - 12,
    audit_interval=60.0,
    foreign=[],
    vips=[],
    faults=[],
    events=[Event(NOW - age, f"real server web/10.1.0.2{age}:80 waiting -> up", "health")
            for age in range(9, 0, -1)],
    xdp=XDP,
    health=MonitorView(3, 0, 0, Lateness(0, 0, 0)),
)  # fmt: skip


def overview(*services: ServiceLine, **more: object) -> Overview:
    board = Overview(NOW, 5.0, 60.0, STATUS, list(services or (service(),)))
    return replace(board, **more)


def many(count: int = 1000, bad: int = 3) -> Overview:
    """``bad`` of them have a server down."""
    services = [
        service(f"s{number:04}", server(1), DOWN if number < bad else server(2), server(3))
        for number in range(count)
    ]
    warnings = [f"service s{number:04}: 1 of 3 servers down" for number in range(bad)]
    status = replace(STATUS, services={"synced": count}, servers=3 * count)
    return Overview(NOW, 5.0, 60.0, status, services, warnings)
