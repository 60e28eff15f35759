"""What is exported to keepalived reads back to the same service, and keepalived takes it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kernlb.config import parse_service
from kernlb.declaration import Declaration
from kernlb.health.check import Damping, Via, Watch
from kernlb.migrate.export_keepalived import write_keepalived
from kernlb.migrate.export_text import quoted, regex_quoted, shell_quoted
from kernlb.migrate.keepalived import translate
from kernlb.migrate.keepalived.words import decomment, split, split_quoted
from kernlb.migrate.report import Loss, Report
from kernlb.migrate.settle import settle
from kernlb.model import DatapathKind
from tests.unit.config.documents import services
from tests.unit.migrate.configurations import Memory

some_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30)


def declared(document: dict, name: str = "web") -> Declaration:
    return parse_service(json.dumps(document).encode(), name=name, source=f"{name}.json")


def imported(text: str) -> tuple[Declaration | None, Report]:
    report, (ledger, _) = translate("k", Memory({"k": text}), "here")
    assert ledger.forgotten == []
    found = settle(report)
    return next(iter(found.values()), None), report


def lost(losses: tuple[Loss, ...], start: str) -> bool:
    return any(loss.what.startswith(start) for loss in losses)


def as_keepalived_has_it(watch: Watch) -> Watch:
    timing = replace(watch.timing, rise=1, jitter=Watch(watch.check).timing.jitter)
    return Watch(watch.check, timing, Via.SERVER)


@given(services())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_service_that_went_to_keepalived_and_back_is_the_same(document: dict) -> None:
    before = declared(document)
    assume(before.servers and before.datapath is DatapathKind.IPVS)
    written = write_keepalived({"web": before})
    after, report = imported(written.text)
    assert after is not None, (written.text, [str(loss) for loss in report.losses])
    assert after.service == before.service
    assert after.servers == before.servers
    losses = written.losses
    if not lost(losses, "sorry_server"):
        assert after.sorry_servers == before.sorry_servers[:1]
    assert after.health.on_down is before.health.on_down
    assert after.health.initial is before.health.initial
    assert after.health.damping == Damping(changes=0)
    if not lost(losses, "health.hysteresis"):
        expected = (before.health.quorum, before.health.hysteresis)
        assert (after.health.quorum, after.health.hysteresis) == expected
    if not any(loss.what.startswith("check") and loss.what != "check.rise" for loss in losses):
        wanted = {key: as_keepalived_has_it(watch) for key, watch in before.watches.items()}
        assert after.watches == wanted


@given(st.lists(services(), min_size=1, max_size=12))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.skipif(not shutil.which("keepalived"), reason="needs apt-get install keepalived")
def test_keepalived_itself_takes_what_was_exported(
    tmp_path_factory: pytest.TempPathFactory, documents: list[dict]
) -> None:
    found = {f"s{number}": declared(each, f"s{number}") for number, each in enumerate(documents)}
    file = tmp_path_factory.mktemp("export") / "keepalived.conf"
    file.write_text(write_keepalived(found).text)
    assert complaints(file) == [], file.read_text()
    file.write_text(file.read_text() + "virtual_server 192.0.2.9 80 {\n  nonsense\n}\n")
    assert complaints(file) != []


def complaints(file: Path) -> list[str]:
    done = subprocess.run(
        ["keepalived", "-t", "-f", str(file)], capture_output=True, text=True, timeout=60
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def test_every_kind_of_check_goes_to_keepalived_and_back() -> None:
    checks = [
        {"type": "tcp", "port": 8080, "interval": "30s", "timeout": "1500ms", "rise": 1, "fall": 4},
        {"type": "icmp", "rise": 1},
        {"type": "http", "path": "/a b".replace(" ", "%20"), "host": "a.example", "rise": 1},
        {"type": "http", "status": [200, "300-399"], "rise": 1},
        {"type": "http", "body_regex": r"^ok\s$", "max_bytes": 1 << 20, "rise": 1},
        {"type": "https", "verify": False, "host": "b.example", "rise": 1},
        {"type": "udp", "payload": {"hex": "00ff20"}, "require_reply": True, "rise": 1},
        {"type": "dns", "query": "a.example", "record": "AAAA", "rise": 1},
        {"all": ["tcp", "icmp"], "rise": 1},
        {
            "type": "exec",
            "command": ["/bin/check", "two words", "x"],
            "user": "daemon",
            "warning_fails": True,
            "rise": 1,
        },
    ]
    servers = [
        {"address": f"10.0.0.{number}", "check": check} for number, check in enumerate(checks, 1)
    ]
    before = declared({"address": "192.0.2.1", "port": 80, "servers": servers})
    written = write_keepalived({"web": before})
    assert [loss.what for loss in written.losses] == [
        *("check.command", "health.damping"),
    ] or [loss.what for loss in written.losses] == ["health.damping", "check.command"]
    after, _ = imported(written.text)
    assert after is not None
    assert after.watches == before.watches


def test_what_keepalived_cannot_say_is_told_and_stands_in_the_text() -> None:
    document = {
        "address": "192.0.2.1",
        "port": 80,
        "vip": {"interface": "eth0"},
        "drain_timeout": "5m",
        "labels": {"team": "web"},
        "health": {"keep": 0.5, "when_all_down": "fail-open", "withdraw_vip": True},
        "check": {"any": ["http", {"type": "tls", "verify": False}], "via": "server"},
        "servers": [{"address": "10.0.0.1"}],
    }
    written = write_keepalived({"web": declared(document)})
    said = [loss.what for loss in written.losses]
    assert said == [
        *("vip", "drain_timeout", "labels.team", "health.withdraw_vip", "health.keep"),
        *("health.when_all_down", "health.damping", "check.rise", "check", "check tls"),
    ]
    for loss in written.losses:
        assert f"# {loss.kind}: {loss.what}: {loss.why}" in written.text


def test_a_service_without_real_servers_is_told_and_not_written() -> None:
    written = write_keepalived({"web": declared({"address": "192.0.2.1", "port": 80})})
    assert "virtual_server" not in written.text
    assert [loss.what for loss in written.losses] == ["the service"]


@given(some_text)
@settings(deadline=None)
def test_a_word_is_written_so_that_keepalived_reads_it_back(word: str) -> None:
    said = quoted(word)
    assert said is None or split(decomment(f"path {said}")) == ("path", word)


@given(some_text)
@settings(deadline=None)
def test_a_pattern_is_written_so_that_keepalived_reads_it_back(pattern: str) -> None:
    said = regex_quoted(pattern)
    assert said is None or split_quoted(decomment(said), escapes=True) == (pattern,)


@given(st.lists(some_text, min_size=1, max_size=4))
@settings(deadline=None)
def test_a_command_is_written_so_that_keepalived_reads_it_back(command: list[str]) -> None:
    said = shell_quoted(tuple(command))
    if said is not None:
        (whole,) = split_quoted(decomment(said), escapes=False)
        assert split_quoted(whole, escapes=False) == tuple(command)
