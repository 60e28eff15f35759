"""The wheel, the source archive and the package, built from the checkout as it stands.

Built on demand and once: kept under .cache/dist by a hash of the sources, so that a second run (or
a second process, which waits for the first) finds them. ``deb("9.0.0")`` is the same package under
another version, for upgrades and downgrades. The last few builds are kept.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache/dist"
KEPT = 6  # builds: of one tree, of some versions


def deb(version: str | None = None) -> Path:
    """The package; ``version`` instead of kernlb's own."""
    return _built("deb", "*.deb", version)


def wheel() -> Path:
    return _built("wheel", "*.whl", None)


def sdist() -> Path:
    return _built("sdist", "*.tar.gz", None)


def builder(root: Path = ROOT) -> ModuleType:
    """debian/build as a module."""
    loader = SourceFileLoader("kernlb_build", str(root / "debian/build"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def build(
    root: Path, out: Path, *kinds: str, version: str | None = None, epoch: int | None = None
) -> None:
    """Run debian/build of a checkout; ``epoch`` instead of its last commit's time."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("KERNLB_VERSION", "SOURCE_DATE_EPOCH")
    }
    if version is not None:
        environment["KERNLB_VERSION"] = version
    if epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = str(epoch)
    done = subprocess.run(
        [sys.executable, root / "debian/build", "--out", out, *kinds],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def epoch_of(made: Path) -> int:
    """Seconds: the time that is written into it; a later commit does not build it anew."""
    return int((made.parent / "epoch").read_text())


def lend_downloads(checkout: Path) -> None:
    """What this checkout has downloaded serves another one too; nothing that was built does."""
    (checkout / ".cache/dist").mkdir(parents=True)
    for each in (*CACHE.glob("vendor-*"), *CACHE.glob("hatch-*")):
        (checkout / ".cache/dist" / each.name).symlink_to(each)


def _built(kind: str, pattern: str, version: str | None) -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"lock-{kind}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = CACHE / f"{kind}-{version or 'own'}-{_fingerprint()}"
        if not place.exists():
            scratch = place.with_name(f"{place.name}.new")
            shutil.rmtree(scratch, ignore_errors=True)
            epoch = builder().epoch()
            build(ROOT, scratch, kind, version=version, epoch=epoch)
            (scratch / "epoch").write_text(f"{epoch}\n")
            scratch.rename(place)
            _forget(kind)
        place.touch()
        (made,) = place.glob(pattern)
        return made


@functools.cache
def _fingerprint() -> str:
    """Of all that is shipped, at the first question: one run of tests is about one state.

    Not of the last commit's time: it says nothing of what is inside.
    """
    digest = hashlib.sha256()
    for name in builder().sources():
        digest.update(f"{name}\0".encode() + (ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _forget(kind: str) -> None:
    places = sorted(CACHE.glob(f"{kind}-*-*"), key=lambda each: each.stat().st_mtime)
    for place in places[:-KEPT]:
        shutil.rmtree(place, ignore_errors=True)
