"""The door to the host: /proc, file systems, the clock. All of the calling thread's namespaces."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from kernlb.doctor.host import (
    Clock,
    Counters,
    DaemonProcess,
    Kernel,
    Listener,
    Listeners,
    Place,
    Places,
    Process,
    Processes,
    Queueing,
    address_of,
)

_PROC = Path("/proc")
_NET = _PROC / "thread-self/net"
_STA_UNSYNC = 0x40
_LISTENING, _UNCONNECTED = "0A", "07"
_BPF_ROOT = Path("/sys/fs/bpf")


def kernel(modules: Iterable[str]) -> Kernel:
    """Loads none."""
    release = os.uname().release
    loaded = set[str]()
    with suppress(FileNotFoundError):  # a kernel without modules
        loaded |= {line.split()[0] for line in (_PROC / "modules").read_text().splitlines()}
    folder = Path("/lib/modules", release)
    built_in, there = set[str](), set[str]()
    for name, into in (("modules.builtin", built_in), ("modules.dep", there)):
        with suppress(OSError):
            for line in (folder / name).read_text().splitlines():
                into.add(Path(line.partition(":")[0]).name.partition(".")[0].replace("-", "_"))
    known = {}
    for module in modules:
        if module in loaded | built_in or Path("/sys/module", module).exists():
            known[module] = True
        elif module in there:
            known[module] = False
    return Kernel(release, os.cpu_count() or 1, known)


class _Timex(ctypes.Structure):
    """struct timex, as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("numbers", ctypes.c_long * 4),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def clock() -> Clock:
    """Raises OSError."""
    answer = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(answer)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot ask for the state of the clock: {os.strerror(number)}")
    now = time.time()
    boot = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    return Clock(now, boot, not answer.status & _STA_UNSYNC)


def listeners() -> Listeners:
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            for line in (_NET / name).read_text().splitlines()[1:]:
                _, local, remote, state = line.split()[:4]
                if state == _LISTENING or (state == _UNCONNECTED and remote.endswith(":0000")):
                    address, _, port = local.partition(":")
                    found.append(Listener(name[:3], address_of(address), int(port, 16)))
    return Listeners(tuple(dict.fromkeys(found)))


def processes() -> Processes:
    """Those of this network namespace, as far as they may be seen."""
    here = (_PROC / "thread-self/ns/net").stat().st_ino
    return Processes(tuple(_processes(here)))


def _processes(here: int) -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "ns/net").stat().st_ino == here:
                    name = (entry / "comm").read_text().strip()
                    words = (entry / "cmdline").read_bytes()[:4096].split(b"\0")
                    texts = tuple(word.decode("utf-8", "replace") for word in words if word)
                    yield Process(int(entry.name), name, texts)


def daemon_process(pid: int) -> DaemonProcess:
    """Raises OSError."""
    folder = _PROC / str(pid)
    most = 0
    for line in (folder / "limits").read_text().splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            most = sys.maxsize if soft == "unlimited" else int(soft)
    ticks = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
    used = sum(1 for _ in (folder / "fd").iterdir())
    return DaemonProcess(pid, used, most, ticks / os.sysconf("SC_CLK_TCK"))


def queueing() -> Queueing:
    rows = [line.split() for line in (_NET / "softnet_stat").read_text().splitlines()]
    return Queueing(*(sum(int(row[column], 16) for row in rows) for column in (0, 1)))


def counters() -> Counters:
    """Of TcpExt and IpExt."""
    values: dict[str, int] = {}
    lines = (_NET / "netstat").read_text().splitlines()
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        pairs = zip(names.split()[1:], numbers.split()[1:], strict=True)
        values |= {name: int(number) for name, number in pairs}
    return Counters(values)


def places(wanted: Mapping[str, Path]) -> Places:
    """``wanted``: what it is, and where."""
    return Places(tuple(_place(path, what) for what, path in wanted.items()), _is_bpffs())


def _place(path: Path, what: str) -> Place:
    try:
        there = path.stat()
        room = os.statvfs(path)
    except FileNotFoundError:
        return Place(str(path), what)
    return Place(
        str(path),
        what,
        there.st_mode,
        there.st_uid,
        stat.S_ISDIR(there.st_mode),
        bool(room.f_flag & os.ST_RDONLY),
        room.f_bavail * room.f_frsize,
        room.f_blocks * room.f_frsize,
        room.f_favail if room.f_files else 1,
    )


def _is_bpffs() -> bool:
    for line in (_PROC / "thread-self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == str(_BPF_ROOT) and after.split()[0] == "bpf":
            return True
    return False
