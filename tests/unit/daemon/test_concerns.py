"""What an operator is told to look at: everything that is wrong, worst first, and no more."""

from __future__ import annotations

from msgspec.structs import replace

from kernlb.control.protocol import DatapathStatus, Fault, ServerState, Status, SyncState, VipView
from kernlb.control.protocol_health import Lateness, MonitorView
from kernlb.control.protocol_overview import ServerLine, ServiceLine
from kernlb.control.protocol_xdp import XdpInterface, XdpStatus, XdpTable, XdpUnresolved
from kernlb.daemon.concerns import MOST, Concerns

WELL = Status(
    version="1", pid=1, started=0.0, datapaths=[DatapathStatus("ipvs", True)], services={},
    servers=0, serving=0, drift_repaired=0, last_audit=0.0, audit_interval=60.0, foreign=[],
    vips=[VipView("192.0.2.1", "eth0", True, True), VipView("192.0.2.2", "lo", True, False, True)],
    faults=[], events=[], health=MonitorView(1, 0, 0, Lateness(0.0, 0.0, 0.0)),
    xdp=XdpStatus("0", 1, 0, [XdpInterface("eth0", "native")], [XdpTable("conns4", 8, 10)]),
)  # fmt: skip


def service(name: str, *states: ServerState, serving: int = 1, **more: object) -> ServiceLine:
    servers = [
        ServerLine(f"10.0.0.{n}:80", "nat", state, 0.0, 1, 1, 0.5) for n, state in enumerate(states)
    ]
    line = ServiceLine(name, "tcp/x", "ipvs", "rr", SyncState.SYNCED, servers, serving)
    return replace(line, **more)


def said(*lines: ServiceLine, status: Status = WELL, troubles: tuple[str, ...] = ()) -> list[str]:
    concerns = Concerns()
    for line in lines:
        concerns.hear(line)
    concerns.host(status, troubles)
    return concerns.said()


def test_a_host_that_is_well_gives_no_concern() -> None:
    up, standby = ServerState.UP, ServerState.STANDBY
    assert said(service("web", up, up, standby), service("db", ServerState.DRAINING, up)) == []


def test_everything_is_told_worst_first() -> None:
    status = replace(
        WELL,
        datapaths=[DatapathStatus("xdp", False, detail="no such device")],
        vips=[VipView("192.0.2.1", "eth0", True, False)],
        faults=[Fault("is unknown", "/etc/a.yaml", 3, "port")],
        health=MonitorView(1, 1, 0, Lateness(0, 0, 0), suspended=True, partition_held=True),
        xdp=XdpStatus(
            "0", 1, 0,
            [XdpInterface("eth0", "generic"), XdpInterface("eth1", error="no such device")],
            [XdpTable("conns4", 9, 10), XdpTable("empty", 0, 0)],
            unresolved=[XdpUnresolved("tcp/x", "10.0.0.9:80", "no route")],
            warnings=["no BTF"],
        ),
    )  # fmt: skip
    up, down = ServerState.UP, ServerState.DOWN
    told = said(
        service("some", up, down, down),
        service("kept", up, ServerState.KEPT, phase="below quorum"),
        service("bad", up, state=SyncState.FAILED, error="cannot add it: refused"),
        service("sorry", down, ServerState.SORRY),
        service("none", down, serving=0, phase="all down"),
        status=status,
        troubles=("events are not kept on disk: full",),
    )
    assert told == [
        "service sorry: only its sorry server serves",
        "service none: no server can take a connection",
        "VIP 192.0.2.1 is not on eth0",
        "datapath xdp is not available: no such device",
        "interface eth1 has no XDP program: no such device",
        "service bad: failed: cannot add it: refused",
        "service kept is below its quorum",
        "service kept: 1 bad server is kept, for too few would be left",
        "real server 10.0.0.9:80 of tcp/x has no next hop: no route",
        "everything fails at once: verdicts are held (is the balancer cut off?)",
        "the prober gets too little processor time: bad results count for nothing",
        "service some: 2 of 3 servers down",
        "/etc/a.yaml:3: port: is unknown",
        "XDP table conns4 fills up: 9 of 10 entries",
        "interface eth0 runs XDP in generic mode, which is slow",
        "xdp: no BTF",
        "events are not kept on disk: full",
    ]


def test_what_is_too_much_is_counted() -> None:
    told = said(*(service(f"s{n}", serving=0) for n in range(250)))
    assert len(told) == MOST
    assert told[-1] == "and 151 more"
