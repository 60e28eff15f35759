"""``kernlb doctor`` as it is typed: what it prints, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernlb.cli.app import run
from kernlb.cli.console import Console
from kernlb.doctor.balancer import CHECKS

FILE = "address: 192.0.2.10\nport: 80\nvip: {interface: lo}\nservers: []\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "services.d").mkdir()
    (tmp_path / "services.d" / "web.yaml").write_text(FILE)
    return tmp_path


def doctor(folder: Path, *words: str) -> int:
    places = ["--config-dir", str(folder), "--state-dir", str(folder)]
    socket = ["--socket", str(folder / "no.sock")]
    return run([*socket, "doctor", *places, "--pins", str(folder / "pins"), *words], Console())


def test_all_findings_are_listed(folder: Path, capsys: Any) -> None:
    assert doctor(folder, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS) + 1
    assert lines[0].split() == ["ID", "SEVERITY", "MEANS"]


def test_one_finding_is_explained(folder: Path, capsys: Any) -> None:
    assert doctor(folder, "--explain", "ct-invalid-drop") == 0
    said = capsys.readouterr().out
    assert "remedy" in said
    assert "conntrack" in said


def test_a_finding_that_is_none_is_a_usage_error(folder: Path, capsys: Any) -> None:
    assert doctor(folder, "--explain", "gremlins") == 2
    assert 'cannot explain "gremlins"' in capsys.readouterr().err


def test_what_was_found_is_json_for_programs(folder: Path, capsys: Any) -> None:
    assert doctor(folder, "-o", "json") == 1  # services are declared, and no daemon answers
    said = json.loads(capsys.readouterr().out)
    found = {each["id"]: each for each in said["findings"]}
    assert set(found["daemon-silent"]) == {
        *("id", "severity", "about", "evidence", "means", "why", "remedy", "fix"),
    }
    assert {each["id"] for each in said["not_checked"]} >= {"drift-again", "audit-late"}
    ids = {*found, *said["clean"], *(each["id"] for each in said["not_checked"])}
    assert ids == {check.id for check in CHECKS}


def test_a_host_without_services_has_no_errors(tmp_path: Path, capsys: Any) -> None:
    assert doctor(tmp_path) == 0
    said = capsys.readouterr().out
    assert "services-folder-missing" in said
    assert "0 errors" in said.splitlines()[-1]


def test_nothing_is_fixed_without_being_asked_for(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor(folder, "--fix") == 2  # nobody can answer
    assert "say --yes" in capsys.readouterr().err


def test_what_is_fixed_is_printed_before_and_looked_at_again(folder: Path, capsys: Any) -> None:
    (folder / "services.d").chmod(0o777)
    (folder / "services.d" / "web.yaml").unlink()
    assert doctor(folder, "--fix", "--yes") == 0
    said = capsys.readouterr()
    assert f"chmod 0775 {folder}/services.d" in said.err
    assert "after that: 0 errors" in said.out
    assert (folder / "services.d").stat().st_mode & 0o777 == 0o775
