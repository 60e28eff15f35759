"""``kernlb capture`` and ``kernlb trace``: what they refuse, and the lines that they print."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from kernlb.cli.console import Console
from kernlb.cli.trace import finding_text, summary_text
from kernlb.trace import bcc
from kernlb.trace.bcc import missing
from tests.unit.cli import views
from tests.unit.cli.conftest import Kernlb, StubDaemon

NO_PINS = "/sys/fs/bpf/kernlb-test-none"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.pcapng"


def test_a_capture_of_an_ipvs_service_names_the_tcpdump_to_use(
    kernlb: Kernlb, daemon: StubDaemon, file: Path
) -> None:
    daemon.says("GET /v1/services/web", views.WEB)
    said = kernlb("capture", "-w", str(file), "--service", "web")
    assert said.code == 1
    assert said.err == (
        "error: cannot capture web: it is forwarded by ipvs, in the kernel's network stack; "
        "try: tcpdump -ni any 'host 192.0.2.10 and tcp and port 80'\n"
    )
    assert not file.exists()


def test_a_service_of_a_firewall_mark_cannot_be_told_by_its_packets(
    kernlb: Kernlb, daemon: StubDaemon, file: Path
) -> None:
    marked = msgspec.structs.replace(views.WEB, key="fwmark/ipv4/7")
    daemon.says("GET /v1/services/web", marked)
    assert "firewall mark" in kernlb("capture", "-w", str(file), "--service", "web").err
    assert "firewall mark" in kernlb("trace", "--service", "web").err


def test_a_capture_without_a_program_leaves_no_file(kernlb: Kernlb, file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may look at pins")
    said = kernlb("capture", "-w", str(file), "--pins", NO_PINS)
    assert said.code == 1 and not file.exists()
    assert said.err == f"error: cannot capture: no XDP program is loaded in {NO_PINS}\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--sample", "2/3"], "'2/3' is not of the form 1/100"),
        (["--sample", "1/0"], "'1/0' is not of the form 1/100"),
        (["--client", "10.0.0.300"], "does not appear to be an ipv4 or ipv6 network"),
        (["--client", "10.0.0.1/8"], "has host bits set"),
        (["--only", "lost"], "'lost' is not one of"),
        (["--count", "0"], "is not in the range"),
    ],
)
def test_a_capture_refuses_what_it_does_not_understand(
    kernlb: Kernlb, file: Path, words: list[str], reason: str
) -> None:
    said = kernlb("capture", "-w", str(file), *words)
    assert said.code == 2 and reason in said.err.lower()


def test_an_interface_that_is_not_there_is_named(kernlb: Kernlb, file: Path) -> None:
    said = kernlb("capture", "-w", str(file), "--interface", "nope7")
    assert said.err == "error: cannot capture on nope7: there is no such interface\n"


def test_what_a_trace_needs_is_one_line_of_apt(
    kernlb: Kernlb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No daemon, so nothing is left to show."""
    monkeypatch.setattr(bcc, "_python_with_bcc", lambda: None)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "x", "0.0-none", "", "")))
    packages = "python3-bpfcc linux-headers-0.0-none"
    assert missing() == (
        f"python3-bpfcc and linux-headers-0.0-none are missing: apt-get install {packages}"
    )
    said = kernlb("trace", "latency", "--socket", "/nowhere")
    assert (said.code, said.out) == (1, "")
    assert said.err == f"error: cannot trace the kernel: {missing()}\n"


def test_own_counters_have_nothing_of_latency(kernlb: Kernlb) -> None:
    said = kernlb("trace", "latency", "--own")
    assert said.err == ("error: cannot trace by XDP's own counters: they have nothing of latency\n")


def test_own_counters_need_xdp(kernlb: Kernlb, daemon: StubDaemon) -> None:
    daemon.says("GET /v1/status", views.STATUS)
    assert "datapath xdp is not in use on this host" in kernlb("trace", "--own").err


def test_findings_are_lines() -> None:
    flow = {"protocol": "tcp", "client": "198.51.100.7:4", "vip": "192.0.2.10:80"}
    drop = {"where": "kernel", "packets": 3, "reason": "IP_RPFILTER", "detail": "at ip_rcv"}
    lines = [
        finding_text({"time": 1.25, **each})
        for each in (
            {"kind": "drop", **drop, "protocol": "tcp", "to": "192.0.2.10:80", "from": "10.0.0.1"},
            {"kind": "drop", **drop, "where": "kernlb xdp"},
            {"kind": "schedule", **flow, "scheduler": "rr", "server": "10.0.0.2:80"},
            {"kind": "schedule", **flow, "scheduler": "rr", "server": ""},
            {"kind": "begin", **flow, "server": "10.0.0.2:80"},
            {"kind": "end", **flow, "server": "10.0.0.2:80", "packets": 6, "seconds": 1.5},
            {"kind": "left_out", "events": 1200, "per_second": 200},
            {"kind": "counted", "service": "web", "server": "10.0.0.2:80", "connections": 2}
            | {"active": 1, "inactive": 0},
        )
    ]
    assert [line.partition("  ")[2].strip() for line in lines] == [
        "3  kernel      IP_RPFILTER: at ip_rcv, tcp to 192.0.2.10:80 from 10.0.0.1",
        "3  kernlb xdp  IP_RPFILTER: at ip_rcv",
        "tcp 198.51.100.7:4 -> 192.0.2.10:80  rr: 10.0.0.2:80",
        "tcp 198.51.100.7:4 -> 192.0.2.10:80  rr: NO SERVER",
        "begin  tcp 198.51.100.7:4 -> 192.0.2.10:80 -> 10.0.0.2:80",
        "end    tcp 198.51.100.7:4 -> 192.0.2.10:80 -> 10.0.0.2:80  6 packets in 1.5 s",
        "1200 left out: more than 200 a second",
        "xdp web: 2 new to 10.0.0.2:80 (active 1, inactive 0)",
    ]
    assert lines[2].partition("  ")[0].endswith(":01.250")


def test_sums_are_tables() -> None:
    latency = {"kind": "latency", "protocol": "tcp", "server": "10.0.0.2:80", "answered": 9}
    latency |= {"unanswered": 1, "median": 1.152, "p90": 2.0, "p99": 3.0, "worst": 3.0}
    assert summary_text(Console(), [latency]).splitlines() == [
        "PROTO  SERVER       ANSWERED  UNANSWERED   MEDIAN      P90      P99    WORST",
        "tcp    10.0.0.2:80         9           1  1.15 ms  2.00 ms  3.00 ms  3.00 ms",
    ]
    chosen = {"kind": "chosen", "protocol": "tcp", "vip": "192.0.2.10:80", "server": "", "times": 4}
    assert summary_text(Console(), [chosen]).splitlines() == [
        "PROTO  VIP            SERVER     TIMES",
        "tcp    192.0.2.10:80  NO SERVER      4",
    ]
    assert summary_text(Console(), []) == ""
