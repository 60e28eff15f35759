"""``kernlb status``: everything on one screen while it fits, and what matters where not."""

from __future__ import annotations

import json
from textwrap import dedent

import msgspec
import pytest
from msgspec.structs import replace

from kernlb.cli.render import colours, plain
from kernlb.cli.status_text import status_text
from kernlb.control.protocol import ProblemKind, VipView
from kernlb.control.protocol_overview import Overview
from kernlb.control.protocol_xdp import XdpInterface
from tests.unit.cli import boards
from tests.unit.cli.views import NOW

ALL = "GET /v1/overview?history=0"


def text(said):
    return dedent(said).lstrip("\n").rstrip(" ")


def page(overview, *, width=80, room=23, every=False, paint=plain):
    return status_text(overview, NOW, paint, width=width, room=room, every=every)


def test_one_service_of_three_servers_is_a_screen(daemon, kernlb, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    found = page(boards.overview()).splitlines()
    assert len(found) <= 23
    assert max(map(len, found)) <= 80
    assert "\n".join(found[:-5]) + "\n" == text("""
        kernlbd   9.9, pid 42, up 1h 1m
        datapath  ipvs: not available, this kernel has no ip_vs
        datapath  xdp: available, ABI 3
        services  1 synced
        servers   3 of 3 serving
        audit     last 12s ago, every 1m; drift: none seen
        traffic   6 active; a second 12.0 connections, 12.3k bytes in, 1.23M bytes out
        health    3 targets, 0 down
        xdp       program 8a67f4bd1f7cd1e2, ABI 3, 64 MiB
        xdp       front, back: native mode
        xdp       conns4 1.20k/4.10k, services 1/64, slots 6/131k; half-open 1

        SERVER          STATE  SINCE  WEIGHT  PROMISED  RECEIVED  ACTIVE  CONN/s  WHY
        web  tcp/192.0.2.10:80  xdp wrr  synced  serving 3/3  6 active  12.0 conn/s
          10.1.0.11:80  up        1h       1    16.7 %    17.7 %       1     2.0
          10.1.0.12:80  up        1h       2    33.3 %    34.3 %       2     4.0
          10.1.0.13:80  up        1h       3    50.0 %    51.0 %       3     6.0

    """)  # fmt: skip
    assert all(line.startswith("event     ") for line in found[-5:])


def test_a_pipe_gets_every_column_however_wide(daemon, kernlb):
    daemon.says(ALL, boards.overview(boards.service("web", boards.server(1), boards.DOWN)))
    found = kernlb("status").out.splitlines()
    heading = next(line for line in found if line.startswith("SERVER"))
    assert heading.split() == ["SERVER", "STATE", "SINCE", "WEIGHT", "PROMISED", "RECEIVED",
                               "ACTIVE", "CONN/s", "IN/s", "OUT/s", "CHECKS", "WHY"]  # fmt: skip
    down = next(line for line in found if "10.1.0.12" in line)
    assert down.split() == ["10.1.0.12:80", "down", "1m", "0", "of", "2", "0.0", "%", "0.0", "%",
                            "2", "4.0", "1.00k", "1.00M", "++---", "wrong", "status:",
                            "503"]  # fmt: skip


def test_warnings_come_first_and_no_more_than_there_is_room_for(daemon, kernlb):
    warnings = [f"service s{number}: no server can take a connection" for number in range(8)]
    found = page(boards.overview(warnings=warnings)).splitlines()
    assert found[0] == "WARNING   service s0: no server can take a connection"
    assert found[5] == "WARNING   and 3 more warnings: kernlb status --all"
    assert page(boards.overview(warnings=warnings), every=True).count("WARNING") == 8


def test_of_a_thousand_services_those_show_that_need_somebody():
    found = page(boards.many(), room=40)
    assert len(found.splitlines()) <= 40
    shown = [line.split()[0] for line in found.splitlines() if "conn/s" in line]
    assert shown == ["s0000", "s0001", "s0002"]
    assert found.count("wrong status: 503") == 3
    assert "10.1.0.11:80" not in found
    assert (
        "997 other services are well, with 2991 servers (2991 up): kernlb status s0003 shows one,"
        " kernlb status --all every one"
    ) in found


def test_trouble_that_is_more_than_the_screen_is_named():
    found = page(boards.many(bad=500), room=34)
    assert len(found.splitlines()) <= 34
    assert "more need a look: s00" in found
    assert "500 other services are well" in found


def test_what_serves_nobody_comes_before_what_lacks_a_server():
    lost = boards.service("zz", boards.DOWN, phase="all down")
    board = boards.many()
    board = replace(board, services=[*board.services, lost])
    shown = [line.split()[0] for line in page(board, room=40).splitlines() if "conn/s" in line]
    assert shown == ["zz", "s0000", "s0001", "s0002"]


def test_all_is_all(daemon, kernlb):
    daemon.says(ALL, boards.many(200))
    assert kernlb("status", "--all").out.count("10.1.0.11:80") == 200
    assert kernlb("status").out.count("10.1.0.11:80") == 0


def test_named_services_are_shown_in_full_and_alone(daemon, kernlb):
    two = boards.overview(boards.service("web"), boards.service("dns"))
    daemon.says("GET /v1/overview?service=web&service=dns&history=0", two)
    found = kernlb("status", "web", "dns").out
    assert found.count("10.1.0.13:80") == 2
    assert "kernlbd" not in found


def test_a_service_that_is_not_there_is_refused(daemon, kernlb):
    daemon.refuses(ProblemKind.NOT_FOUND, "there is no service nowhere")
    assert kernlb("status", "nowhere") == (1, "", "error: there is no service nowhere\n")


def test_without_services_it_says_so_and_ends():
    status = replace(boards.STATUS, services={}, servers=0, serving=0, events=[])
    found = page(replace(boards.overview(), services=[], status=status))
    assert "services  none" in found.splitlines()
    assert not found.endswith("\n")


def test_a_service_that_the_kernel_has_not_says_why():
    failed = boards.service("web", state="failed", error="no such device")
    assert "web  tcp/192.0.2.10:80  xdp wrr  failed: no such device 3/3" in page(
        boards.overview(failed)
    )


def test_xdp_that_is_slow_or_missing_is_loud():
    interfaces = [XdpInterface("eth0", "native"), XdpInterface("eth1", "generic"),
                  XdpInterface("eth2", "", "there is no such interface")]  # fmt: skip
    xdp = replace(boards.XDP, interfaces=interfaces)
    board = boards.overview(status=replace(boards.STATUS, xdp=xdp))
    assert [line for line in page(board).splitlines() if line.startswith("xdp")][1:4] == [
        "xdp       eth0: native mode",
        "xdp       eth1: GENERIC mode: several times slower",
        "xdp       eth2: there is no such interface",
    ]


@pytest.mark.parametrize(
    ("vip", "line"),
    [
        (VipView("192.0.2.10", "eth0", True, True), "192.0.2.10 on eth0: present, kernlb's"),
        (VipView("192.0.2.10", "eth0", True, False), "192.0.2.10 on eth0: missing, kernlb's"),
        (VipView("192.0.2.10", "eth0", False, False, True),
         "192.0.2.10 on eth0: withdrawn: too few good servers, not kernlb's to remove"),
    ],
)  # fmt: skip
def test_a_withdrawn_vip_is_told_from_a_missing_one(vip, line):
    board = boards.overview(status=replace(boards.STATUS, vips=[vip]))
    assert f"vip       {line}" in page(board).splitlines()


def test_drift_that_was_repaired_is_counted():
    board = boards.overview(status=replace(boards.STATUS, drift_repaired=4))
    assert "drift: 4 repaired" in page(board)


def test_a_terminal_gets_colours_that_say_nothing_more():
    board = boards.overview(boards.service("web", boards.server(1), boards.DOWN))
    coloured = page(board, paint=colours)
    assert "\x1b[31mdown\x1b[0m" in coloured
    for code in (0, 1, 2, 31, 32, 33):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == page(board)


def test_text_from_elsewhere_cannot_steer_the_terminal():
    evil = "\x1b[2J"
    server = boards.server(1, why=evil, server=evil)
    one = boards.service(evil, server, error=evil, key=evil, state="failed")
    status = replace(boards.STATUS, version=evil, foreign=[evil])
    assert "\x1b" not in page(boards.overview(one, status=status, warnings=[evil]))


def test_json_is_the_overview_and_the_daemon_is_in_its_status(daemon, kernlb):
    daemon.says(ALL, boards.overview())
    view = json.loads(kernlb("status", "-o", "json").out)
    assert msgspec.convert(view, Overview) == boards.overview()
    assert view["status"]["services"] == {"synced": 1}
