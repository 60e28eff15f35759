"""What is wrong with the host and not with a lab: the command itself is run in such a host."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kernlb.lab.commands import PASS_OBJECT
from tests.netns.doctor.breaking_host import WEB_FILE
from tests.netns.doctor.rows_host import BESIDE

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[3]
SHOWN = (
    "bpffs-missing",
    "kernel-old",
    "services-folder-missing",
    "xdp-veth-peer",
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    (folder / "services.d").mkdir(parents=True)
    (folder / "services.d" / "web.yaml").write_text(WEB_FILE)
    (folder / "kernlb.yaml").write_text("xdp: {interfaces: [lo]}\n")
    return folder


def doctor(config: Path, *before: str, code: int = 1) -> dict[str, dict[str, Any]]:
    """Findings by id; ``before``: the words that the command is run by."""
    words = [sys.executable, "-m", "kernlb.cli", "--socket", str(config / "no.sock"), "doctor"]
    words += ["--config-dir", str(config), "--state-dir", str(config), "-o", "json"]
    done = subprocess.run(
        [*before, *words], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return {each["id"]: each for each in json.loads(done.stdout)["findings"]}


def test_a_host_without_the_bpf_file_system_is_found_and_mended(config: Path) -> None:
    hidden = "umount /sys/fs/bpf"
    assert "bpffs-missing" not in doctor(config)
    found = doctor(config, "unshare", "--mount", "sh", "-c", f'{hidden}; exec "$@"', "sh")
    assert found["bpffs-missing"]["fix"] == ["mount -t bpf bpf /sys/fs/bpf"]
    mended = f'{hidden}; {found["bpffs-missing"]["remedy"][0]}; exec "$@"'
    assert "bpffs-missing" not in doctor(config, "unshare", "--mount", "sh", "-c", mended, "sh")


def test_a_kernel_that_is_too_old_is_found(config: Path) -> None:
    assert "kernel-old" not in doctor(config)
    found = doctor(config, "setarch", "--uname-2.6")
    assert "this is 2.6." in found["kernel-old"]["evidence"]


def test_a_folder_of_services_that_is_not_there_is_noted(config: Path) -> None:
    (config / "services.d" / "web.yaml").unlink()
    (config / "services.d").rmdir()
    found = doctor(config)
    assert found["services-folder-missing"]["severity"] == "note"


@contextmanager
def veth(name: str) -> Iterator[str]:
    """Both ends in a namespace: kd0 and kd1, up."""
    for line in (
        f"ip netns add {name}",
        f"ip -n {name} link add kd0 type veth peer name kd1",
        f"ip -n {name} link set kd0 up",
        f"ip -n {name} link set kd1 up",
    ):
        subprocess.run(line.split(), check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_the_other_end_of_a_veth_needs_a_program_as_well(config: Path, tmp_path: Path) -> None:
    (config / "kernlb.yaml").write_text("xdp: {interfaces: [kd0]}\n")
    with veth(f"kd-{tmp_path.name[-20:]}") as name:
        inside = ("nsenter", f"--net=/run/netns/{name}")
        found = doctor(config, *inside)
        assert "kd1, the other end of kd0" in found["xdp-veth-peer"]["evidence"]
        give = f"ip -n {name} link set kd1 xdpdrv object {ROOT / PASS_OBJECT} program pass"
        subprocess.run(give.split(), check=True)
        assert "xdp-veth-peer" not in doctor(config, *inside)


def test_these_are_those_that_the_table_leaves_out() -> None:
    assert sorted(SHOWN) == sorted(BESIDE)
