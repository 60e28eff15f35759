"""The door to network namespaces: run a function or start a process inside one.

setns(2) changes one thread only, so each visit is a short-lived thread; what it starts inherits
its namespace. No `ip netns exec`: that costs a fork and hides /sys/fs/bpf.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

NAMED = Path("/run/netns")
CLONE_NEWNET = 0x40000000
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17

_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def inside(namespace: str, act: Callable[[], T]) -> T:
    """Call `act` in the namespace and return what it returns; its exceptions are raised here."""
    results: list[T] = []
    errors: list[BaseException] = []

    def visit() -> None:
        try:
            enter(namespace)
            results.append(act())
        except BaseException as error:
            errors.append(error)

    visitor = threading.Thread(target=visit, name=f"in {namespace}")
    visitor.start()
    visitor.join()
    if errors:
        raise errors[0]
    return results[0]


def enter(namespace: str) -> None:
    """Move the calling thread into the namespace for good. Raises OSError."""
    descriptor = os.open(NAMED / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, f"cannot enter namespace {namespace}: {os.strerror(error)}")
    finally:
        os.close(descriptor)


def exists(namespace: str) -> bool:
    return (NAMED / namespace).exists()


def named() -> list[str]:
    return sorted(path.name for path in NAMED.iterdir()) if NAMED.is_dir() else []


def processes(namespaces: Iterable[str]) -> Iterator[int]:
    """Pids that live in any of the named namespaces, found by the namespace's inode."""
    inodes = set()
    for namespace in namespaces:
        with suppress(OSError):
            inodes.add((NAMED / namespace).stat().st_ino)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "ns/net").stat().st_ino in inodes:
                    yield int(entry.name)


def write_sysctl(key: str, value: str) -> None:
    """For the caller's own namespace. Raises OSError where the kernel has no such key."""
    (Path("/proc/sys") / key.replace(".", "/")).write_text(value)


def switch_checksum_offload_off(device: str) -> None:
    """`ethtool -K DEVICE tx off` in the caller's namespace, without starting ethtool.

    Frames between namespaces otherwise carry unfinished checksums, which a rewrite makes wrong.
    """
    value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0), 8)
    request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCETHTOOL, request)
