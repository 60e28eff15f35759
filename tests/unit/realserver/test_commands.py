"""What `kernlb realserver setup`, `remove` and `check` refuse before they look at anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernlb.cli.app import run
from kernlb.cli.console import Console

SETUP = ("setup", "--method", "dsr")
VIP = ("--vip", "192.0.2.10")


@pytest.fixture
def kernlb(capfd, tmp_path: Path):
    def kernlb(*words: str) -> tuple[int, str]:
        code = run(["realserver", *words, "--root", str(tmp_path)], Console())
        return code, capfd.readouterr().err.splitlines()[0]

    return kernlb


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("setup", *VIP), "missing option '--method'"),
        (SETUP, "missing option '--vip'"),
        ((*SETUP, "--vip", "192.0.2.300"), '"192.0.2.300" is not an IP address'),
        ((*SETUP, *VIP, "--tunnel", "vxlan"), '"vxlan" is not a tunnel'),
        ((*SETUP, *VIP, "--tunnel", "gue:70000"), '"70000" is not a port'),
        ((*SETUP, *VIP, "--mss", "12"), '"12" is not a segment size'),
        ((*SETUP, *VIP, "--mtu", "68"), "invalid value for '--mtu'"),
        (("setup", "--method", "nat", *VIP), "invalid value for '--method'"),
        ((*SETUP, *VIP, "--from-state"), "--from-state says all"),
        (("setup", "--from-state"), "nothing is recorded in"),
        (("check",), "nothing is recorded in"),
        (("check", "--method", "dsr"), "missing option '--vip'"),
        (("check", "--method", "dsr", *VIP, "--port", "sctp/9"), '"sctp/9" is not a port'),
        (("check", "--method", "dsr", *VIP, "--fix"), "cannot ask whether to fix"),
        (("check", "--explain", "nonsense"), 'cannot explain "nonsense"'),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(kernlb, words, why) -> None:
    code, said = kernlb(*words)
    assert (code, why in said) == (2, True), said


def test_a_record_that_is_damaged_is_named_and_kept(kernlb, tmp_path: Path) -> None:
    path = tmp_path / "var/lib/kernlb/realserver.json"
    path.parent.mkdir(parents=True)
    for text, why in (
        ("{", "Expecting"),
        ("[]", "list indices"),
        ('{"version": 9}', "version 9 is not known"),
        ('{"version": 1}', "lacks 'wish'"),
    ):
        path.write_text(text)
        code, said = kernlb("remove")
        assert (code, f"cannot read {path}: " in said, why in said) == (1, True, True), said
        assert path.read_text() == text


def test_removing_what_is_not_set_up_succeeds(capfd, tmp_path: Path) -> None:
    assert run(["realserver", "remove", "--root", str(tmp_path)], Console()) == 0
    assert capfd.readouterr() == ("nothing to do\n", "")
    assert not list(tmp_path.iterdir())
