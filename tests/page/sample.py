"""Overviews made up: of any size, of every state there is, and of hostile words."""

from __future__ import annotations

import math
from itertools import cycle, islice

from msgspec import structs

from kernlb.control.protocol import (
    DatapathStatus,
    Fault,
    ServerState,
    Status,
    SyncState,
    VipView,
)
from kernlb.control.protocol_health import Lateness, MonitorView
from kernlb.control.protocol_overview import Moment, Overview, Rates, ServerLine, ServiceLine
from kernlb.control.protocol_xdp import XdpInterface, XdpStatus, XdpTable, XdpUnresolved

INTERVAL = 0.5  # seconds
HISTORY = 120
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'

_WHY = {
    ServerState.DOWN: "connection refused",
    ServerState.INHIBITED: "http status 503, expected 200",
    ServerState.KEPT: "no answer within 1 s",
}


def server(number: int, state: ServerState = ServerState.UP, **more: object) -> ServerLine:
    serves = state in (ServerState.UP, ServerState.KEPT, ServerState.SORRY)
    made = ServerLine(
        server=f"10.1.{number // 250}.{number % 250 + 1}:80",
        forwarding="nat",
        state=state,
        weight=1,
        effective_weight=int(serves),
        promised=0.1 if serves else 0.0,
        since=1_700_000_000.0,
        received=0.1 if serves else None,
        active=17 if serves else 0,
        inactive=4,
        rates=Rates(3.5, 40, 35, 5200, 91000) if serves else Rates(),
        check="http",
        condition="up" if serves else "down",
        why=_WHY.get(state, ""),
        duration=0.0021,
        strip="+" * 17 + ("+++" if serves else "---"),
    )
    return structs.replace(made, **more)


def service(number: int, servers: list[ServerLine], now: float, **more: object) -> ServiceLine:
    serving = sum(each.effective_weight > 0 for each in servers)
    moments = [
        Moment(
            now - (HISTORY - at) * INTERVAL,
            20 + 12 * math.sin((at + number) / 9),
            40_000 + 9000 * math.sin(at / 7),
            900_000 + 200_000 * math.cos(at / 11),
            160,
        )
        for at in range(HISTORY)
    ]
    made = ServiceLine(
        name=f"service{number}",
        key=f"tcp/192.0.2.{number % 250}:{80 + number // 250}",
        datapath="xdp",
        scheduler="wrr",
        state=SyncState.SYNCED,
        servers=servers,
        serving=serving,
        phase="serving" if serving else "all down",
        active=sum(each.active for each in servers),
        rates=Rates(20.5, 400, 350, 41_000, 912_000),
        history=moments,
        labels={"team": f"team{number % 7}"},
    )
    return structs.replace(made, **more)


def overview(services: list[ServiceLine], now: float, warnings: tuple[str, ...] = ()) -> Overview:
    servers = [each for one in services for each in one.servers]
    status = Status(
        version="0.1.0",
        pid=4711,
        started=now - 93_784,
        datapaths=[
            DatapathStatus("ipvs", False, detail="the kernel has no IPVS: modprobe ip_vs"),
            DatapathStatus("xdp", True, "6.18"),
        ],
        services={"synced": len(services)},
        servers=len(servers),
        serving=sum(each.effective_weight > 0 for each in servers),
        drift_repaired=2,
        last_audit=now - 12,
        audit_interval=60.0,
        foreign=["tcp/192.0.2.99:25"],
        vips=[
            VipView("192.0.2.10", "front", True, True),
            VipView("2001:db8::10", "front", False, False),
        ],
        faults=[Fault("weight must be 0..65535", "/etc/kernlb/services.d/web.yaml", 12, "weight")],
        events=[],
        xdp=XdpStatus(
            program="a1b2c3d4e5f60718",
            abi=1,
            memory=84 << 20,
            interfaces=[XdpInterface("front", "native"), XdpInterface("back", "generic")],
            tables=[XdpTable("conns4", 90_000, 100_000), XdpTable("services", 3, 64)],
            half_open=3,
            unresolved=[XdpUnresolved("web", "10.1.0.9:80", "no neighbour")],
            packets={"forwarded": int(now * 1000) % 10**9, "no_service": 12, "table_full": 0},
        ),
        health=MonitorView(30, 1, 0, Lateness(0.0004, 0.002, 0.01)),
    )
    return Overview(now, INTERVAL, 60.0, status, services, list(warnings))


def small(now: float) -> Overview:
    """Every state of a server and of a service, once."""
    states = list(ServerState)
    return overview(
        [
            service(0, [server(n, state) for n, state in enumerate(states)], now),
            service(1, [server(n) for n in range(3)], now),
            service(2, [server(n, ServerState.DOWN) for n in range(2)], now),
            service(3, [server(1)], now, state=SyncState.FAILED, error="no memory"),
            service(4, [], now, phase=""),
        ],
        now,
        ("service2: all down", "interface back: XDP in generic mode"),
    )


def hostile(now: float) -> Overview:
    """Everything that an operator, a server or the kernel may word, worded by an enemy."""
    bad = server(1, ServerState.DOWN, why=HOSTILE, check=HOSTILE, labels={HOSTILE: HOSTILE})
    one = service(0, [bad, server(2)], now, error=HOSTILE, phase=HOSTILE, labels={"a": HOSTILE})
    return overview([one], now, (HOSTILE,))


def large(now: float, services: int = 1000, servers: int = 10) -> Overview:
    """One server of a hundred is down."""
    states = [ServerState.UP] * 99 + [ServerState.DOWN]
    endless = cycle(states)
    return overview(
        [
            service(n, [server(m, state) for m, state in enumerate(islice(endless, servers))], now)
            for n in range(services)
        ],
        now,
    )
