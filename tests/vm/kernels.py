"""Other kernels: fetched from the distribution's archive, booted, and given the XDP programs.

    python -m tests.vm.kernels [6.12 7.2 ...]        (make kernels; needs root)

For each series the newest stock kernel of the backports is unpacked under .cache/kernels; nothing
is installed, and the links that the guest's modules need are taken away again. In the guest every
program is loaded, and the packet tests of SUBSET are run. Ends with a table, and with exit code 1
if any kernel refused anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernlb.lab.kernels import StockKernel
from kernlb.lab.rung import TREE, Rung, cache_folder
from kernlb.lab.vm import GuestSize, Task, guest_environ

SERIES = {"6.12": "bookworm-backports", "7.2": "trixie-backports"}
# Every method, family and protocol, without what surrounds them: a guest is slow.
SUBSET = (
    "tests/bpf/test_forwarding.py",
    "tests/bpf/test_replies.py",
    "tests/bpf/test_fullnat_ports.py",
    "-k",
    " and ".join(
        f"not {each}"
        for each in ("tag", "options", "through", "hop-by-hop", "routing", "extensions", "checksum")
    ),
)
MORE = ("tests/bpf/test_schedulers.py", "tests/bpf/test_other_states.py")
LIMIT = 1500.0  # seconds for one kernel, emulated
FOLDER = TREE / ".cache" / "kernels"


class Archive:
    """The distribution's archive, read by an apt state of its own."""

    def __init__(self, folder: Path, suite: str) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        mirror = _mirror()
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (folder / "archive.list").write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n")
        self._apt("apt-get", "-q", "update")

    def _apt(self, *argv: str) -> str:
        options = [
            f"-oDir::Etc::SourceList={self._folder}/archive.list",
            "-oDir::Etc::SourceParts=/dev/null",
            f"-oDir::State::Lists={self._folder}/lists",
            f"-oDir::Cache={self._folder}/cache",
            "-oAPT::Sandbox::User=root",
        ]
        return run([argv[0], *options, *argv[1:]], cwd=self._folder)

    def packages(self, series: str) -> list[str]:
        """Those of the newest kernel of a series: one image, or binary and modules apart."""
        names = self._apt("apt-cache", "pkgnames", "linux-").split()
        pattern = rf"linux-(image|binary|modules)-({re.escape(series)}\.[0-9.]+\+deb[0-9.]+)-amd64"
        found: dict[str, list[str]] = {}
        for name in sorted(names):
            if match := re.fullmatch(pattern, name):
                found.setdefault(match[2], []).append(name)
        newest = max(found, key=lambda release: [int(n) for n in re.findall(r"\d+", release)])
        parts = found[newest]
        split = [name for name in parts if "-image-" not in name]
        return split or parts

    def unpack(self, packages: list[str], target: Path) -> None:
        self._apt("apt-get", "-q", "download", *packages)
        for package in packages:
            (archive,) = self._folder.glob(f"{package}_*.deb")
            run(["dpkg-deb", "-x", str(archive), str(target)], cwd=self._folder)
            archive.unlink()


def _mirror() -> str:
    """The address that this machine's own sources name."""
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    for source in sources:
        if source.exists():
            for address in re.findall(r"https?://\S+/debian/?(?=\s|$)", source.read_text()):
                return str(address)
    raise SystemExit("kernels: no Debian archive in /etc/apt")


def run(argv: list[str], cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"kernels: {' '.join(argv[:3])} ...: {done.stderr.strip()[-500:]}")
    return done.stdout


def fetch(series: str) -> tuple[StockKernel, Path]:
    """A kernel, and its modules."""
    target = FOLDER / series
    if not list(target.glob("**/modules.dep")):
        archive = Archive(FOLDER / f"apt-{series}", SERIES[series])
        packages = archive.packages(series)
        say(f"{series}: unpacking {', '.join(packages)}")
        archive.unpack(packages, target)
    trees = [*target.glob("lib/modules/*"), *target.glob("usr/lib/modules/*")]
    (modules,) = [tree for tree in trees if tree.is_dir()]
    release = modules.name
    base = modules.parent.parent.parent
    run(["depmod", "-b", str(base), release], cwd=target)
    images = [*target.glob(f"boot/vmlinuz-{release}"), modules / "vmlinuz"]
    return StockKernel(release, next(image for image in images if image.exists())), modules


@contextmanager
def linked(modules: Path) -> Iterator[None]:
    """Guests share this machine's files, and look for modules where they belong."""
    place = Path("/lib/modules") / modules.name
    ours = not place.exists()
    if ours:
        place.symlink_to(modules)
    try:
        yield
    finally:
        if ours:
            place.unlink()


def check(series: str) -> tuple[str, str]:
    """Release, and what became of it."""
    kernel, modules = fetch(series)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(TREE)]
    argv += [*MORE, *SUBSET]
    with linked(modules):
        rung = Rung(kernel, cache_folder())
        say(f"{kernel.release}: booting")
        started = time.monotonic()
        task = Task(argv, TREE, guest_environ(os.environ) | {"CI": "true"})
        guest = rung.start(task, GuestSize(2, "2G"), sys.stdout.buffer, sys.stderr.buffer)
        try:
            ended = guest.wait(LIMIT)
            code = guest.exit_code if ended else None
        finally:
            guest.stop()
    seconds = time.monotonic() - started
    if code is None:
        return kernel.release, f"FAILED: no end within {seconds:.0f} s\n{guest.last_words()}"
    return kernel.release, f"{'accepted' if code == 0 else f'FAILED ({code})'} in {seconds:.0f} s"


def say(sentence: str) -> None:
    print(f"kernels: {sentence}", file=sys.stderr, flush=True)


def main() -> int:
    series = sys.argv[1:] or list(SERIES)
    if unknown := set(series) - SERIES.keys():
        raise SystemExit(f"kernels: {', '.join(unknown)} is none of {', '.join(SERIES)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = dict(check(each) for each in series)
    for release, what in found.items():
        print(f"{release}: {what}")
    return int(any("FAILED" in what for what in found.values()))


if __name__ == "__main__":
    sys.exit(main())
