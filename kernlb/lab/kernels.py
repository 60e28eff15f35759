"""Which kernels this machine offers: the running one, and stock ones that could be booted.

Decides by looking at what is there (a module that loads, a file that exists), never by comparing
versions of features. Downloads and installs nothing.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

IPVS_STATE = Path("/proc/net/ip_vs")
MODULES = Path("/lib/modules")
# What the guest needs from its modules: its own root file system, and what it is booted for.
NEEDED_MODULES = ("9p", "9pnet_virtio", "virtio_pci", "ip_vs")


@dataclass(frozen=True, slots=True)
class StockKernel:
    """A kernel that is not running: its image, and where modules lie by their release."""

    release: str
    image: Path
    modules: Path = MODULES


def running_kernel_has_ipvs() -> bool:
    """True when IPVS answers in this kernel, after trying once to load its module."""
    if not IPVS_STATE.exists():
        try_to_load("ip_vs")
    return IPVS_STATE.exists()


def try_to_load(*modules: str) -> None:
    """Ask for kernel modules; one that cannot be loaded is no error, its feature is just absent."""
    try:
        subprocess.run(
            ["modprobe", "-q", "-a", *modules], check=False, capture_output=True, timeout=30
        )
    except FileNotFoundError:
        return


def newest_bootable(boot: Path = Path("/boot"), lib: Path = MODULES) -> StockKernel:
    """The newest installed kernel whose modules include IPVS and a 9p root; LookupError if none."""
    rejected: list[str] = []
    for image in sorted(
        boot.glob("vmlinuz-*"), key=lambda each: release_order(each.name), reverse=True
    ):
        release = image.name.removeprefix("vmlinuz-")
        if missing := _modules_missing(lib / release):
            rejected.append(f"{release} lacks {', '.join(missing)}")
        else:
            return StockKernel(release, image, lib)
    found = "; ".join(rejected) if rejected else f"no {boot}/vmlinuz-* at all"
    raise LookupError(found)


def _modules_missing(tree: Path) -> list[str]:
    try:
        names = (tree / "modules.dep").read_text() + _read_if_there(tree / "modules.builtin")
    except OSError:
        return ["its modules"]
    return [name for name in NEEDED_MODULES if not re.search(rf"/{name}\.ko\b", names)]


def _read_if_there(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def release_order(release: str) -> tuple[int, ...]:
    """Sorts releases by age."""
    return tuple(int(number) for number in re.findall(r"\d+", release))
