"""Objects compiled for tests, by the same rules as the ones that are shipped."""

from __future__ import annotations

import subprocess
from pathlib import Path

BPF = Path(__file__).parents[2] / "bpf"
DATA = Path(__file__).parent / "data"


def compiled(source: str, out: Path, *flags: str) -> Path:
    """The object of tests/bpf/data/SOURCE.bpf.c, made in ``out``."""
    words = (f"OUT={out}", f"SOURCES={DATA / source}.bpf.c", f"EXTRA={' '.join(flags)}")
    made = subprocess.run(["make", "-s", "-C", BPF, *words], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return out / f"{source}.bpf.o"
