"""The shared library: each function with the types of its arguments, its messages, its errors.

Functions of libbpf >= 1.0 return a negative errno, or NULL and set errno. Structures of options
begin with their own size, so that a newer library takes our older, shorter ones.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_bool, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache

from kernlb.datapath import DatapathUnavailableError

_DEBUG = 2  # enum libbpf_print_level
_NEED = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed (root has them)"

_Print = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_void_p)
_said = threading.local()

# name: (result, arguments). Everything that is called is here, and nothing else.
_FUNCTIONS = {
    "libbpf_set_print": (c_void_p, (_Print,)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__btf": (c_void_p, (c_void_p,)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__type": (c_int, (c_void_p,)),
    "bpf_map__key_size": (c_uint32, (c_void_p,)),
    "bpf_map__value_size": (c_uint32, (c_void_p,)),
    "bpf_map__map_flags": (c_uint32, (c_void_p,)),
    "bpf_map__max_entries": (c_uint32, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_map__initial_value": (c_void_p, (c_void_p, ctypes.POINTER(c_size_t))),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_program__type": (c_int, (c_void_p,)),
    "bpf_program__flags": (c_uint32, (c_void_p,)),
    "bpf_program__set_flags": (c_int, (c_void_p, c_uint32)),
    "bpf_program__set_attach_target": (c_int, (c_void_p, c_int, c_char_p)),
    "btf__find_by_name_kind": (c_int32, (c_void_p, c_char_p, c_uint32)),
    "btf__type_by_id": (c_void_p, (c_void_p, c_uint32)),
    "btf__name_by_offset": (c_char_p, (c_void_p, c_uint32)),
    "btf__load_vmlinux_btf": (c_void_p, ()),
    "btf__load_module_btf": (c_void_p, (c_char_p, c_void_p)),
    "btf__free": (None, (c_void_p,)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_lookup_batch": (
        c_int,
        (c_int, c_void_p, c_void_p, c_void_p, c_void_p, ctypes.POINTER(c_uint32), c_void_p),
    ),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, ctypes.POINTER(c_uint32))),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_link_detach": (c_int, (c_int,)),
    "bpf_xdp_query": (c_int, (c_int, c_int, c_void_p)),
    "bpf_xdp_attach": (c_int, (c_int, c_int, c_uint32, c_void_p)),
    "bpf_xdp_detach": (c_int, (c_int, c_uint32, c_void_p)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_tc_hook_create": (c_int, (c_void_p,)),
    "bpf_tc_attach": (c_int, (c_void_p, c_void_p)),
    "bpf_tc_detach": (c_int, (c_void_p, c_void_p)),
    "bpf_tc_query": (c_int, (c_void_p, c_void_p)),
    "ring_buffer__new": (c_void_p, (c_int, c_void_p, c_void_p, c_void_p)),
    "ring_buffer__poll": (c_int, (c_void_p, c_int)),
    "ring_buffer__free": (None, (c_void_p,)),
}


class OpenOptions(ctypes.Structure):
    """struct bpf_object_open_opts"""

    _fields_ = (
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("pin_root_path", c_char_p),
        ("attach_prog_fd", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p),
        ("kernel_log_size", c_size_t),
        ("kernel_log_level", c_uint32),
    )


class LoadError(OSError):
    """The kernel, or libbpf, refused an object. ``log`` ends with the verifier's last words."""

    def __init__(self, number: int, why: str, log: str = "") -> None:
        super().__init__(number, why)
        self.log = log

    def __str__(self) -> str:
        return f"{self.strerror}\n{self.log}" if self.log else str(self.strerror)


@cache
def libbpf() -> ctypes.CDLL:
    """The library, with every function's types declared.

    Raises DatapathUnavailableError where there is none, or one that is too old."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except OSError as why:
        raise DatapathUnavailableError(
            errno.ELIBACC, "cannot use XDP: libbpf.so.1 is not installed (Debian: libbpf1)"
        ) from why
    except AttributeError as why:
        raise DatapathUnavailableError(
            errno.ELIBBAD, f"cannot use XDP: this libbpf.so.1 is too old ({why})"
        ) from why
    library.libbpf_set_print(_REMEMBER)
    return library


def require_libbpf() -> None:
    """Raise DatapathUnavailableError now where the first use of libbpf would."""
    libbpf()


def _remember(level: int, pattern: int, arguments: int) -> int:
    # A va_list of C travels as a pointer, on x86-64 and by AAPCS64 alike.
    lines: list[str] | None = getattr(_said, "lines", None)
    if lines is not None and level < _DEBUG:
        text = ctypes.create_string_buffer(4096)
        _vsnprintf(text, len(text), pattern, arguments)
        lines += text.value.decode(errors="replace").splitlines()
    return 0


_REMEMBER = _Print(_remember)  # libbpf keeps the pointer, so it must not be collected
_vsnprintf = ctypes.CDLL(None).vsnprintf
_vsnprintf.argtypes = (c_char_p, c_size_t, c_void_p, c_void_p)
_vsnprintf.restype = c_int


@contextmanager
def listening() -> Iterator[list[str]]:
    """What libbpf prints meanwhile in this thread, line by line. Elsewhere it prints nothing."""
    _said.lines = []
    try:
        yield _said.lines
    finally:
        del _said.lines


def checked(result: int, doing: str) -> int:
    """The result of a function that returns a negative errno; ``doing`` completes "cannot"."""
    if result < 0:
        raise failure(-result, doing)
    return result


def failure(number: int, doing: str) -> OSError:
    """The error to raise, by its errno. What no retry can mend says that XDP is unavailable."""
    if number == errno.EPERM:
        return DatapathUnavailableError(number, f"cannot {doing}: {_NEED}")
    if number == errno.ENOSYS:
        return DatapathUnavailableError(number, f"cannot {doing}: this kernel has no bpf(2)")
    return OSError(number, f"cannot {doing}: {os.strerror(number)}")
