"""``kernlb import`` and ``kernlb export`` as commands: what they print, write, and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernlb.cli.app import run
from kernlb.cli.console import DONE, FAILED, UNREACHABLE, USAGE
from tests.unit.migrate.configurations import virtual_server

LOSS = "quorum_up /bin/x"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "keepalived.conf"
    path.write_text(virtual_server(LOSS))
    return path


def test_documents_are_printed_and_losses_go_to_standard_error(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", "keepalived", str(conf)]) == DONE
    out, err = capsys.readouterr()
    assert out.startswith("--- # tcp-192.0.2.1-80.yaml\n# imported from ")
    assert err.splitlines()[0].startswith(f"{conf}:4: lost: {LOSS}: kernlb runs no scripts")
    assert err.splitlines()[-1] == "in all: 1 lost"


def test_json_holds_documents_and_losses(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "keepalived", str(conf), "-o", "json"]) == DONE
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["services"]["tcp-192.0.2.1-80"]["address"] == "192.0.2.1"
    (loss,) = answer["losses"]
    assert (loss["kind"], loss["what"], loss["line"]) == ("lost", LOSS, 4)
    assert err == ""


def test_documents_are_written_and_never_over_others(
    conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "services.d"
    command = ["import", "keepalived", str(conf), "--output-dir", str(there)]
    assert run([*command, "--dry-run"]) == DONE
    assert not there.exists()
    assert run(command) == DONE
    written = there / "tcp-192.0.2.1-80.yaml"
    before = written.read_text()
    assert [path.name for path in there.iterdir()] == [written.name]
    capsys.readouterr()
    assert run(command) == FAILED
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"{written}: it is there already")
    assert written.read_text() == before
    assert run(["import", "keepalived", str(conf), "--output-dir", str(conf)]) == FAILED
    assert f"cannot write to {conf}: " in capsys.readouterr().err


def test_what_was_imported_is_exported_and_imported_again(
    conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["import", "keepalived", str(conf), "--output-dir", str(tmp_path / "services.d")])
    capsys.readouterr()
    assert run(["export", "keepalived", "--config-dir", str(tmp_path)]) == DONE
    text = capsys.readouterr().out
    again = tmp_path / "again.conf"
    again.write_text(text)
    assert run(["import", "keepalived", str(again), "--output-dir", str(tmp_path / "b")]) == DONE
    first, second = (
        (tmp_path / where / "tcp-192.0.2.1-80.yaml").read_text().partition("\n")[2]
        for where in ("services.d", "b")
    )
    assert first == second


def test_strict_does_nothing_where_anything_is_lost(conf: Path, tmp_path: Path) -> None:
    there = tmp_path / "services.d"
    command = ["import", "keepalived", str(conf), "--strict", "--output-dir", str(there)]
    assert run(command) == FAILED
    assert not there.exists()
    conf.write_text(virtual_server())
    assert run(command) == DONE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot import {0}: no such file or directory"),
        ("global_defs {\n}\n", "cannot import {0}: it has no service that can be carried over"),
        ("include keepalived.conf\n", "cannot import {0}: {0}:1: {0} includes itself"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_sentence(
    text: str | None, said: str, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.unlink() if text is None else conf.write_text(text)
    assert run(["import", "keepalived", str(conf)]) == FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"error: {said.format(conf)}"


def test_apply_asks_the_daemon(conf: Path, tmp_path: Path) -> None:
    nobody = str(tmp_path / "no.sock")
    command = ["--socket", nobody, "import", "keepalived", str(conf), "--apply"]
    assert run(command) == UNREACHABLE
    assert run([*command, "--output-dir", "x"]) == USAGE


def test_an_ldirectord_configuration_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ldirectord.cf"
    file.write_text("virtual=192.0.2.1:80\n    real=10.0.0.1:80 gate\n")
    assert run(["import", "ldirectord", str(file)]) == DONE
    assert "forwarding: dsr" in capsys.readouterr().out


def test_saved_rules_of_ipvsadm_are_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules"
    file.write_text("-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 3\n")
    assert run(["import", "ipvsadm", str(file)]) == DONE
    assert "weight: 3" in capsys.readouterr().out
    assert run(["import", "ipvsadm"]) == USAGE
    assert run(["import", "ipvsadm", "--live", "--adopt"]) == USAGE


def test_a_bad_document_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "web.yaml"
    file.write_text("address: 192.0.2.1\nport: eighty\n")
    assert run(["export", "keepalived", str(file), "--config-dir", str(tmp_path)]) == FAILED
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: cannot export: {file}:2: port: ")
