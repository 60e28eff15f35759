"""A program in the kernel, and running it without any traffic (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

import ctypes
import errno
from ctypes import c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import ClassVar, NamedTuple, Self

from kernlb.datapath.xdp.libbpf.descriptor import Descriptor
from kernlb.datapath.xdp.libbpf.library import checked, libbpf

GROWTH = 256  # bytes that a program may put in front of a packet: XDP_PACKET_HEADROOM
LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES


class _Info(ctypes.Structure):
    """struct bpf_prog_info, as far as it is read here"""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        *((name, c_uint32) for name in ("jited_prog_len", "xlated_prog_len")),
        *((name, c_uint64) for name in ("jited_prog_insns", "xlated_prog_insns", "load_time")),
        *((name, c_uint32) for name in ("created_by_uid", "nr_map_ids")),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
    )


class _TestRunOptions(ctypes.Structure):
    """struct bpf_test_run_opts"""

    _fields_ = (
        ("sz", c_size_t),
        *((name, c_void_p) for name in ("data_in", "data_out")),
        *((name, c_uint32) for name in ("data_size_in", "data_size_out")),
        *((name, c_void_p) for name in ("ctx_in", "ctx_out")),
        *((name, c_uint32) for name in ("ctx_size_in", "ctx_size_out", "retval")),
        ("repeat", c_int),
        *((name, c_uint32) for name in ("duration", "flags", "cpu", "batch_size")),
    )


class _XdpContext(ctypes.Structure):
    """struct xdp_md: offsets into the packet, and where it came in"""

    _fields_ = tuple(
        (name, c_uint32)
        for name in (
            *("data", "data_end", "data_meta"),
            *("ingress_ifindex", "rx_queue_index", "egress_ifindex"),
        )
    )


class RunResult(NamedTuple):
    """``retval``: the verdict (enum xdp_action). ``duration``: ns a run, mean of all repeats."""

    retval: int
    packet: bytes
    duration: int


class Program(Descriptor):
    KIND: ClassVar[str] = "bpf-prog"

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        info = _Info()
        self.read_info(info)
        self.name: str = info.name.decode()  # its first 15 characters
        self.program_id: int = info.id
        self.tag: str = bytes(info.tag).hex()  # of its instructions

    @classmethod
    def by_id(cls, program_id: int) -> Self:
        """Raises FileNotFoundError where it is gone."""
        result = libbpf().bpf_prog_get_fd_by_id(program_id)
        return cls(checked(result, f"open program {program_id}"))

    def test_run(
        self,
        packet: bytes,
        repeat: int = 1,
        ingress_ifindex: int = 0,
        ctx: bytes | None = None,
    ) -> RunResult:
        """Run an XDP program on one packet; longer than a page, it comes as fragments.

        ``ingress_ifindex`` is an interface of this network namespace with XDP on it (0: as the
        kernel has it, the loopback). ``ctx`` is a whole struct xdp_md in its place. The kernel
        wants at least 14 bytes. It does not restore the packet between repeats."""
        if ingress_ifindex and ctx is None:
            ctx = bytes(_XdpContext(data_end=len(packet), ingress_ifindex=ingress_ifindex))
        out = ctypes.create_string_buffer(len(packet) + GROWTH)
        data = ctypes.create_string_buffer(packet, len(packet) or 1)
        options = _TestRunOptions(
            data_in=ctypes.addressof(data),
            data_size_in=len(packet),
            data_out=ctypes.addressof(out),
            data_size_out=len(out),
            repeat=repeat,
        )
        self._run(options, ctx)
        return RunResult(options.retval, out.raw[: options.data_size_out], options.duration)

    def run_live(self, packet: bytes, repeat: int, ingress_ifindex: int, batch: int = 64) -> int:
        """As frames that came in there: what it forwards is sent. Returns ns a frame."""
        ctx = bytes(_XdpContext(data_end=len(packet), ingress_ifindex=ingress_ifindex))
        data = ctypes.create_string_buffer(packet, len(packet) or 1)
        options = _TestRunOptions(
            data_in=ctypes.addressof(data),
            data_size_in=len(packet),
            repeat=repeat,
            flags=LIVE_FRAMES,
            batch_size=batch,
        )
        self._run(options, ctx)
        return int(options.duration)

    def run_syscall(self, ctx: bytes) -> tuple[int, bytes]:
        """Run a SEC("syscall") program; returns its result, and ``ctx`` as it left it."""
        argument = ctypes.create_string_buffer(ctx, len(ctx) or 1)
        options = _TestRunOptions(ctx_in=ctypes.addressof(argument), ctx_size_in=len(ctx))
        self._run(options, None)
        return options.retval, argument.raw[: len(ctx)]

    def _run(self, options: _TestRunOptions, ctx: bytes | None) -> None:
        options.sz = ctypes.sizeof(options)
        if ctx is not None:
            context = ctypes.create_string_buffer(ctx, len(ctx) or 1)
            options.ctx_in, options.ctx_size_in = ctypes.addressof(context), len(ctx)
        result: int = libbpf().bpf_prog_test_run_opts(self.fd, ctypes.byref(options))
        if result == -errno.ENOSPC:
            raise OSError(
                errno.ENOSPC,
                f"cannot run program {self.name}: its packet grew by more than {GROWTH} bytes",
            )
        checked(result, f"run program {self.name}")
