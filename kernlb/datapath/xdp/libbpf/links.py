"""A link holds a program to an interface; updating it swaps the program between two packets."""

from __future__ import annotations

import ctypes
from ctypes import c_size_t, c_uint8, c_uint32
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple, Self

from kernlb.datapath.xdp.libbpf.descriptor import Descriptor
from kernlb.datapath.xdp.libbpf.library import checked, libbpf
from kernlb.datapath.xdp.libbpf.programs import Program

_BPF_XDP = 37  # enum bpf_attach_type


class Mode(StrEnum):
    NATIVE = "native"  # in the driver, before the kernel's own buffers
    GENERIC = "generic"  # in the stack: for any driver, and slow
    OFFLOADED = "offloaded"  # in the card: seen, never asked for


_FLAGS = {Mode.NATIVE: 1 << 2, Mode.GENERIC: 1 << 1}  # XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE


class _Info(ctypes.Structure):
    """struct bpf_link_info of an XDP link"""

    _fields_ = (
        *((name, c_uint32) for name in ("type", "id", "prog_id", "pad", "ifindex")),
        ("rest", c_uint8 * 64),
    )


class _CreateOptions(ctypes.Structure):
    """struct bpf_link_create_opts, its beginning"""

    _fields_ = (("sz", c_size_t), ("flags", c_uint32), ("pad", c_uint32))


class _QueryOptions(ctypes.Structure):
    """struct bpf_xdp_query_opts"""

    _fields_ = (
        ("sz", c_size_t),
        *((name, c_uint32) for name in ("prog_id", "drv_prog_id", "hw_prog_id", "skb_prog_id")),
        ("attach_mode", c_uint8),
    )


class LinkInfo(NamedTuple):
    link_id: int
    program_id: int
    ifindex: int  # 0: the interface is gone, or the link was detached


@dataclass(frozen=True, slots=True)
class XdpState:
    """What runs on an interface, whoever attached it."""

    mode: Mode
    program_id: int


class Link(Descriptor):
    KIND: ClassVar[str] = "bpf-link"

    @classmethod
    def attach_xdp(cls, program: Program, ifindex: int, mode: Mode) -> Self:
        """To an interface of this network namespace.

        Raises OSError: EBUSY or EEXIST where XDP is attached already, EOPNOTSUPP where the driver
        has no native XDP, ENODEV where there is no such interface. Closing a link that is not
        pinned detaches the program."""
        options = _CreateOptions(sz=ctypes.sizeof(_CreateOptions), flags=_FLAGS[mode])
        result = libbpf().bpf_link_create(program.fd, ifindex, _BPF_XDP, ctypes.byref(options))
        return cls(checked(result, f"attach program {program.name} to interface {ifindex}"))

    def update(self, program: Program) -> None:
        """Every packet meets the old program or the new one. Raises OSError ENOLINK: detached."""
        result = libbpf().bpf_link_update(self.fd, program.fd, None)
        checked(result, f"replace a program by {program.name}")

    def detach(self) -> None:
        """Also where it is pinned, or held by others."""
        checked(libbpf().bpf_link_detach(self.fd), "detach a program")

    @property
    def info(self) -> LinkInfo:
        info = _Info()
        self.read_info(info)
        return LinkInfo(info.id, info.prog_id, info.ifindex)


def xdp_state(ifindex: int) -> XdpState | None:
    """The program on an interface of this network namespace, None where there is none."""
    options = _QueryOptions(sz=ctypes.sizeof(_QueryOptions))
    checked(
        libbpf().bpf_xdp_query(ifindex, 0, ctypes.byref(options)),
        f"read which XDP program interface {ifindex} has",
    )
    for mode, program_id in (
        (Mode.OFFLOADED, options.hw_prog_id),
        (Mode.NATIVE, options.drv_prog_id),
        (Mode.GENERIC, options.skb_prog_id),
    ):
        if program_id:
            return XdpState(mode, program_id)
    return None
