"""The short cut of `kernlb service ls`: it says what the whole program says, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernlb.cli.quick import SOCKET, TARGET, quick, understood
from kernlb.control import protocol
from kernlb.control.protocol import ProblemKind, ServiceSummary, SyncState
from tests.unit.cli.conftest import Kernlb, StubDaemon

SERVICES = [
    ServiceSummary("web", "tcp/192.0.2.1:80", "ipvs", "wlc", "nat", 3, 2, SyncState.SYNCED),
    ServiceSummary("öl", "udp/192.0.2.1:53", "xdp", "mh", "dsr", 1, 0, SyncState.FAILED, {}, "no"),
    ServiceSummary("", "fwmark/ipv4/7", "ipvs", "rr", "", 0, 0, SyncState.FOREIGN, {"a": "\x1b"}),
]


def test_what_it_takes_for_granted_is_what_the_protocol_says() -> None:
    assert (protocol.SOCKET, f"{protocol.API}/services") == (SOCKET, TARGET)


@pytest.mark.parametrize("more", [(), ("-o", "json"), ("--output=json",), ("--no-color",)])
@pytest.mark.parametrize("services", [SERVICES, []], ids=["some", "none"])
def test_it_prints_what_the_whole_program_prints(
    daemon: StubDaemon,
    kernlb: Kernlb,
    capfd: pytest.CaptureFixture[str],
    services: list[ServiceSummary],
    more: tuple[str, ...],
) -> None:
    daemon.says("GET /v1/services", services)
    whole = kernlb("service", "ls", *more)
    assert quick(["--socket", str(daemon.path), "service", "ls", *more]) == whole.code == 0
    assert capfd.readouterr().out == whole.out


@pytest.mark.parametrize(
    "line",
    [
        "service",
        "service show web",
        "service ls --label a=b",
        "service ls --help",
        "service ls -ojson",
        "service ls -o yaml",
        "service ls -o",
        "service ls --socket=",
        "service ls web",
        "server ls web",
        "",
    ],
)
def test_what_it_does_not_know_is_left_to_the_whole_program(line: str) -> None:
    assert understood(line.split()) is None


def test_options_go_before_and_after_the_command() -> None:
    assert understood(["--socket=/x", "service", "-o", "json", "ls", "--no-color"]) == {
        "socket": "/x",
        "output": "json",
        "colour": "no",
    }


def test_a_daemon_that_declines_is_asked_by_the_whole_program(
    daemon: StubDaemon, capfd: pytest.CaptureFixture[str]
) -> None:
    line = ["service", "ls", "--socket", str(daemon.path)]
    daemon.refuses(ProblemKind.FORBIDDEN, "only root may")
    assert quick(line) is None
    daemon.raw = b"SSH-2.0-OpenSSH_9.2p1\r\n"
    assert quick(line) is None
    daemon.raw = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[{}, 1, 2"
    assert quick(line) is None
    assert quick([*line[:2], "--socket", "/nowhere"]) is None
    assert capfd.readouterr().out == ""


def test_it_is_quick_for_it_loads_neither_click_nor_msgspec(
    daemon: StubDaemon, tmp_path: Path
) -> None:
    daemon.says("GET /v1/services", SERVICES)
    code = (
        "import sys\n"
        "try:\n"
        "    from kernlb.cli import main; main()\n"
        "finally:\n"
        "    slow = {'click', 'msgspec', 'typing', 'inspect', 'asyncio'} & set(sys.modules)\n"
        "    print(*slow, file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code, "service", "ls"],
        env={**os.environ, "KERNLB_SOCKET": str(daemon.path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "web" in ran.stdout
    assert ran.stderr.strip() == ""
