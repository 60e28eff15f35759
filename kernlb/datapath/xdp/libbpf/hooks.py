"""Programs of traffic control (cls_bpf) where packets leave an interface, under a clsact qdisc.

A filter is named by its priority and handle; others beside it are not touched. The interface
holds it, as it holds XDP programs of ``held``.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import c_int, c_size_t, c_uint32

from kernlb.datapath.xdp.libbpf.library import checked, libbpf, listening
from kernlb.datapath.xdp.libbpf.programs import Program

_EGRESS = 1 << 1  # enum bpf_tc_attach_point
_REPLACE = 1 << 0  # BPF_TC_F_REPLACE
PRIORITY, HANDLE = 27490, 1  # of ours; TCA_KIND of another at this priority refuses it


class _Hook(ctypes.Structure):
    """struct bpf_tc_hook"""

    _fields_ = (
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_int),
        ("parent", c_uint32),
    )


class _Options(ctypes.Structure):
    """struct bpf_tc_opts"""

    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        *((name, c_uint32) for name in ("flags", "prog_id", "handle", "priority")),
    )


def hook(program: Program, ifindex: int) -> None:
    """At the egress of an interface of this network namespace, in place of an earlier one.

    Raises OSError: EOPNOTSUPP or ENOENT where the kernel has no clsact or no cls_bpf, ENODEV
    where there is no such interface."""
    where, options = _hook(ifindex), _options(prog_fd=program.fd, flags=_REPLACE)
    doing = f"attach program {program.name} to the egress of interface {ifindex}"
    with listening():  # that the qdisc is there already is said too
        made: int = libbpf().bpf_tc_hook_create(ctypes.byref(where))
        if made != -errno.EEXIST:
            checked(made, doing)
        checked(libbpf().bpf_tc_attach(ctypes.byref(where), ctypes.byref(options)), doing)


def hooked(ifindex: int) -> int:
    """The id of the program there, 0 where there is none."""
    where, options = _hook(ifindex), _options()
    with listening():
        found: int = libbpf().bpf_tc_query(ctypes.byref(where), ctypes.byref(options))
    if found in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):  # EINVAL: no clsact
        return 0
    checked(found, f"read what is attached to the egress of interface {ifindex}")
    return int(options.prog_id)


def unhook(ifindex: int) -> None:
    """The qdisc stays: it may be another's, and costs nothing. Removing the absent succeeds."""
    where, options = _hook(ifindex), _options()
    with listening():
        gone: int = libbpf().bpf_tc_detach(ctypes.byref(where), ctypes.byref(options))
    if gone not in (-errno.ENOENT, -errno.EINVAL, -errno.ENODEV):
        checked(gone, f"detach a program from the egress of interface {ifindex}")


def _hook(ifindex: int) -> _Hook:
    return _Hook(sz=ctypes.sizeof(_Hook), ifindex=ifindex, attach_point=_EGRESS)


def _options(prog_fd: int = 0, flags: int = 0) -> _Options:
    return _Options(
        sz=ctypes.sizeof(_Options),
        prog_fd=prog_fd,
        flags=flags,
        handle=HANDLE,
        priority=PRIORITY,
    )
