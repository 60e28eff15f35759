"""Programs that an interface itself holds: attached by netlink, without a link or a pin.

Such a program lives as long as the interface, whoever attached it and whatever became of them, and
needs no bpffs. ``links`` is the way for what is upgraded under traffic and kept by name.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_size_t, c_uint32, c_uint64

from kernlb.datapath.xdp.libbpf.library import checked, libbpf
from kernlb.datapath.xdp.libbpf.links import Mode
from kernlb.datapath.xdp.libbpf.maps import Map
from kernlb.datapath.xdp.libbpf.programs import Program

_ONLY_IF_NONE, _REPLACE = 1 << 0, 1 << 4  # XDP_FLAGS_UPDATE_IF_NOEXIST, XDP_FLAGS_REPLACE
_MODES = {Mode.NATIVE: 1 << 2, Mode.GENERIC: 1 << 1}
_MOST_MAPS = 64


class _AttachOptions(ctypes.Structure):
    """struct bpf_xdp_attach_opts"""

    _fields_ = (("sz", c_size_t), ("old_prog_fd", c_int))


class _Info(ctypes.Structure):
    """struct bpf_prog_info, up to its maps"""

    _fields_ = (
        ("type_id_tag", ctypes.c_uint8 * 16),
        *((name, c_uint32) for name in ("jited_prog_len", "xlated_prog_len")),
        *((name, c_uint64) for name in ("jited_prog_insns", "xlated_prog_insns", "load_time")),
        *((name, c_uint32) for name in ("created_by_uid", "nr_map_ids")),
        ("map_ids", c_uint64),
    )


def hold(program: Program, ifindex: int, mode: Mode, instead_of: Program | None = None) -> None:
    """Attach to an interface of this network namespace, or take another's place in one step.

    Raises OSError: EBUSY or EEXIST where there is another program than the one named, EOPNOTSUPP
    where the driver has no native XDP, ENODEV where there is no such interface."""
    flags = _MODES[mode] | (_REPLACE if instead_of else _ONLY_IF_NONE)
    options = _options(instead_of)
    result = libbpf().bpf_xdp_attach(ifindex, program.fd, flags, ctypes.byref(options))
    checked(result, f"attach program {program.name} to interface {ifindex}")


def let_go(program: Program, ifindex: int, mode: Mode) -> None:
    """Detach this program. Raises OSError EEXIST where there is another."""
    options = _options(program)
    result = libbpf().bpf_xdp_detach(ifindex, _MODES[mode] | _REPLACE, ctypes.byref(options))
    checked(result, f"detach program {program.name} from interface {ifindex}")


def maps_of(program: Program) -> dict[str, Map]:
    """The maps that a program in the kernel uses, by the first 15 characters of their names."""
    ids = (c_uint32 * _MOST_MAPS)()
    info = _Info(nr_map_ids=_MOST_MAPS, map_ids=ctypes.addressof(ids))
    program.read_info(info)
    found = {}
    for number in ids[: min(info.nr_map_ids, _MOST_MAPS)]:
        fd = checked(libbpf().bpf_map_get_fd_by_id(number), f"open map {number}")
        each = Map(fd)
        found[each.name] = each
    return found


def _options(program: Program | None) -> _AttachOptions:
    fd = program.fd if program else 0
    return _AttachOptions(sz=ctypes.sizeof(_AttachOptions), old_prog_fd=fd)
