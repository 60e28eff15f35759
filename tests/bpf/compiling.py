"""Drivers of the tests in C, compiled when they are needed."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "fuzz"


def library(source: str, directory: Path) -> ctypes.CDLL:
    """fuzz/SOURCE as a library; its calls let other threads run."""
    out = directory / f"{source}.so"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, str(SOURCES / source), "-o", str(out)], check=True, timeout=60)
    return ctypes.CDLL(str(out))
