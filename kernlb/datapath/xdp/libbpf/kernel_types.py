"""The running kernel's own types, and those of its modules, from their BTF."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_int32, c_uint32

from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.xdp.libbpf.library import libbpf

_STRUCT, _UNION, _ENUM = 4, 5, 6  # BTF_KIND_*


class _Type(ctypes.Structure):
    """struct btf_type; what it is made of follows"""

    _fields_ = (("name_off", c_uint32), ("info", c_uint32), ("size", c_uint32))


class _Enumerator(ctypes.Structure):
    """struct btf_enum"""

    _fields_ = (("name_off", c_uint32), ("value", c_int32))


class _Member(ctypes.Structure):
    """struct btf_member"""

    _fields_ = (("name_off", c_uint32), ("type", c_uint32), ("offset", c_uint32))


def enumerators(name: str) -> dict[int, str]:
    """Of an enum of the kernel; {} where it has none of that name, or no BTF."""
    try:
        with _types("") as btf:
            number: int = libbpf().btf__find_by_name_kind(btf, name.encode(), _ENUM)
            if number <= 0:
                return {}
            at: int = libbpf().btf__type_by_id(btf, number)
            members = (_Enumerator * _count(at)).from_address(at + ctypes.sizeof(_Type))
            return {each.value: _name(btf, each.name_off) for each in members}
    except DatapathUnavailableError:
        return {}


def offsets(wanted: Mapping[str, Iterable[str]], module: str = "") -> dict[str, dict[str, int]]:
    """Bytes, by struct and field; also of fields within what has no name. Those that are not
    there are left out.

    Raises DatapathUnavailableError where the kernel, or the module, has no BTF."""
    found: dict[str, dict[str, int]] = {}
    with _types(module) as btf:
        for struct, fields in wanted.items():
            number: int = libbpf().btf__find_by_name_kind(btf, struct.encode(), _STRUCT)
            there = dict(_fields(btf, number, 0)) if number > 0 else {}
            found[struct] = {name: there[name] for name in fields if name in there}
    return found


@contextmanager
def _types(module: str) -> Iterator[int]:
    library = libbpf()
    kernel: int | None = library.btf__load_vmlinux_btf()
    if not kernel:
        raise DatapathUnavailableError(
            errno.ENOENT, f"cannot read the types of kernel {os.uname().release}: it has no BTF"
        )
    try:
        if not module:
            yield kernel
            return
        types: int | None = library.btf__load_module_btf(module.encode(), kernel)
        if not types:
            raise DatapathUnavailableError(
                errno.ENOENT, f"cannot read the types of {module}: it is not loaded, or has no BTF"
            )
        try:
            yield types
        finally:
            library.btf__free(types)
    finally:
        library.btf__free(kernel)


def _fields(btf: int, number: int, base: int) -> Iterator[tuple[str, int]]:
    """Name and offset in bytes; of bit fields the byte in which they begin."""
    at: int = libbpf().btf__type_by_id(btf, number)
    info = _Type.from_address(at).info
    if info >> 24 & 0x1F not in (_STRUCT, _UNION):
        return
    has_bit_fields = info >> 31
    for each in (_Member * _count(at)).from_address(at + ctypes.sizeof(_Type)):
        bits = each.offset & 0xFFFFFF if has_bit_fields else each.offset
        if name := _name(btf, each.name_off):
            yield name, base + bits // 8
        else:
            yield from _fields(btf, each.type, base + bits // 8)


def _count(at: int) -> int:
    info: int = _Type.from_address(at).info
    return info & 0xFFFF


def _name(btf: int, offset: int) -> str:
    name: bytes = libbpf().btf__name_by_offset(btf, offset)
    return name.decode()
