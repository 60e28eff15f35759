"""The command line and the real daemon, which holds services in memory (the fake datapath)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernlb.control.client import Client, DaemonUnreachableError


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The directory of a running daemon, started once for this module."""
    base = tmp_path_factory.mktemp("d")
    (base / "config" / "services.d").mkdir(parents=True)
    (base / "state").mkdir()
    directories = ["--config-dir", base / "config", "--state-dir", base / "state"]
    options = ["--datapath", "fake", "--log-level", "error", *directories]
    command = [sys.executable, "-m", "kernlb.cli", "--socket", base / "s", "daemon", *options]
    daemon = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while not _answers(base / "s"):
            assert daemon.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield base
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0


def _answers(path: Path) -> bool:
    try:
        Client(str(path)).version()
    except DaemonUnreachableError:
        return False
    return True


@pytest.fixture
def real(base, kernlb_at):
    """The directory of documents, empty, and the command that talks to the daemon."""
    services, kernlb = base / "config" / "services.d", kernlb_at(base / "s")
    yield services, kernlb
    for path in services.iterdir():
        path.unlink()
    assert kernlb("reload").code == 0


def test_a_service_lives_from_add_to_rm(real):
    services, kernlb = real
    assert kernlb(
        "service", "add", "web", "192.0.2.10:80", "--scheduler", "wrr", "--persistence", "5m/24",
        "--server", "10.0.0.1:8080", "--server", "10.0.0.2:8080,weight=3", "--label", "team=web",
    ).code == 0  # fmt: skip
    text = (services / "web.yaml").read_text()
    (services / "web.yaml").write_text("# ours\n" + text)
    assert kernlb("reload") == (0, "no changes\n", "")

    assert kernlb("service", "edit", "web", "--scheduler", "mh", "--no-persistence").code == 0
    assert (services / "web.yaml").read_text().startswith("# ours\n")
    view = json.loads(kernlb("service", "show", "web", "-o", "json").out)
    assert (view["scheduler"], view.get("persistence")) == ("mh", None)
    assert [each["kernel_weight"] for each in view["servers"]] == [1, 3]

    assert kernlb("server", "add", "web", "10.0.0.3:8080", "--weight", "2").code == 0
    assert kernlb("server", "drain", "web", "10.0.0.3", "--wait").code == 0
    assert kernlb("server", "disable", "web", "10.0.0.2").code == 0
    states = [each["state"] for each in json.loads(kernlb("server", "ls", "-o", "json").out)]
    assert states == ["up", "disabled", "draining"]
    assert kernlb("server", "enable", "web", "10.0.0.2").code == 0

    assert "10.0.0.1:8080" in kernlb("stats", "web").out
    assert "synced" in kernlb("service", "ls", "--label", "team=web").out
    assert kernlb("service", "rm", "web").code == 0
    assert not list(services.iterdir())
    assert json.loads(kernlb("service", "ls", "-o", "json").out) == []


def test_a_plan_changes_nothing_and_apply_does_what_it_says(real, tmp_path):
    services, kernlb = real
    document = tmp_path / "dns.yaml"
    document.write_text(
        "address: 192.0.2.10\nport: 53\nprotocol: udp\nservers: [{address: 10.0.0.1}]\n"
    )
    planned = kernlb("plan", str(document))
    assert planned.code == 3
    assert not list(services.iterdir())
    assert kernlb("apply", str(document), "--dry-run")[:2] == (0, planned.out)
    assert kernlb("apply", str(document))[:2] == (0, planned.out)
    assert kernlb("plan", str(document)) == (0, "no changes\n", "")


def test_what_makes_no_sense_is_refused_with_its_key_and_changes_nothing(real):
    services, kernlb = real
    outcome = kernlb("service", "add", "web", "192.0.2.10:0", "--server", "10.0.0.1")
    assert outcome.code == 1
    assert outcome.err.startswith("error: cannot ")
    assert "port" in outcome.err
    assert not list(services.iterdir())
    assert kernlb("service", "rm", "web").code == 1


def test_a_bad_file_is_told_with_its_line(real):
    services, kernlb = real
    (services / "web.yaml").write_text("address: 192.0.2.10\nport: 70000\n")
    outcome = kernlb("reload")
    assert outcome.code == 1
    assert "web.yaml:2: port)" in outcome.err
    assert kernlb("plan").code == 1
