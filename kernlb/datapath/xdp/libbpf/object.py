"""A compiled object file: opened, adjusted, loaded.

Between ``open`` and ``load`` its maps can be resized or replaced by ones that exist, and its
constants set; nothing of that touches the kernel. ``load`` makes the maps and verifies the
programs, or raises LoadError and leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Callable, Mapping
from ctypes import c_size_t, c_uint32
from pathlib import Path
from types import TracebackType
from typing import Self

from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.xdp.libbpf.library import (
    LoadError,
    OpenOptions,
    checked,
    failure,
    libbpf,
    listening,
)
from kernlb.datapath.xdp.libbpf.maps import Map, MapShape
from kernlb.datapath.xdp.libbpf.programs import Program

XDP_HAS_FRAGS = 1 << 5  # BPF_F_XDP_HAS_FRAGS
_XDP = 6  # BPF_PROG_TYPE_XDP
_LOG_SIZE = 16 << 20  # untouched pages of it cost nothing
_LOG_LINES = 15
_DATASEC = 15  # BTF_KIND_DATASEC


class _Type(ctypes.Structure):
    """struct btf_type"""

    _fields_ = (("name_off", c_uint32), ("info", c_uint32), ("size", c_uint32))


class _Variable(ctypes.Structure):
    """struct btf_var_secinfo"""

    _fields_ = (("type", c_uint32), ("offset", c_uint32), ("size", c_uint32))


class Object:
    """Not for several threads at once. Maps and programs that it gave outlive it."""

    def __init__(self, pointer: int, path: Path, log: mmap.mmap) -> None:
        """Use :meth:`open`."""
        self._pointer = pointer
        self.path = path
        self._log = log
        self._maps = self._list("bpf_object__next_map", "bpf_map__name")
        self._programs = self._list("bpf_object__next_program", "bpf_program__name")

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Needs no privilege. Raises LoadError for what is no BPF object, or FileNotFoundError."""
        path = Path(path)
        with path.open("rb"):
            pass  # a file that cannot be read has the interpreter's own error
        log = mmap.mmap(-1, _LOG_SIZE)
        options = OpenOptions(
            sz=ctypes.sizeof(OpenOptions),
            kernel_log_buf=ctypes.addressof(ctypes.c_char.from_buffer(log)),
            kernel_log_size=_LOG_SIZE,
        )
        with listening() as said:
            pointer = libbpf().bpf_object__open_file(os.fsencode(path), ctypes.byref(options))
            number = ctypes.get_errno()
        if not pointer:
            raise LoadError(number, f"cannot open {path.name}: {_reason(said)}")
        return cls(pointer, path, log)

    def _list(self, next_of: str, name_of: str) -> dict[str, int]:
        step: Callable[[int, int | None], int | None] = getattr(libbpf(), next_of)
        name: Callable[[int], bytes] = getattr(libbpf(), name_of)
        found: dict[str, int] = {}
        each = step(self._pointer, None)
        while each:
            found[name(each).decode()] = each
            each = step(self._pointer, each)
        return found

    @property
    def map_names(self) -> tuple[str, ...]:
        """With those of data sections: ".data.filter"; ".rodata" is "<object>.rodata"."""
        return tuple(self._maps)

    @property
    def program_names(self) -> tuple[str, ...]:
        return tuple(self._programs)

    def shape(self, name: str) -> MapShape:
        """Of a map as it would be made now."""
        each, library = self._maps[name], libbpf()
        return MapShape(
            library.bpf_map__type(each),
            library.bpf_map__key_size(each),
            library.bpf_map__value_size(each),
            library.bpf_map__max_entries(each),
            library.bpf_map__map_flags(each),
        )

    def resize(self, name: str, max_entries: int) -> None:
        if name not in self._maps:
            raise LoadError(errno.ENOENT, f"{self.path.name} has no map {name}")
        result = libbpf().bpf_map__set_max_entries(self._maps[name], max_entries)
        checked(result, f"size map {name}")

    def reuse(self, name: str, existing: Map) -> None:
        """Load with an existing map in the place of this one. Its entries are as they are."""
        wanted, has = self.shape(name), existing.shape
        for what in ("type", "key_size", "value_size"):
            if getattr(wanted, what) != getattr(has, what):
                raise LoadError(
                    errno.EINVAL,
                    f"cannot use map {name} as it is: its {what.replace('_', ' ')} is "
                    f"{getattr(has, what)}, {self.path.name} wants {getattr(wanted, what)}",
                )
        result = libbpf().bpf_map__reuse_fd(self._maps[name], existing.fd)
        checked(result, f"use map {name} as it is")

    def set_flags(self, program: str, flags: int) -> None:
        """Add flags to load it with, such as XDP_HAS_FRAGS."""
        each = self._programs[program]
        result = libbpf().bpf_program__set_flags(each, libbpf().bpf_program__flags(each) | flags)
        checked(result, f"set the flags of program {program}")

    def allow_fragments(self) -> None:
        """XDP programs take packets of several pages too, so that they fit jumbo frames."""
        for name, each in self._programs.items():
            if libbpf().bpf_program__type(each) == _XDP:
                self.set_flags(name, XDP_HAS_FRAGS)

    def watch(self, program: str, target: Program, function: str) -> None:
        """Load an fentry or fexit program for a function of a program that is loaded already."""
        result = libbpf().bpf_program__set_attach_target(
            self._programs[program], target.fd, function.encode()
        )
        checked(result, f"watch function {function} of program {target.name}")

    def set_rodata(self, values: Mapping[str, int | bytes]) -> None:
        """Set ``const volatile`` variables by their names, which the object's BTF has."""
        section = next((name for name in self._maps if name.endswith(".rodata")), None)
        variables = self._variables(".rodata")
        size = c_size_t()
        start = section and libbpf().bpf_map__initial_value(self._maps[section], ctypes.byref(size))
        for name, value in values.items():
            if not start or name not in variables:
                raise LoadError(errno.ENOENT, f"{self.path.name} has no constant {name}")
            offset, length = variables[name]
            if isinstance(value, int):
                value = value.to_bytes(length, sys.byteorder)
            if len(value) != length or offset + length > size.value:
                raise ValueError(f"constant {name} has {length} bytes, not {len(value)}")
            ctypes.memmove(start + offset, value, length)

    def _variables(self, section: str) -> dict[str, tuple[int, int]]:
        """Of a data section: name -> offset, size."""
        library = libbpf()
        btf = library.bpf_object__btf(self._pointer)
        number = btf and library.btf__find_by_name_kind(btf, section.encode(), _DATASEC)
        if not number or number < 0:
            return {}
        at: int = library.btf__type_by_id(btf, number)
        count = _Type.from_address(at).info & 0xFFFF
        found = {}
        for each in (_Variable * count).from_address(at + ctypes.sizeof(_Type)):
            variable = _Type.from_address(library.btf__type_by_id(btf, each.type))
            name: bytes = library.btf__name_by_offset(btf, variable.name_off)
            found[name.decode()] = (each.offset, each.size)
        return found

    def load(self) -> None:
        """Make the maps and load every program. Raises LoadError, DatapathUnavailableError."""
        with listening() as said:
            result: int = libbpf().bpf_object__load(self._pointer)
        if result >= 0:
            return
        doing = f"load {self.path.name}"
        why = failure(-result, doing)
        verifier = self._log[: self._log.find(b"\0")].decode(errors="replace").splitlines()
        if isinstance(why, DatapathUnavailableError) and not verifier:
            raise why
        raise LoadError(
            -result, f"cannot {doing}: {_reason(said)}", "\n".join(verifier[-_LOG_LINES:])
        )

    def map(self, name: str) -> Map:
        """After load."""
        return Map.borrowed(self._fd("bpf_map__fd", self._maps[name], name))

    def program(self, name: str) -> Program:
        """After load."""
        return Program.borrowed(self._fd("bpf_program__fd", self._programs[name], name))

    def _fd(self, function: str, each: int, name: str) -> int:
        return checked(getattr(libbpf(), function)(each), f"use {name} of {self.path.name}")

    def close(self) -> None:
        """Twice is once."""
        if self._pointer:
            libbpf().bpf_object__close(self._pointer)
            self._pointer, self._maps, self._programs = 0, {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _reason(said: list[str]) -> str:
    """In libbpf's words: what failed first, for all after it follows from that."""
    words = [line.removeprefix("libbpf: ") for line in said if line.strip()]
    failed = [line for line in words if "failed" in line]
    return next(iter(failed or words), "libbpf says no more")
