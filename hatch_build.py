"""Compiles the BPF programs before a wheel is packed, so that a balancer needs no compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BpfObjects(BuildHookInterface[Any]):
    """An editable install has its objects from ``make bpf`` and does not wait for a compiler."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for tool in ("make", "clang", "llvm-strip"):
            if shutil.which(tool) is None:
                raise RuntimeError(
                    f"cannot compile the BPF programs: {tool} is not installed "
                    "(Debian: make, clang, llvm, libbpf-dev)"
                )
        subprocess.run(["make", "-s", "-C", str(Path(self.root) / "bpf")], check=True)
