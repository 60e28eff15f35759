"""One emulated guest: boots a stock kernel on the host's own files, runs one command, and ends.

A `Guest` is a started QEMU process plus the exchange folder it shares with `guest.py` inside.
The host's files are read-only to it; what the command shall leave behind goes to the exchange
folder or to a folder shared by name. Every wait is bounded, and `stop` always leaves nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import kernlb
from kernlb.lab import kernels
from kernlb.lab.images import BootImages

QEMU = "qemu-system-x86_64"
EXCHANGE_IN_GUEST = "/run/rung"
MODULES = ("ip_vs", "ipip", "ip6_tunnel", "fou", "fou6", "ip_gre", "ip6_gre")
# Emulated `rep movsb` copies a byte a step: hide what makes kernel and libc prefer it. Five-level
# page tables and the protections against speculation cost time and protect nobody here.
EMULATED_CPU = "max,-erms,-fsrm,-la57"
KERNEL_LINE = (
    "console=ttyS0 loglevel=4 panic=-1 nokaslr mitigations=off clocksource=tsc tsc=reliable"
)
KVM_BOOT_SECONDS = 20.0
PASSED_ON = ("CI", "DATAPATH", "TERM", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHONPATH")


@dataclass(frozen=True, slots=True)
class GuestSize:
    cpus: int = 2
    memory: str = "2G"


@dataclass(frozen=True, slots=True)
class Task:
    """What the guest shall run. `shares` are folders it may write, under their own names."""

    argv: Sequence[str]
    cwd: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    shares: Sequence[Path] = ()
    modules: Sequence[str] = MODULES
    modules_from: Path = kernels.MODULES
    files: Mapping[str, str] = field(default_factory=dict)  # by name in the exchange folder


def guest_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The few variables that mean something in the guest too, and those that Python needs there."""
    passed = {k: v for k, v in environ.items() if k in PASSED_ON or k.startswith("KERNLB_")}
    scripts = Path(sys.executable).parent
    return passed | {
        "PATH": f"{scripts}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "KERNLB_IN_GUEST": "1",
    }


class Guest:
    """A booting or running guest. Use `wait`, then `exit_code`; `stop` may come at any time."""

    def __init__(
        self,
        images: BootImages,
        task: Task,
        size: GuestSize,
        *,
        kvm: bool = False,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        self.exchange = Path(tempfile.mkdtemp(prefix="kernlb-rung."))
        self._write_task(task)
        self._pumps: list[threading.Thread] = []
        out_end = self._pump("stdout", stdout)
        err_end = self._pump("stderr", stderr)
        argv = _qemu_command(images, task, size, self.exchange, kvm, out_end, err_end)
        try:
            self._qemu = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=(self.exchange / "qemu.log").open("wb"),
                pass_fds=(out_end, err_end),
                start_new_session=True,
            )
        finally:
            os.close(out_end)
            os.close(err_end)
        self.started_at = time.monotonic()

    @property
    def booted(self) -> bool:
        return (self.exchange / "booted").exists()

    @property
    def running(self) -> bool:
        return self._qemu.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, or None while it runs and when the guest died without one."""
        try:
            return int((self.exchange / "exit-code").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def wait(self, timeout: float) -> bool:
        """Wait until the guest is off; False when `timeout` seconds passed before that."""
        try:
            self._qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        for pump in self._pumps:
            pump.join(timeout=5)
        return True

    def wait_booted(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.running and not self.booted and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.booted

    def stop(self) -> None:
        """Kill the guest if it still runs and remove the exchange folder. Twice equals once."""
        if self.running:
            self._qemu.kill()
        self.wait(10)
        shutil.rmtree(self.exchange, ignore_errors=True)

    def last_words(self, lines: int = 30) -> str:
        """The end of the console and of QEMU's own messages: why a guest died."""
        texts = [_tail(self.exchange / name, lines) for name in ("console.log", "qemu.log")]
        return "\n".join(text for text in texts if text)

    def _write_task(self, task: Task) -> None:
        document = {
            "argv": list(task.argv),
            "cwd": str(task.cwd),
            "kept": _kept(task.cwd),
            "environ": dict(task.environ),
            "shares": [str(share) for share in task.shares],
            "modules": list(task.modules),
            "modules_from": str(task.modules_from),
        }
        for name, content in task.files.items():
            (self.exchange / name).write_text(content)
        (self.exchange / "task.json").write_text(json.dumps(document))

    def _pump(self, name: str, sink: IO[bytes] | None) -> int:
        """A pipe for QEMU to write into: QEMU opens outputs from their start, a pipe has none."""
        reader, writer = os.pipe()
        target = sink if sink is not None else (self.exchange / name).open("wb")
        thread = threading.Thread(target=_copy, args=(reader, target), name=name, daemon=True)
        thread.start()
        self._pumps.append(thread)
        return writer


def _kept(cwd: Path) -> list[str]:
    """Folders that the guest must see wherever they lie: the program, its Python, where to be."""
    tree = Path(kernlb.__file__).resolve().parent.parent
    wanted = {cwd, tree, Path(sys.prefix), Path(sys.base_prefix)}
    return sorted(str(path) for path in wanted if not wanted.intersection(path.parents))


def _copy(reader: int, sink: IO[bytes]) -> None:
    with os.fdopen(reader, "rb", buffering=0) as source:
        while block := source.read(1 << 16):
            sink.write(block)
            sink.flush()


def _tail(path: Path, lines: int) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _qemu_command(
    images: BootImages,
    task: Task,
    size: GuestSize,
    exchange: Path,
    kvm: bool,
    stdout: int,
    stderr: int,
) -> list[str]:
    python = os.path.realpath(sys.executable)
    init = Path(__file__).with_name("guest.py")
    line = f"{KERNEL_LINE} init={python} -- -I -S {init}"
    # A guest must not outlive whoever waits for it, even when that one is killed.
    argv = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ]
    argv += ["-machine", "q35", "-m", size.memory, "-smp", str(size.cpus)]
    argv += ["-accel", "kvm", "-cpu", "host"] if kvm else ["-accel", "tcg", "-cpu", EMULATED_CPU]
    argv += ["-kernel", str(images.kernel), "-initrd", str(images.initramfs), "-append", line]
    argv += _folder("/dev/root", Path("/"), writable=False)
    argv += _folder("cached-root", Path("/"), writable=False)
    argv += _folder("exchange", exchange, writable=True)
    for number, share in enumerate(task.shares):
        argv += _folder(f"share{number}", share, writable=True)
    argv += ["-chardev", f"file,id=console,path={exchange}/console.log"]
    argv += ["-serial", "chardev:console", "-device", "virtio-serial-pci"]
    for name, descriptor in (("stdout", stdout), ("stderr", stderr)):
        argv += ["-chardev", f"file,id={name},path=/proc/self/fd/{descriptor}"]
        argv += ["-device", f"virtserialport,name={name},chardev={name}"]
    return argv


def _folder(tag: str, path: Path, *, writable: bool) -> list[str]:
    name = tag.strip("/").replace("/", "-")
    access = "" if writable else ",readonly=on"
    device = f"local,id={name},path={path},security_model=none,multidevs=remap{access}"
    return ["-fsdev", device, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={tag}"]
