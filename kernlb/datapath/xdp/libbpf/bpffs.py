"""The file system of pins: is it mounted, and swapping two directories at once.

Its names may have no dots (bpf_lookup() in kernel/bpf/inode.c keeps them for itself).
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import c_char_p, c_int, c_uint, c_ulong, c_void_p
from pathlib import Path

from kernlb.datapath import DatapathUnavailableError

MOUNT_POINT = Path("/sys/fs/bpf")

_MAGIC = 0xCAFE4A11  # BPF_FS_MAGIC
_AT_FDCWD = -100
_RENAME_EXCHANGE = 1 << 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.statfs.argtypes = (c_char_p, c_void_p)
_libc.mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_libc.renameat2.argtypes = (c_int, c_char_p, c_int, c_char_p, c_uint)


def require_bpffs(root: Path) -> None:
    """See that ``root`` can hold pins; mounts /sys/fs/bpf where that is what is missing.

    Raises DatapathUnavailableError where it cannot."""
    existing = next(each for each in (root, *root.parents) if each.exists())
    if _is_bpffs(existing):
        return
    if not root.is_relative_to(MOUNT_POINT):
        raise DatapathUnavailableError(errno.EINVAL, f"cannot pin maps in {root}: it is no bpffs")
    if not MOUNT_POINT.is_dir():
        raise DatapathUnavailableError(
            errno.ENOSYS, f"cannot use XDP: this kernel has no {MOUNT_POINT}"
        )
    if _libc.mount(b"bpf", os.fsencode(MOUNT_POINT), b"bpf", 0, b"mode=0700") < 0:
        number = ctypes.get_errno()
        raise DatapathUnavailableError(
            number, f"cannot mount a bpffs on {MOUNT_POINT}: {os.strerror(number)}"
        )


def _is_bpffs(path: Path) -> bool:
    answer = (ctypes.c_long * 64)()  # struct statfs, which begins with f_type
    if _libc.statfs(os.fsencode(path), ctypes.byref(answer)) < 0:
        return False
    return int(answer[0]) == _MAGIC


def exchange(one: Path, other: Path) -> None:
    """Each gets the other's place, in one step (Linux 5.16 on a bpffs)."""
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot swap {one} and {other}: {os.strerror(number)}")
