"""The rung: run a command on a kernel that has IPVS, wherever one can be had.

One runner decides for demo, tests and benchmarks: this machine's own kernel when IPVS answers
there, else a stock Debian or Ubuntu kernel booted under QEMU on this machine's files. It passes
on the command's output and its exit code, and says what is missing when neither can be had.

    python -m kernlb.lab.rung [--vm auto|never|always] [--kernel SERIES] [--cpus N] -- COMMAND...
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import kernlb
from kernlb.lab import archive, images, kernels
from kernlb.lab.vm import KVM_BOOT_SECONDS, QEMU, Guest, GuestSize, Task, guest_environ

TIMED_OUT, GUEST_DIED, NO_KERNEL = 124, 125, 69
PACKAGES = "apt-get install qemu-system-x86 linux-image-amd64 busybox-static zstd"
TREE = Path(kernlb.__file__).resolve().parent.parent


class NoKernel(Exception):
    """Neither this kernel nor a bootable one has IPVS; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Rung:
    """Where commands run: `kernel` None is this machine's own kernel."""

    kernel: kernels.StockKernel | None
    cache: Path

    @property
    def in_vm(self) -> bool:
        return self.kernel is not None

    def start(
        self,
        task: Task,
        size: GuestSize,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> Guest:
        """Boot a guest for `task` and return at once; KVM only where it is seen to boot."""
        assert self.kernel is not None
        precompile()
        task = replace(task, modules_from=self.kernel.modules)
        made = images.prepare(self.kernel, self.cache)
        broken = self.cache / f"kvm-does-not-boot-{self.kernel.release}"
        if os.access("/dev/kvm", os.R_OK | os.W_OK) and not broken.exists():
            guest = Guest(made, task, size, kvm=True, stdout=stdout, stderr=stderr)
            if guest.wait_booted(KVM_BOOT_SECONDS):
                return guest
            guest.stop()
            broken.touch()
        return Guest(made, task, size, stdout=stdout, stderr=stderr)


def choose(vm: str = "auto", series: str | None = None) -> Rung:
    """Decide where to run; with a series ("6.12"), on a Debian kernel of it, in a guest.

    Raises NoKernel with what is missing and how to get it."""
    cache = cache_folder()
    if series is None and vm != "always" and kernels.running_kernel_has_ipvs():
        return Rung(None, cache)
    if vm == "never":
        raise NoKernel(
            f"cannot run here: kernel {os.uname().release} has no IPVS (modprobe ip_vs failed)"
        )
    if shutil.which(QEMU) is None:
        raise NoKernel(f"cannot boot a kernel with IPVS: {QEMU} is missing; try: {PACKAGES}")
    if not (Path(sys.executable).parent / "virtme-run").exists():
        raise NoKernel("cannot boot a kernel with IPVS: virtme-ng is missing; try: make setup")
    try:
        if series is not None:
            return Rung(archive.obtain(series, cache), cache)
        return Rung(kernels.newest_bootable(), cache)
    except archive.ArchiveError as error:
        raise NoKernel(str(error)) from None
    except LookupError as error:
        raise NoKernel(f"cannot boot a kernel with IPVS: {error}; try: {PACKAGES}") from None


def cache_folder() -> Path:
    """Beside the sources when they can be written (a checkout), else in the user's cache."""
    if (TREE / "pyproject.toml").exists() and os.access(TREE, os.W_OK):
        return TREE / ".cache" / "rung"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kernlb" / "rung"


def precompile() -> None:
    """Byte-compile what the guest imports: it cannot write, and compiling there takes seconds."""
    for folder in ("kernlb", "tests", "bench"):
        if (TREE / folder).is_dir() and os.access(TREE / folder, os.W_OK):
            compileall.compile_dir(TREE / folder, quiet=2, workers=1)


def run(
    argv: Sequence[str],
    *,
    vm: str,
    size: GuestSize,
    timeout: float,
    shares: Sequence[Path],
    series: str | None = None,
) -> int:
    """Run argv to its end where `choose` says, within `timeout` seconds; its exit code."""
    rung = choose(vm, series)
    if not rung.in_vm:
        os.execvp(argv[0], list(argv))
    assert rung.kernel is not None
    why = "" if series or vm == "always" else "this kernel has no IPVS: "
    say(f"{why}booting {rung.kernel.release} under QEMU")
    task = Task(argv, Path.cwd(), guest_environ(os.environ), shares)
    guest = rung.start(task, size, sys.stdout.buffer, sys.stderr.buffer)
    try:
        if guest.wait_booted(timeout):
            say(f"booted in {time.monotonic() - guest.started_at:.0f} s")
        remaining = guest.started_at + timeout - time.monotonic()
        if not guest.wait(max(remaining, 0)):
            say(f"gave up after {timeout:.0f} s: the guest was still running")
            return TIMED_OUT
        if guest.exit_code is None:
            say(f"the guest died before the command ended:\n{guest.last_words()}")
            return GUEST_DIED
        return guest.exit_code
    finally:
        guest.stop()


def say(sentence: str) -> None:
    print(f"rung: {sentence}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kernlb.lab.rung", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--vm", choices=("auto", "never", "always"), default="auto")
    parser.add_argument(
        "--kernel", metavar="SERIES", help="a Debian kernel such as 6.12, downloaded when needed"
    )
    parser.add_argument("--cpus", type=int, default=2, help="virtual CPUs (default: 2)")
    parser.add_argument("--memory", default="2G", help="memory of the guest (default: 2G)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds (default: 900)")
    parser.add_argument(
        "--share", type=Path, action="append", default=[], help="a folder the guest may write"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND and its arguments")
    options = parser.parse_args()
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not argv:
        parser.error("no command given")
    try:
        return run(
            argv,
            vm=options.vm,
            size=GuestSize(options.cpus, options.memory),
            timeout=options.timeout,
            shares=[share.resolve() for share in options.share],
            series=options.kernel,
        )
    except (NoKernel, RuntimeError, OSError) as error:
        say(str(error))
        return NO_KERNEL


if __name__ == "__main__":
    sys.exit(main())
