"""The unit of kernlbd as a file: its exposure, and what the page about it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.pages import ROOT

UNIT = ROOT / "debian/kernlb.kernlbd.service"
PAGE = ROOT / "docs/systemd.md"


def settings(text: str) -> dict[str, list[str]]:
    """Keys and all that each is set to."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).extend(value.split())
    return found


def exposure(unit: Path) -> float:
    """As `systemd-analyze security` has it: 0 is none, 10 a service without limits."""
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def test_the_exposure_is_low_and_the_page_says_how_low() -> None:
    assert (now := exposure(UNIT)) < 3.0
    told = re.search(r"`systemd-analyze security kernlbd` says ([0-9.]+)", PAGE.read_text())
    assert told and float(told[1]) == pytest.approx(now, abs=0.25)  # versions of systemd differ


def test_each_right_is_argued_and_no_other_is_given() -> None:
    table = PAGE.read_text().partition("| right | without it |")[2].partition("\n\n")[0]
    given = settings(UNIT.read_text())["CapabilityBoundingSet"]
    assert sorted(given) == sorted(re.findall(r"CAP_[A-Z_]+", table))


@pytest.mark.parametrize("name", ["MemoryMax", "LimitNOFILE", "TasksMax"])
def test_limits_are_those_of_the_page(name: str) -> None:
    (value,) = settings(UNIT.read_text())[name]
    assert f"`{name}={value}`" in PAGE.read_text()


def test_a_stop_flushes_nothing_and_a_reload_is_the_commands_own() -> None:
    told = settings(UNIT.read_text())
    assert told["ExecStart"] == ["/usr/sbin/kernlbd"]
    assert told["ExecReload"] == ["/usr/bin/kernlb", "reload"]
    assert not told.keys() & {"ExecStop", "ExecStopPost"}
