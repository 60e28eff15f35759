"""What the command line says of XDP: explain, dump, status, stats, and what needs no daemon."""

from __future__ import annotations

import json
from textwrap import dedent

import msgspec
import pytest

from kernlb.control.protocol import ProblemKind
from kernlb.control.protocol_xdp import (
    Explanation,
    MapDump,
    XdpInterface,
    XdpStatus,
    XdpTable,
    XdpUnresolved,
)
from tests.unit.cli import views

ASKED = ("tcp", "198.51.100.7:40000", "192.0.2.10:80")
QUERY = "protocol=tcp&client=198.51.100.7:40000&to=192.0.2.10:80"
EXPLAINED = Explanation(
    *ASKED,
    verdict="send",
    reason="forwarded",
    meaning="forwarded to the server",
    interface="eth0",
    service="web",
    key="tcp/192.0.2.10:80",
    scheduler="mh",
    server="10.0.0.1:80",
    forwarding="tunnel",
    tunnel="gue:6080",
    chosen_by="scheduler",
    out="eth1",
    next_hop="02:00:00:00:02:01",
    vlan=7,
)
XDP = XdpStatus(
    program="8a67f4bd1f7cd1e2",
    abi=1,
    memory=64 << 20,
    interfaces=[
        XdpInterface("eth0", "native"),
        XdpInterface("eth1", "generic"),
        XdpInterface("eth2", "", "there is no such interface"),
    ],
    tables=[XdpTable("services", 2, 1024), XdpTable("conns4", 1_200_000, 4_194_304)],
    half_open=17,
    unresolved=[XdpUnresolved("web", "10.0.0.9:80", "no answer from neighbour 10.0.0.9")],
    warnings=["slots stays at 4 entries, not 8: the map exists"],
    packets={"forwarded": 1_500_000, "malformed": 0, "table_full": 3},
)


def text(said: str) -> str:
    return dedent(said).lstrip("\n").rstrip(" ")


def test_explain_says_where_and_why(daemon, kernlb):
    daemon.says(f"GET /v1/explain?{QUERY}", EXPLAINED)
    assert kernlb("explain", *ASKED) == (0, text("""
        packet    tcp from 198.51.100.7:40000 to 192.0.2.10:80, coming in on eth0
        verdict   sent on: forwarded to the server
        reason    forwarded
        service   web (tcp/192.0.2.10:80)
        server    10.0.0.1:80 by tunnel gue:6080
        why       chosen by mh
        way out   eth1 to 02:00:00:00:02:01, VLAN 7 (known from the daemon)
    """), "")  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"chosen_by": "connection", "state": "syn_recv"},
            "why       it has a connection there (syn recv)",
        ),
        ({"chosen_by": "template"}, "why       its persistence names it"),
        ({"by_fib": True}, "(known from the kernel's routes, asked for this packet)"),
        ({"verdict": "drop", "meaning": "no route"}, "verdict   dropped: no route"),
        ({"verdict": "pass"}, "verdict   passed to the kernel's network stack"),
        ({"service": ""}, "service   tcp/192.0.2.10:80"),
    ],
)
def test_explain_words_every_case(daemon, kernlb, changed, line):
    daemon.says(f"GET /v1/explain?{QUERY}", msgspec.structs.replace(EXPLAINED, **changed))
    assert line in kernlb("explain", *ASKED).out


def test_explain_can_ask_within_a_connection_and_on_an_interface(daemon, kernlb):
    daemon.says(f"GET /v1/explain?{QUERY}&within=true&interface=eth1", EXPLAINED)
    found = kernlb("explain", *ASKED, "--within", "--interface", "eth1", "-o", "json")
    assert found.code == 0
    assert json.loads(found.out)["server"] == "10.0.0.1:80"


def test_explain_passes_a_refusal_on(daemon, kernlb):
    daemon.refuses(ProblemKind.INVALID_REQUEST, "cannot explain: datapath ipvs carries it")
    assert kernlb("explain", *ASKED) == (1, "", "error: cannot explain: datapath ipvs carries it\n")


@pytest.mark.parametrize(
    "wrong",
    [("icmp", *ASKED[1:]), ("tcp", "198.51.100.7", ASKED[2]), ("tcp", ASKED[1], "web"), ASKED[:2]],
)
def test_a_packet_that_cannot_be_is_a_usage_error(daemon, kernlb, wrong):
    assert kernlb("explain", *wrong).code == 2
    assert daemon.requests == []


def test_dump_prints_maps_one_after_the_other(daemon, kernlb):
    daemon.says("GET /v1/dump", [MapDump("services", "0 a\n1 b\n"), MapDump("servers", "")])
    assert kernlb("dump") == (0, "services:\n0 a\n1 b\n\nservers:\n", "")
    daemon.says("GET /v1/dump?map=services&map=slots", [MapDump("services", "0 \x1b[2J\n")])
    assert kernlb("dump", "services", "slots").out == "0 \\x1b[2J\n"
    assert json.loads(kernlb("dump", "-o", "json").out)[0]["name"] == "services"


def test_stats_by_reason_lists_what_was_seen(daemon, kernlb):
    daemon.says("GET /v1/status", msgspec.structs.replace(views.STATUS, xdp=XDP))
    assert kernlb("stats", "--reasons") == (0, text("""
        REASON      PACKETS
        forwarded     1.50M
        table_full        3
    """), "")  # fmt: skip
    assert json.loads(kernlb("stats", "--reasons", "-o", "json").out) == XDP.packets


def test_stats_by_reason_are_of_xdp_alone(daemon, kernlb):
    daemon.says("GET /v1/status", views.STATUS)
    found = kernlb("stats", "--reasons")
    assert (found.code, found.err) == (1, "error: datapath xdp is not in use on this host\n")
    assert kernlb("stats", "web", "--reasons").code == 2


def test_sizes_are_known_before_anything_is_made(kernlb, tmp_path):
    config = tmp_path / "kernlb.yaml"
    config.write_text("xdp:\n  interfaces: [eth0]\n  connections: 4194304\n")
    found = json.loads(kernlb("xdp", "size", "--config", str(config), "-o", "json").out)
    assert found["sizes"]["connections"] == 4194304
    assert found["bytes"]["conns4"] == pytest.approx(4194304 * 32, rel=0.01)
    assert found["total"] == sum(found["bytes"].values())
    table = kernlb("xdp", "size", "--config", str(config), "--connections", "1048576").out
    assert table.splitlines()[1].split() == ["conns4", "32", "MiB"]
    assert table.splitlines()[-1].startswith("total")


def test_sizes_of_bad_settings_are_a_fault_by_line(kernlb, tmp_path):
    config = tmp_path / "kernlb.yaml"
    config.write_text("xdp:\n  connection: 5\n")
    found = kernlb("xdp", "size", "--config", str(config))
    assert (found.code, found.out) == (1, "")
    assert f"{config}:2: xdp.connection: is an unknown key" in found.err


def test_unload_leaves_a_daemon_its_maps(daemon, kernlb, tmp_path):
    daemon.says("GET /v1/status", msgspec.structs.replace(views.STATUS, xdp=XDP))
    found = kernlb("xdp", "unload", "--pins", str(tmp_path / "none"))
    assert found == (1, "", "error: cannot unload: kernlbd (pid 42) uses it; stop it first\n")


def test_unloading_what_is_not_loaded_succeeds(kernlb_at, tmp_path):
    found = kernlb_at(tmp_path / "nobody")("xdp", "unload", "--pins", str(tmp_path / "none"))
    assert found == (0, "", "")
