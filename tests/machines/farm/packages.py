"""The package as of now, and the same as a newer and as an older version: for ways up and down."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.machines.image import CACHE, ROOT

NEWER, OLDER = "99.1", "0.0.1"
PATIENCE = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Packages:
    now: Path
    newer: Path
    older: Path


def built() -> Packages:
    """All three, from the checkout as it is. Raises AssertionError with what the build said."""
    return Packages(_built(""), _built(NEWER), _built(OLDER))


def _built(version: str) -> Path:
    out = CACHE / "packages" / (version or "now")
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.deb"):
        old.unlink()
    environ = os.environ | ({"KERNLB_VERSION": version} if version else {})
    done = subprocess.run(
        [sys.executable, str(ROOT / "debian" / "build"), "--out", str(out), "deb"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [package] = out.glob("kernlb_*.deb")
    return package
