"""What maps, programs and links have in common: a descriptor, and a pin that outlives it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from kernlb.datapath.xdp.libbpf.library import checked, libbpf


class Descriptor:
    """Owns ``fd`` and closes it. What is pinned, or used by another, lives on in the kernel."""

    KIND: ClassVar[str]  # as /proc/self/fd names it

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open_pinned(cls, path: Path | str) -> Self:
        """Raises FileNotFoundError where nothing is pinned, OSError for another kind of thing."""
        fd = checked(libbpf().bpf_obj_get(os.fsencode(path)), f"open {path}")
        target = str(Path(f"/proc/self/fd/{fd}").readlink())
        kind = target.removeprefix("anon_inode:").replace("_", "-")
        if kind != cls.KIND:
            os.close(fd)
            raise OSError(errno.EINVAL, f"cannot open {path}: it is a {kind}, not a {cls.KIND}")
        return cls(fd)

    @classmethod
    def borrowed(cls, fd: int) -> Self:
        """Of a descriptor that somebody else owns and may close."""
        return cls(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0))

    def pin(self, path: Path | str) -> None:
        """Under a bpffs. Raises FileExistsError; names have no dots (bpf_lookup() refuses them)."""
        checked(libbpf().bpf_obj_pin(self.fd, os.fsencode(path)), f"pin {path}")

    def read_info(self, info: ctypes.Structure) -> None:
        """Fill one of the kernel's struct bpf_*_info."""
        size = ctypes.c_uint32(ctypes.sizeof(info))
        result = libbpf().bpf_obj_get_info_by_fd(self.fd, ctypes.byref(info), ctypes.byref(size))
        checked(result, f"read the {self.KIND}'s properties")

    def close(self) -> None:
        """Twice is once."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
