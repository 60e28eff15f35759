#!/usr/bin/python3
"""The libraries that the package carries: which, of which bytes, and where they go in its tree.

    debian/vendor.py lock               write debian/vendor.lock anew, after constraints.txt
    debian/vendor.py fetch DIRECTORY    download what the lock names: DIRECTORY/cp311, cp312, cp313
    debian/vendor.py unpack WHEELS TREE lay them out: TREE/lib, TREE/cp311, cp312, cp313

pyproject.toml says what is needed, constraints.txt which versions, vendor.lock which files by
their hashes. Only wheels are taken, and nothing of them is run. Standard library only; pip
downloads.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "debian/vendor.lock"
PYTHONS = ("3.11", "3.12", "3.13")  # Debian 12, Ubuntu 24.04, Debian 13
# Debian 12 has glibc 2.36. pip takes each of these names as it stands.
GLIBCS = ("2_36", "2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
PLATFORMS = (
    *(f"manylinux_{each}_x86_64" for each in GLIBCS),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)
# What only compilers and type checkers read, and what only an installer does.
NOT_RUN = {".pyx", ".pxd", ".pxi", ".c", ".h", ".pyi", ".typed", ".hash"}
OF_INSTALLERS = {"RECORD", "WHEEL", "INSTALLER", "entry_points.txt", "top_level.txt", "sboms"}


def tag(python: str) -> str:
    return "cp" + python.replace(".", "")


def fetch(directory: Path) -> None:
    """Every file that the lock names, its hash proven; ``directory`` is there when all are."""
    if directory.exists():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        for python in PYTHONS:
            _download(
                python, Path(scratch) / tag(python), "--no-deps", "--require-hashes", "-r", LOCK
            )
        Path(scratch).chmod(0o755)
        shutil.copytree(scratch, directory.with_name(f"{directory.name}.new"))
    directory.with_name(f"{directory.name}.new").rename(directory)


def lock() -> None:
    """Resolve for each Python and write down what came, one line a package."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    found: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for python in PYTHONS:
            into = Path(scratch) / tag(python)
            _download(python, into, "-c", ROOT / "constraints.txt", *needs)
            for wheel in sorted(into.iterdir()):
                name, version = wheel.name.split("-")[:2]
                requirement = f"{name.lower().replace('_', '-')}=={version}"
                found.setdefault(requirement, set()).add(_sha256(wheel))
    head = (
        LOCK.read_text().partition("\n\n")[0]
        if LOCK.exists()
        else "# Made by debian/vendor.py lock."
    )
    lines = (
        " \\\n    ".join([requirement, *(f"--hash=sha256:{each}" for each in sorted(hashes))])
        for requirement, hashes in sorted(found.items())
    )
    LOCK.write_text(head + "\n\n" + "\n".join(lines) + "\n")


def _download(python: str, into: Path, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    command += [f"--abi={each}" for each in (tag(python), "abi3", "none")]
    command += [f"--platform={each}" for each in PLATFORMS]
    done = subprocess.run(
        [*command, "--dest", into, *arguments], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"vendor: cannot download for Python {python}: {done.stderr.strip()}")


def unpack(wheels: Path, tree: Path) -> None:
    """Pure wheels once into lib, compiled ones into the directory of their Python."""
    for python in PYTHONS:
        (tree / tag(python)).mkdir(parents=True, exist_ok=True)
        for wheel in sorted((wheels / tag(python)).glob("*.whl")):
            pure = wheel.name.endswith("-none-any.whl")
            _unpack(wheel, tree / ("lib" if pure else tag(python)))


def _unpack(wheel: Path, into: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in _wanted(archive):
            path = into / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
            path.chmod(0o644)


def _wanted(archive: zipfile.ZipFile) -> Iterator[str]:
    for name in archive.namelist():
        path = PurePosixPath(name)
        if ".." in path.parts or path.is_absolute() or path.parts[0].endswith(".data"):
            raise SystemExit(f"vendor: cannot unpack {archive.filename}: it has {name}")
        meta = path.parts[0].endswith(".dist-info") and OF_INSTALLERS.intersection(path.parts)
        if not (name.endswith("/") or path.suffix in NOT_RUN or meta):
            yield name


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str]) -> None:
    match arguments:
        case ["lock"]:
            lock()
        case ["fetch", directory]:
            fetch(Path(directory).resolve())
        case ["unpack", wheels, tree]:
            unpack(Path(wheels), Path(tree))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
