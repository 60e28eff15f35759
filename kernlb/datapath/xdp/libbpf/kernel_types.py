"""Names of the running kernel's own types, from its BTF."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_uint32

from kernlb.datapath.xdp.libbpf.library import libbpf

_ENUM = 6  # BTF_KIND_ENUM


class _Type(ctypes.Structure):
    """struct btf_type"""

    _fields_ = (("name_off", c_uint32), ("info", c_uint32), ("size", c_uint32))


class _Enumerator(ctypes.Structure):
    """struct btf_enum"""

    _fields_ = (("name_off", c_uint32), ("value", c_int32))


def enumerators(name: str) -> dict[int, str]:
    """Of an enum of the kernel; {} where it has none of that name, or no BTF."""
    library = libbpf()
    btf = library.btf__load_vmlinux_btf()
    if not btf:
        return {}
    try:
        number: int = library.btf__find_by_name_kind(btf, name.encode(), _ENUM)
        if number <= 0:
            return {}
        at: int = library.btf__type_by_id(btf, number)
        members = _Enumerator * (_Type.from_address(at).info & 0xFFFF)
        found = {}
        for each in members.from_address(at + ctypes.sizeof(_Type)):
            text: bytes = library.btf__name_by_offset(btf, each.name_off)
            found[each.value] = text.decode()
        return found
    finally:
        library.btf__free(btf)
