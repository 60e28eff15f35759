"""Completion: what a shell is offered when somebody presses the key."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.unit.cli import views


@pytest.fixture
def complete():
    """Words offered for a line whose last word is being typed, by a process as a shell runs it."""

    def offered(path, *words):
        done = subprocess.run(
            [sys.executable, "-m", "kernlb.cli"],
            env={
                **os.environ,
                "_KERNLB_COMPLETE": "bash_complete",
                "COMP_WORDS": " ".join(["kernlb", *words]),
                "COMP_CWORD": str(len(words)),
                "KERNLB_SOCKET": str(path),
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    return offered


def test_verbs_and_options_complete_without_a_daemon(complete, tmp_path):
    nowhere = tmp_path / "nowhere"
    assert complete(nowhere, "ser") == ["service", "server"]
    assert complete(nowhere, "server", "dr") == ["drain"]
    assert "--scheduler" in complete(nowhere, "service", "add", "web", "--sch")
    assert complete(nowhere, "service", "add", "web", "--scheduler", "l") == [
        "lc", "lblc", "lblcr"
    ]  # fmt: skip


def test_names_of_services_come_from_the_daemon(complete, daemon):
    daemon.says("GET /v1/services", views.SUMMARIES)
    assert complete(daemon.path, "service", "show", "") == ["web", "dns"]
    assert complete(daemon.path, "service", "rm", "web", "d") == ["dns"]


def test_servers_of_the_named_service_come_from_the_daemon(complete, daemon):
    daemon.says("GET /v1/services/web", views.WEB)
    assert complete(daemon.path, "server", "drain", "web", "10.") == ["10.0.0.1:80", "10.0.0.2:80"]


def test_an_unreachable_daemon_offers_nothing_and_says_nothing(complete, tmp_path):
    assert complete(tmp_path / "nowhere", "service", "show", "") == []
    assert complete(tmp_path / "nowhere", "server", "drain", "web", "") == []


def test_garbage_from_the_daemon_offers_nothing(complete, daemon):
    daemon.raw = b"nonsense\n"
    assert complete(daemon.path, "service", "show", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(kernlb, daemon, shell):
    outcome = kernlb("completion", shell)
    assert outcome.code == 0
    assert "_KERNLB_COMPLETE" in outcome.out
    assert daemon.requests == []


def test_bash_takes_its_script(kernlb, tmp_path):
    (tmp_path / "kernlb").write_text(kernlb("completion", "bash").out)
    subprocess.run(["bash", "-n", tmp_path / "kernlb"], check=True, timeout=30)
