"""The guest itself: what a test marked `ipvs` may count on finding there."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.ipvs


def test_the_kernel_here_has_ipvs() -> None:
    assert Path("/proc/net/ip_vs").exists()


def test_run_and_tmp_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept in memory")
    Path("/run/kernlb-was-here").write_text("")
    Path("/run/kernlb-was-here").unlink()


def test_many_files_may_be_open() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= 1024


def test_ipvsadm_lists_an_empty_table_or_services() -> None:
    listing = subprocess.run(["ipvsadm", "-Ln"], capture_output=True, text=True, check=True)
    assert listing.stdout.startswith("IP Virtual Server")
    assert os.geteuid() == 0
