"""Answers of a daemon with one service in every state worth seeing."""

from __future__ import annotations

from kernlb.control.protocol import (
    CountersView,
    DatapathStatus,
    Event,
    Fault,
    PersistenceView,
    ServerState,
    ServerStatsView,
    ServerView,
    ServiceStatsView,
    ServiceSummary,
    ServiceView,
    Status,
    SyncState,
    TunnelView,
    VipView,
)

NOW = 1_000_000.0

SUMMARIES = [
    ServiceSummary(
        "web", "tcp/192.0.2.10:80", "ipvs", "wlc", "nat", 3, 2, SyncState.SYNCED, {"team": "web"}
    ),
    ServiceSummary(
        "dns", "udp/192.0.2.10:53", "ipvs", "mh", "mixed", 2, 0, SyncState.FAILED,
        {"team": "net"}, "no such device",
    ),
    ServiceSummary("", "tcp/192.0.2.99:1", "ipvs", "rr", "dsr", 1, 1, SyncState.FOREIGN),
]  # fmt: skip

WEB = ServiceView(
    name="web",
    key="tcp/192.0.2.10:80",
    datapath="ipvs",
    scheduler="mh",
    flags=["mh-fallback", "mh-port"],
    state=SyncState.SYNCED,
    servers=[
        ServerView(
            "10.0.0.1", 80, "tunnel", 1, 1, ServerState.UP, True, 1, TunnelView("gue", 6080, True)
        ),
        ServerView(
            "10.0.0.2", 80, "nat", 5, 0, ServerState.DRAINING, True, 0,
            since=NOW - 90, deadline=NOW + 30,
        ),
        ServerView("2001:db8::3", 80, "nat", 1, 0, ServerState.DISABLED, since=NOW - 7300),
    ],
    file="/etc/kernlb/services.d/web.yaml",
    persistence=PersistenceView(300, 24),
    vip_interface="eth0",
    labels={"team": "web"},
)  # fmt: skip

COUNTERS = CountersView(1234, 56_789, 999, 12_345_678, 0, 1, 2, 3, 4, 5_000_000)
STATS = [
    ServiceStatsView(
        "web",
        "tcp/192.0.2.10:80",
        COUNTERS,
        [
            ServerStatsView("10.0.0.1:80", 1, 3, 4, 5, COUNTERS),
            ServerStatsView("10.0.0.2:80", 0, 1, 0, 0, COUNTERS),
        ],
    )
]

STATUS = Status(
    version="9.9",
    pid=42,
    started=NOW - 3700,
    datapaths=[DatapathStatus("ipvs", True, "1.2.1"), DatapathStatus("xdp", False, "", "no BTF")],
    services={"synced": 2, "failed": 1, "pending": 0},
    servers=5,
    serving=3,
    drift_repaired=4,
    last_audit=NOW - 12,
    audit_interval=60.0,
    foreign=["tcp/192.0.2.99:1"],
    vips=[VipView("192.0.2.10", "eth0", True, False)],
    faults=[Fault("scheduler foo is unknown", "services.d/web.yaml", 4, "scheduler")],
    events=[Event(NOW, "service web: added", "api")],
)


def server(state: ServerState, address: str = "10.0.0.1", port: int = 80) -> ServerView:
    return ServerView(address, port, "nat", 1, 0, state, True, 0)


def service(*servers: ServerView) -> ServiceView:
    return ServiceView("web", "tcp/192.0.2.10:80", "ipvs", "rr", [], SyncState.SYNCED, [*servers])


def stats(active: int) -> list[ServiceStatsView]:
    servers = [ServerStatsView("10.0.0.1:80", 0, active, 0, 0, COUNTERS)]
    return [ServiceStatsView("web", "tcp/192.0.2.10:80", COUNTERS, servers)]
