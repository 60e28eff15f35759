"""A later version of the package: another number, and another XDP program in it.

Made from the package itself, which takes seconds; building it anew takes a minute.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.bpf.compiled import BPF

LATER = "99.0.0"
TREE = "usr/lib/kernlb/lib/kernlb"


def later(package: Path, folder: Path) -> Path:
    """Of the same ABI; its answers to pings have a TTL of their own."""
    tree = folder / "tree"
    _do("dpkg-deb", "-R", str(package), str(tree))
    _replace(tree / "DEBIAN/control", r"^Version: .*$", f"Version: {LATER}")
    _replace(tree / TREE / "__init__.py", r'^__version__ = ".*"$', f'__version__ = "{LATER}"')
    shutil.copyfile(_program(folder), tree / TREE / "datapath/xdp/objects/kernlb.bpf.o")
    (tree / "DEBIAN/md5sums").unlink()
    target = folder / f"kernlb_{LATER}_amd64.deb"
    _do("dpkg-deb", "--root-owner-group", "-Znone", "-b", str(tree), str(target))
    return target


def _program(folder: Path) -> Path:
    sources = folder / "bpf"
    shutil.copytree(BPF, sources)
    _replace(sources / "answer.h", r"#define ANSWER_TTL 64", "#define ANSWER_TTL 63")
    out = sources / "later"
    _do("make", "-s", "-C", str(sources), f"OUT={out}", "SOURCES=kernlb.bpf.c")
    return out / "kernlb.bpf.o"


def _replace(path: Path, pattern: str, text: str) -> None:
    before = path.read_text()
    after, times = re.subn(pattern, text, before, flags=re.MULTILINE)
    assert times == 1, f"{path} has {pattern} {times} times"
    path.write_text(after)


def _do(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
