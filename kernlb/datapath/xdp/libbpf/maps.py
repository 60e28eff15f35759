"""A map in the kernel: keys and values are bytes, of exactly the map's sizes.

A value of a per-CPU map is the values of all possible CPUs one after the other, each at a multiple
of 8 bytes; ``stride`` is the length of one element as it is read and written here.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Iterator
from ctypes import c_uint32, c_uint64
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from kernlb.datapath.xdp.libbpf.descriptor import Descriptor
from kernlb.datapath.xdp.libbpf.library import checked, failure, libbpf

ANY, NOEXIST, EXIST = 0, 1, 2  # flags of update
HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY = 1, 2, 5, 6  # enum bpf_map_type
LRU_HASH, LRU_PERCPU_HASH, DEVMAP, DEVMAP_HASH = 9, 10, 14, 25
MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
_PER_CPU = (PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH)
_ARRAYS = (ARRAY, PERCPU_ARRAY)
_NO_BATCH = (errno.EOPNOTSUPP, 524, errno.EINVAL)  # 524: ENOTSUPP, inside the kernel


class _Info(ctypes.Structure):
    """struct bpf_map_info"""

    _fields_ = (
        *((name, c_uint32) for name in ("type", "id", "key_size", "value_size", "max_entries")),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
        *((name, c_uint32) for name in ("ifindex", "btf_vmlinux_value_type_id")),
        *((name, c_uint64) for name in ("netns_dev", "netns_ino")),
    )


@dataclass(frozen=True, slots=True)
class MapShape:
    """What a map is, in the kernel or in an object that is not loaded yet."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int

    @property
    def per_cpu(self) -> bool:
        return self.type in _PER_CPU


@cache
def possible_cpus() -> int:
    return checked(libbpf().libbpf_num_possible_cpus(), "count the CPUs")


class Map(Descriptor):
    KIND: ClassVar[str] = "bpf-map"

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        info = _Info()
        self.read_info(info)
        self.name: str = info.name.decode()
        self.map_id: int = info.id
        self.type: int = info.type
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self.flags: int = info.map_flags
        self.per_cpu = self.shape.per_cpu
        self.stride = (
            -(-self.value_size // 8) * 8 * possible_cpus() if self.per_cpu else (self.value_size)
        )

    @property
    def shape(self) -> MapShape:
        return MapShape(self.type, self.key_size, self.value_size, self.max_entries, self.flags)

    def lookup(self, key: bytes) -> bytes | None:
        """The value, None where the key is absent."""
        self._check_key(key)
        value = ctypes.create_string_buffer(self.stride)
        result: int = libbpf().bpf_map_lookup_elem(self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        checked(result, f"read map {self.name}")
        return value.raw

    def values_per_cpu(self, key: bytes) -> tuple[bytes, ...] | None:
        """The value of each possible CPU, None where the key is absent."""
        value = self.lookup(key)
        if value is None:
            return None
        step = self.stride // (possible_cpus() if self.per_cpu else 1)
        return tuple(value[at : at + self.value_size] for at in range(0, self.stride, step))

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Raises FileExistsError (NOEXIST), FileNotFoundError (EXIST), OSError E2BIG when full."""
        self._check_key(key)
        if len(value) != self.stride:
            raise ValueError(f"map {self.name}: a value has {self.stride} bytes, not {len(value)}")
        result = libbpf().bpf_map_update_elem(self.fd, key, value, flags)
        checked(result, f"write map {self.name}")

    def delete(self, key: bytes) -> bool:
        """False where the key was absent."""
        self._check_key(key)
        result: int = libbpf().bpf_map_delete_elem(self.fd, key)
        if result == -errno.ENOENT:
            return False
        checked(result, f"delete from map {self.name}")
        return True

    def next_key(self, key: bytes | None = None) -> bytes | None:
        """The key after this one, None at the end; the first for None, or where this is gone."""
        if key is not None:
            self._check_key(key)
        following = ctypes.create_string_buffer(self.key_size)
        result: int = libbpf().bpf_map_get_next_key(self.fd, key, following)
        if result == -errno.ENOENT:
            return None
        checked(result, f"walk map {self.name}")
        return following.raw

    def keys(self) -> Iterator[bytes]:
        """Bounded by the map's size, even while others delete and the walk begins anew."""
        key = self.next_key()
        for _ in range(self.max_entries):
            if key is None:
                return
            following = self.next_key(key)  # before the caller may delete this one
            yield key
            key = following

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self.keys():
            if (value := self.lookup(key)) is not None:
                yield key, value

    def read_array(self, first: int = 0, count: int | None = None) -> bytes:
        """Elements of an array, ``stride`` bytes each, by few calls (one, on most kernels)."""
        if self.type not in _ARRAYS:
            raise ValueError(f"map {self.name} is no array")
        count = self.max_entries - first if count is None else count
        if first < 0 or count < 0 or first + count > self.max_entries:
            raise ValueError(f"map {self.name} has no elements {first} to {first + count}")
        values = ctypes.create_string_buffer(max(1, count * self.stride))
        keys = (c_uint32 * max(1, count))()
        after = c_uint32(first - 1)
        done = 0
        while done < count:
            got = c_uint32(count - done)
            result: int = libbpf().bpf_map_lookup_batch(
                self.fd,
                ctypes.byref(after) if first + done else None,
                ctypes.byref(after),
                ctypes.byref(keys),
                ctypes.byref(values, done * self.stride),
                ctypes.byref(got),
                None,
            )
            if result < 0 and -result in _NO_BATCH:
                return self._read_one_by_one(first, count)
            if result < 0 and (result != -errno.ENOENT or not got.value):
                raise failure(-result, f"read map {self.name}")
            done += got.value
            after.value = first + done - 1
        return values.raw[: count * self.stride]

    def _read_one_by_one(self, first: int, count: int) -> bytes:
        return b"".join(
            self.lookup(bytes(c_uint32(index))) or bytes(self.stride)
            for index in range(first, first + count)
        )

    def mmap(self) -> memoryview:
        """The elements of a BPF_F_MMAPABLE array, to read and to write, in whole pages.

        An element begins at each multiple of ``value_size`` rounded up to 8. A store through a
        cast to "Q" is one aligned store of 8 bytes. Lives as long as it is referred to."""
        length = -(-self.value_size // 8) * 8 * self.max_entries
        length = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            return memoryview(mmap.mmap(self.fd, length))
        except OSError as why:
            raise failure(why.errno or 0, f"map the memory of map {self.name}") from why

    def footprint(self) -> int:
        """Bytes of kernel memory; exact from Linux 6.4 on, before that the elements alone."""
        for line in Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines():
            if line.startswith("memlock:"):
                return int(line.split()[1])
        raise OSError(errno.ENOTSUP, f"cannot see the memory of map {self.name}")

    def _check_key(self, key: bytes) -> None:
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name}: a key has {self.key_size} bytes, not {len(key)}")
