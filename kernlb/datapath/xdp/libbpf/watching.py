"""Watching a program that is loaded already: fentry and fexit on its functions, and a ring.

The watched program is not changed, and does not know. A watch ends with its last descriptor, so
also with a process that is killed.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import c_int, c_size_t, c_void_p
from enum import IntEnum
from types import TracebackType
from typing import Self

from kernlb.datapath.xdp.libbpf.descriptor import Descriptor
from kernlb.datapath.xdp.libbpf.library import checked, libbpf
from kernlb.datapath.xdp.libbpf.maps import Map
from kernlb.datapath.xdp.libbpf.programs import Program

_Sample = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


class Where(IntEnum):
    """enum bpf_attach_type"""

    ENTRY, EXIT = 24, 25  # BPF_TRACE_FENTRY, BPF_TRACE_FEXIT


class Watch(Descriptor):
    KIND = "bpf-link"

    @classmethod
    def attach(cls, program: Program, where: Where) -> Self:
        """To the function that ``Object.watch`` named before it was loaded."""
        result = libbpf().bpf_link_create(program.fd, 0, where, None)
        return cls(checked(result, f"attach program {program.name}"))


class Ring:
    """The reader of a BPF_MAP_TYPE_RINGBUF; there is one for each. Not for several threads."""

    def __init__(self, ring: Map) -> None:
        self._records: list[bytes] = []
        self._sample = _Sample(self._take)  # libbpf keeps the pointer
        address = ctypes.cast(self._sample, c_void_p)
        self._pointer = libbpf().ring_buffer__new(ring.fd, address, None, None)
        if not self._pointer:
            raise OSError(ctypes.get_errno(), f"cannot read map {ring.name}")

    def _take(self, _: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0

    def read(self, seconds: float) -> list[bytes]:
        """What is there, or comes within so many seconds; [] also where a signal interrupts."""
        result: int = libbpf().ring_buffer__poll(self._pointer, int(seconds * 1000))
        if result != -errno.EINTR:
            checked(result, "read the ring")
        records, self._records = self._records, []
        return records

    def close(self) -> None:
        """Twice is once."""
        if self._pointer:
            libbpf().ring_buffer__free(self._pointer)
            self._pointer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
