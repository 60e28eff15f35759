"""Kernels of other Debian releases, got from the archive that this machine's apt already uses.

They are unpacked in the cache folder and nowhere installed: apt works there with lists and
downloads of its own, and checks signatures as ever. A kernel that was got once is used again
without a look at the archive.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kernlb.lab.kernels import StockKernel, release_order

SUITES = ("bookworm-backports", "trixie", "trixie-backports")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FLAVOUR = "amd64"  # the cloud flavour lacks 9p
# The packages of a release, the first of them with the image. Since 7.2 it is split, and
# linux-image only names the others.
PACKAGES = (("linux-binary", "linux-modules", "linux-base"), ("linux-image",))


class ArchiveError(OSError):
    """A kernel cannot be got; the message says what was tried."""


def obtain(series: str, cache: Path) -> StockKernel:
    """The newest Debian kernel of a series ("6.12"), from the cache or else from the archive."""
    kept = sorted(_kept(series, cache), key=lambda each: release_order(each.release))
    return kept[-1] if kept else _Archive(cache / "apt").unpack_newest(series, cache)


def _kept(series: str, cache: Path) -> list[StockKernel]:
    found = cache.glob(f"debian/{series}.*/boot/vmlinuz-*")
    return [_kernel_in(image.parent.parent) for image in found]


def _kernel_in(folder: Path) -> StockKernel:
    release = folder.name
    return StockKernel(release, folder / "boot" / f"vmlinuz-{release}", folder / "lib" / "modules")


class _Archive:
    def __init__(self, state: Path) -> None:
        for each in ("lists/partial", "cache/archives/partial"):
            (state / each).mkdir(parents=True, exist_ok=True)
        sources = state / "kernels.sources"
        sources.write_text(
            f"Types: deb\nURIs: {_configured()}\nSuites: {' '.join(SUITES)}\n"
            f"Components: main\nSigned-By: {KEYRING}\n"
        )
        self._options = (
            f"-oDir::Etc::SourceList={sources}",
            "-oDir::Etc::SourceParts=/dev/null",
            f"-oDir::State::Lists={state}/lists",
            f"-oDir::Cache={state}/cache",
            f"-oAPT::Architecture={FLAVOUR}",
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Languages=none",
        )

    def unpack_newest(self, series: str, cache: Path) -> StockKernel:
        self._apt("apt-get", "-q", "update")
        kinds = {kind: self._releases(kind[0], series) for kind in PACKAGES}
        releases = [release for each in kinds.values() for release in each]
        if not releases:
            raise ArchiveError(
                f"cannot get a Debian kernel {series}: none in {', '.join(SUITES)} of the archive"
            )
        release = max(releases, key=release_order)
        kind = next(kind for kind, each in kinds.items() if release in each)
        target = cache / "debian" / release
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache) as place:
            names = [f"{name}-{release}" for name in kind]
            self._apt("apt-get", "-q", "download", *names, cwd=Path(place))
            made = Path(place) / "unpacked"
            for package in sorted(Path(place).glob("*.deb")):
                _run(["dpkg-deb", "-x", str(package), str(made)])
            _arrange(made, release)
            made.replace(target)
        return _kernel_in(target)

    def _releases(self, package: str, series: str) -> list[str]:
        pattern = rf"^{package}-{re.escape(series)}\.[0-9.]+[+]deb[0-9.]+-{FLAVOUR}$"
        listed = self._apt("apt-cache", "search", "--names-only", pattern)
        return [line.split()[0].removeprefix(f"{package}-") for line in listed.splitlines()]

    def _apt(self, command: str, *words: str, cwd: Path | None = None) -> str:
        return _run([command, *self._options, *words], cwd)


def _arrange(made: Path, release: str) -> None:
    """The image and the modules where every kernel has them, whatever the package's habits."""
    if not (made / "lib").exists():
        (made / "lib").symlink_to("usr/lib")
    image = made / "boot" / f"vmlinuz-{release}"
    if not image.exists():
        image.parent.mkdir(exist_ok=True)
        shutil.move(made / "lib" / "modules" / release / "vmlinuz", image)
    _run(["depmod", "-b", str(made), release])


def _configured() -> str:
    """The address of Debian's archive, as this machine's own apt has it."""
    wanted = "$(REPO_URI) $(ORIGIN) $(RELEASE)"
    listed = _run(["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"])
    for uri, origin, suite in (line.split() for line in listed.splitlines()):
        if origin == "Debian" and not suite.endswith(("-security", "/updates")):
            return uri
    raise ArchiveError("cannot get a Debian kernel: apt here is not set up for Debian's archive")


def _run(argv: Sequence[str], cwd: Path | None = None) -> str:
    environ = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, cwd=cwd, timeout=400, check=False, env=environ
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as why:
        raise ArchiveError(f"cannot get a Debian kernel: {why}") from why
    if done.returncode:
        what = next(word for word in reversed(argv) if not word.startswith("-"))
        last = "; ".join(done.stderr.strip().splitlines()[-3:])
        raise ArchiveError(f"cannot get a Debian kernel: {argv[0]} {what} failed: {last}")
    return done.stdout
