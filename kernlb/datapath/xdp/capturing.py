"""Packets as the loaded program sees them: before, after, its verdict and its reasons.

bpf/capture.bpf.c stands at the entry and the exit of the program while a Capture is open, and is
gone with it, however the process ends. It filters in the kernel; what is wanted is constant to
it. A program that took the other's place meanwhile is not seen: ask :meth:`Capture.is_current`.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from kernlb.datapath import DatapathUnavailableError
from kernlb.datapath.xdp.layout import U64, Layout, Reason, address_bytes
from kernlb.datapath.xdp.libbpf import LoadError, Map, Object, Program
from kernlb.datapath.xdp.libbpf.watching import Ring, Watch, Where
from kernlb.datapath.xdp.loading import ATTACHED, object_path
from kernlb.datapath.xdp.pins import DEFAULT_ROOT, Pins
from kernlb.datapath.xdp.records import PROTOCOLS
from kernlb.model import AddressKey

NAME = "capture"
LEAST_KEPT, MOST_KEPT = 14, 4096  # bytes of a packet

# A kernel without BPF trampolines, BTF or a JIT, each in its own way; 524: ENOTSUPP.
_CANNOT = (errno.EINVAL, errno.EOPNOTSUPP, 524, errno.ENOENT, errno.ESRCH)


class Action(IntEnum):
    """enum xdp_action"""

    ABORTED, DROP, PASS, TX, REDIRECT = range(5)


@dataclass(frozen=True, slots=True)
class Wanted:
    """All of it must fit a packet, as it came or as it left; None: any."""

    limit: int  # packets
    kept: int = 256  # bytes of each
    sample: int = 1  # one packet of so many
    ifindex: int | None = None  # where it came in
    actions: frozenset[Action] = frozenset(Action)
    clients: IPv4Network | IPv6Network | None = None  # source or destination
    service: AddressKey | None = None  # the same; ICMP and later fragments by the address alone


class _Seen(NamedTuple):
    """struct seen of bpf/capture.bpf.c"""

    time: int
    ifindex: int
    queue: int
    action: int
    reasons: int
    length_before: int
    kept_before: int
    length_after: int
    kept_after: int


SEEN = Layout(_Seen, "Q I I I I I I I I")


class Frame(NamedTuple):
    """``data``: the first bytes of ``length``."""

    length: int
    data: bytes


class Captured(NamedTuple):
    """``time``: ns of the monotonic clock. ``queue``: of the interface it came in by."""

    time: int
    ifindex: int
    queue: int
    action: Action
    reasons: tuple[Reason, ...]  # counted for it: one, or two where one is remarkable
    before: Frame
    after: Frame


class Capture:
    """Of the program that is loaded now. ``missed`` packets fit and found the ring full."""

    def __init__(self, wanted: Wanted, root: Path = DEFAULT_ROOT) -> None:
        """Begins to watch.

        Raises FileNotFoundError where no program is loaded, DatapathUnavailableError where this
        kernel or process cannot watch one."""
        self._pins = Pins(root)
        with ExitStack() as stack:
            target = stack.enter_context(Program.open_pinned(self._pins.programs / ATTACHED))
            counted = stack.enter_context(Map.open_pinned(self._pins.maps / "reasons"))
            loadable = stack.enter_context(Object.open(object_path(NAME)))
            loadable.reuse("reasons", counted)
            loadable.set_rodata(_constants(wanted))
            try:
                loadable.watch("enter", target, ATTACHED)
                loadable.watch("leave", target, ATTACHED)
                loadable.load()
                with loadable.map(".data.counts") as counts, loadable.map("ring") as ring:
                    self._counts = counts.mmap()
                    self._ring = Ring(ring)
                self._watches = _attach(loadable)
            except OSError as why:
                raise _refused(why) from why
            self._program_id = target.program_id

    def is_current(self) -> bool:
        """False once another program has taken its place. Raises FileNotFoundError: unloaded."""
        with Program.open_pinned(self._pins.programs / ATTACHED) as program:
            return program.program_id == self._program_id

    @property
    def missed(self) -> int:
        return int(U64.unpack_from(self._counts, 8)[0])

    def read(self, seconds: float) -> list[Captured]:
        """In the order in which they left; [] where none came within so many seconds."""
        return [captured(record) for record in self._ring.read(seconds)]

    def stop(self) -> None:
        """Watch no more; what is in the ring can be read yet."""
        self._watches.close()

    def close(self) -> None:
        """Twice is once."""
        self.stop()
        self._ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _attach(loadable: Object) -> ExitStack:
    """In this order, and undone in the other: who enters is met where it leaves."""
    with ExitStack() as watches:
        for name, where in (("leave", Where.EXIT), ("enter", Where.ENTRY)):
            with loadable.program(name) as program:
                watches.enter_context(Watch.attach(program, where))
        return watches.pop_all()


def captured(record: bytes) -> Captured:
    """Of one record of the ring."""
    seen = SEEN.unpack(record)
    middle = SEEN.size + seen.kept_before
    return Captured(
        seen.time,
        seen.ifindex,
        seen.queue,
        Action(seen.action) if seen.action < len(Action) else Action.ABORTED,
        tuple(each for each in Reason if seen.reasons >> each & 1),
        Frame(seen.length_before, record[SEEN.size : middle]),
        Frame(seen.length_after, record[middle : middle + seen.kept_after]),
    )


def interface_index(name: str) -> int:
    """Raises OSError where this network namespace has no such interface."""
    return socket.if_nametoindex(name)


def interface_name(ifindex: int) -> str:
    """In words where it is gone, or another namespace's."""
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return f"interface {ifindex}"


def _constants(wanted: Wanted) -> dict[str, int | bytes]:
    constants: dict[str, int | bytes] = {
        "limit": wanted.limit,
        "kept": max(LEAST_KEPT, min(wanted.kept, MOST_KEPT)),
        "sample": wanted.sample,
        "on_ifindex": wanted.ifindex or 0,
        "verdicts": _bits(tuple(wanted.actions)),
    }
    if (clients := wanted.clients) is not None:
        constants["client"] = address_bytes(clients.network_address)
        constants["client_mask"] = address_bytes(clients.netmask)
        constants["client_family"] = clients.version
    if (service := wanted.service) is not None:
        constants["vip"] = address_bytes(service.address)
        constants["vip_port"] = service.port.to_bytes(2, "big")
        constants["vip_protocol"] = PROTOCOLS[service.protocol]
        constants["vip_family"] = service.address.version
    return constants


def _bits(actions: Sequence[Action]) -> int:
    return sum(1 << each for each in actions)


def _refused(why: OSError) -> OSError:
    release = os.uname().release
    if why.errno == errno.EPERM:
        return DatapathUnavailableError(
            errno.EPERM,
            f"cannot capture: kernel {release} does not let this process watch an XDP program; "
            "root can, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, unless the kernel is locked down",
        )
    if isinstance(why, DatapathUnavailableError) or why.errno not in _CANNOT:
        return why
    said = why.log.splitlines()[-1:] if isinstance(why, LoadError) else []
    detail = f" ({said[0].strip()})" if said else ""
    return DatapathUnavailableError(
        why.errno or 0,
        f"cannot capture: kernel {release} cannot watch an XDP program; it needs BTF, "
        f"the BPF JIT and trampolines{detail}",
    )
