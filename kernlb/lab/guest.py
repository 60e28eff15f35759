"""The first process of the booted guest: mounts, runs a command, leaves its exit code, powers off.

Runs as PID 1 under `python -I -S`, so it imports little and nothing of kernlb. It owns the guest
from the root switch to the power-off; `rung.py` is its other half on the host, and the two share
only the exchange folder: `task.json` in, `booted`, `exit-code` and what the command writes out.

The root is the host's, read-only, over 9p. It is mounted a second time with cache=loose because
the uncached mount of the initramfs asks the host about every file on every look; the host's
files are taken to stand still while the guest runs.
"""

# No pathlib: importing it takes a quarter of a second of the emulated guest's time.
# ruff: noqa: PTH102, PTH103, PTH123, PTH208, PTH211
from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import socket
import struct
import sys
import time

MS_RDONLY, MS_BIND, MS_MOVE = 1, 4096, 8192
NINE_P = "trans=virtio,version=9p2000.L,msize=512000"
ROOT = "/run/root"
EXCHANGE = "/run/rung"
KEPT = "/run/kept"
MODULES = "/lib/modules"
WRITABLE = ("/tmp", "/var/tmp", "/var/log", "/var/lib/nginx", "/mnt", "/root", "/etc/kernlb")
OPEN_FILES = 1 << 20
RB_POWER_OFF = 0x4321FEDC

libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, options: str = "", flags: int = 0) -> None:
    """mount(2); raises OSError naming what could not be mounted where."""
    status = libc.mount(
        source.encode(), target.encode(), kind.encode(), flags, options.encode() or None
    )
    if status:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot mount {kind} on {target}: {os.strerror(error)}")


def mount_if_offered(source: str, target: str, kind: str) -> None:
    try:
        mount(source, target, kind)
    except OSError as error:
        print(f"guest: {error}", flush=True)


def switch_to_cached_root() -> None:
    mount("run", "/run", "tmpfs", "mode=755")
    os.mkdir(ROOT)
    mount("cached-root", ROOT, "9p", NINE_P + ",cache=loose", MS_RDONLY)
    os.chdir(ROOT)
    mount("dev", "dev", "devtmpfs")
    mount("proc", "proc", "proc")
    mount("sys", "sys", "sysfs")
    mount("run", "run", "tmpfs", "mode=755")
    mount(".", "/", "none", flags=MS_MOVE)
    os.chroot(".")
    os.chdir("/")


def mount_exchange() -> None:
    os.mkdir(EXCHANGE)
    mount("exchange", EXCHANGE, "9p", NINE_P)


def make_writable(kept: list[str]) -> None:
    """Cover WRITABLE with empty memory, but for ``kept``: a checkout may well lie in /tmp."""
    for directory in filter(os.path.isdir, WRITABLE):
        within = [path for path in kept if path.startswith(directory + "/")]
        for number, path in enumerate(within):
            os.makedirs(f"{KEPT}{directory}/{number}")
            mount(path, f"{KEPT}{directory}/{number}", "none", flags=MS_BIND)
        mount("tmpfs", directory, "tmpfs", "mode=1777" if "tmp" in directory else "mode=755")
        for number, path in enumerate(within):
            os.makedirs(path, exist_ok=True)
            mount(f"{KEPT}{directory}/{number}", path, "none", flags=MS_BIND)


def mount_the_rest() -> None:
    os.makedirs("/run/lock")
    os.makedirs("/dev/pts")
    os.makedirs("/dev/shm")
    mount("devpts", "/dev/pts", "devpts")
    mount("shm", "/dev/shm", "tmpfs")
    for name, target in (("fd", "/dev/fd"), ("fd/1", "/dev/stdout"), ("fd/2", "/dev/stderr")):
        os.symlink("/proc/self/" + name, target)
    mount_if_offered("debugfs", "/sys/kernel/debug", "debugfs")
    mount_if_offered("tracefs", "/sys/kernel/tracing", "tracefs")
    mount_if_offered("bpf", "/sys/fs/bpf", "bpf")
    mount_if_offered("cgroup2", "/sys/fs/cgroup", "cgroup2")


def bring_loopback_up() -> None:
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(control, get_flags, request))
        fcntl.ioctl(control, set_flags, struct.pack("16sh14x", b"lo", flags | up))


def open_port(name: str) -> int:
    """The virtio-serial port the host named; there is no udev here to make the usual links."""
    for port in os.listdir("/sys/class/virtio-ports"):
        with open(f"/sys/class/virtio-ports/{port}/name") as file:
            if file.read().strip() == name:
                return os.open("/dev/" + port, os.O_WRONLY)
    raise FileNotFoundError(f"cannot find the virtio port {name}")


def run(argv: list[str], stdout: int, stderr: int) -> int:
    """Run argv to its end, reaping whatever orphans fall to PID 1 meanwhile; its exit code."""
    null = os.open(os.devnull, os.O_RDONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    actions.append((os.POSIX_SPAWN_DUP2, stderr, 2))
    try:
        command = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    except OSError as error:
        os.write(stderr, f"cannot run {argv[0]}: {error.strerror}\n".encode())
        return 127
    while True:
        pid, status = os.wait()
        if pid == command:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def write_result(name: str, text: str) -> None:
    with open(f"{EXCHANGE}/{name}", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Boot to power-off. Any failure on the way is printed to the console, which the host keeps."""
    switch_to_cached_root()
    mount_exchange()
    with open(f"{EXCHANGE}/task.json") as file:
        task = json.load(file)
    if (modules := task.get("modules_from", MODULES)) != MODULES:
        mount(modules, MODULES, "none", flags=MS_BIND)
    make_writable(task["kept"])
    mount_the_rest()
    for number, directory in enumerate(task["shares"]):
        os.makedirs(directory, exist_ok=True)
        mount(f"share{number}", directory, "9p", NINE_P)
    write_result("booted", f"{time.monotonic():.2f}")
    bring_loopback_up()
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    os.environ.clear()
    os.environ.update(task["environ"])
    stdout, stderr = open_port("stdout"), open_port("stderr")
    if task["modules"]:
        run(["modprobe", "-q", "-a", *task["modules"]], stdout, stderr)
    os.chdir(task["cwd"])
    write_result("exit-code", str(run(task["argv"], stdout, stderr)))


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        print(f"guest: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os.sync()
    libc.reboot(RB_POWER_OFF)
