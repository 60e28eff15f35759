"""What the daemon serves is what its pages say: metrics by name, the control API by example."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from kernlb.control.wire import exchange, request
from tests.unit.pages import ROOT, Block, blocks


def test_every_metric_is_described_as_it_is_served() -> None:
    from kernlb import metrics

    described = {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in re.findall(
            r"^\| `(kernlb_\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$",
            (ROOT / "docs/metrics.md").read_text(),
            re.MULTILINE,
        )
    }
    served = _metrics(asyncio.run(metrics.render(_source())).decode())
    assert {name: each[:2] for name, each in described.items()} == {
        name: each[:2] for name, each in served.items()
    }
    for name, (_, _, meaning) in served.items():
        assert described[name][2].startswith(meaning.rstrip(".")), name


def _metrics(page: str) -> dict[str, tuple[str, tuple[str, ...], str]]:
    meanings = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE))
    labels: dict[str, tuple[str, ...]] = {}
    for name, inside in re.findall(r"^(kernlb_\w+)(?:\{(.*)\})? ", page, re.MULTILINE):
        labels[name] = tuple(sorted(re.findall(r"(\w+)=\"", inside), reverse=True))
    for name, kind in kinds.items():
        if kind == "histogram":
            labels[name] = labels.get(f"{name}_count", ())
    return {name: (kinds[name], labels.get(name, ()), meanings[name]) for name in kinds}


def _source() -> Any:
    """A page's source: one service with one server that is watched, on a host with XDP."""
    from ipaddress import ip_address
    from types import SimpleNamespace

    from kernlb.control.protocol import DatapathStatus
    from kernlb.control.protocol_health import Lateness, MonitorView
    from kernlb.control.protocol_xdp import XdpInterface, XdpStatus, XdpTable
    from kernlb.daemon.figures import Marks, ServiceFigures
    from kernlb.daemon.health_views import HealthFigures, Histogram, ServerFigures
    from kernlb.daemon.readings import Reading
    from kernlb.datapath import ServerStats, ServiceStats
    from kernlb.model import RealServer

    server = RealServer(ip_address("10.0.0.1"), 80)
    reading = Reading(0.0, ServiceStats(servers={server.key: ServerStats()}))
    xdp = XdpStatus(
        "0",
        1,
        0,
        interfaces=[XdpInterface("eth0", "native")],
        tables=[XdpTable("conns4", 0, 1)],
        packets={"forwarded": 0},
    )
    status = SimpleNamespace(
        started=0.0,
        datapaths=[DatapathStatus("ipvs", True)],
        services={},
        drift_repaired=0,
        last_audit=0.0,
        faults=[],
        xdp=xdp,
    )
    once = Histogram([("0.1", 1.0), ("+Inf", 1.0)], 0.05)
    monitor = MonitorView(1, 0, 0, Lateness(0.0, 0.0, 0.0))
    health = HealthFigures(monitor, once, {"tcp": once}, {"tcp": {"passed": 1}})

    async def services(*, each_server: bool) -> Any:
        assert each_server
        server_mark = '{server="10.0.0.1:80",service="web"}'
        marks = Marks([server_mark], [server_mark], '{service="web"}')
        yield ServiceFigures("web", True, (server,), reading, False, marks)

    return SimpleNamespace(
        most_servers=1,
        servers=1,
        events=0,
        status=lambda: status,
        services=services,
        health=lambda: health,
        watched=lambda: iter([ServerFigures("web", "10.0.0.1:80", True, {"up": 1})]),
    )


def test_every_route_of_the_control_api_is_shown() -> None:
    from kernlb.control import protocol

    page = (ROOT / "docs/control-api.md").read_text()
    routes = re.findall(r"^\| ([A-Z]+) (/v1[^\s|?]*)", protocol.__doc__ or "", re.MULTILINE)
    assert len(routes) > 15
    for method, path in routes:
        assert f"### {method} {path}\n" in page
    for kind in protocol.ProblemKind:
        assert f"| `{kind}` | {protocol.STATUS[kind]} |" in page


VOLATILE = {"pid", "started", "time", "since", "deadline", "last_audit", "cause"}


def test_the_control_api_answers_as_its_page_shows(tmp_path: Path) -> None:
    (tmp_path / "kernlb/services.d").mkdir(parents=True)
    (tmp_path / "kernlb/kernlb.yaml").write_text("metrics_listen: false\n")
    options = ["--datapath", "fake", "--config-dir", "kernlb", "--state-dir", "state"]
    with subprocess.Popen(
        [sys.executable, "-m", "kernlb.daemon", *options, "--socket", "kernlb.sock"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            assert daemon.stderr is not None
            assert "ready" in daemon.stderr.readline()
            for block in blocks(ROOT / "docs/control-api.md"):
                if block.language == "console":
                    _compare(block, tmp_path)
        finally:
            daemon.terminate()


def _compare(block: Block, folder: Path) -> None:
    """Send the example's request, and hold the answer against the one shown."""
    parts = re.fullmatch(r"\$ (.*?)\n([\[{].*)", block.text, re.DOTALL)
    assert parts, f"line {block.line}: no command with an answer"
    curl = argparse.ArgumentParser(allow_abbrev=False)
    for option in ("-s", "--unix-socket", "-X", "-d"):
        curl.add_argument(option, **{"action": "store_true"} if option == "-s" else {})
    curl.add_argument("url")
    asked = curl.parse_args(shlex.split(parts[1].replace("\\\n", ""))[1:])
    content = (asked.d or "").encode()
    message = request(asked.X or "GET", asked.url.removeprefix("http://kernlb"), content, "*/*")
    _, _, answer = exchange(str(folder / "kernlb.sock"), message, 10.0)
    shown = json.loads(parts[2].replace("/tmp/kernlb/", "kernlb/"))
    assert _settled(json.loads(answer)) == _settled(shown), f"line {block.line}: {parts[1]}"


def _settled(value: Any) -> Any:
    """The value without what differs from run to run."""
    if isinstance(value, dict):
        return {k: _settled(v) for k, v in value.items() if k not in VOLATILE}
    return [_settled(each) for each in value] if isinstance(value, list) else value
