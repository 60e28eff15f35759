"""Which interfaces the program runs on: links, pinned, so that they outlive the process.

Interfaces are those of the current network namespace. Native mode unless asked otherwise; what is
reported is the mode in force, as the kernel tells it. A program of somebody else is never
replaced.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from kernlb.datapath.xdp.libbpf import Link, Mode, Program, XdpState, xdp_state
from kernlb.datapath.xdp.loading import ATTACHED
from kernlb.datapath.xdp.pins import Pins, link_pin


class AttachError(OSError):
    """An interface did not get the program; others may have it."""


@dataclass(frozen=True, slots=True)
class Attached:
    interface: str
    ifindex: int
    mode: Mode  # in force
    program_id: int


def attach(root: Path, interface: str, mode: Mode = Mode.NATIVE) -> Attached:
    """Give the interface the loaded program; where it has it, see that it is the present one.

    Between native and generic the program is gone for a moment; a new program comes without one.
    Raises AttachError, DatapathUnavailableError, BlockingIOError while another process loads."""
    ifindex, pins = _ifindex(interface), Pins(root)
    with ExitStack() as stack:
        program = _enter(stack, pins, interface)
        before = None
        for path, link, there in list(_links(pins)):
            with link:
                if there != ifindex:
                    continue
                before = xdp_state(ifindex)
                if before is not None and before.mode == mode:
                    link.update(program)
                    return Attached(interface, ifindex, mode, program.program_id)
                link.detach()
                path.unlink()
        try:
            _attach_pinned(pins, program, interface, ifindex, mode)
        except OSError:
            if before is not None:
                _attach_pinned(pins, program, interface, ifindex, before.mode)
            raise
        return Attached(interface, ifindex, mode, program.program_id)


def detach(root: Path, interface: str) -> bool:
    """False where the program was not on it. Its maps, with all connections, stay."""
    try:
        ifindex = socket.if_nametoindex(interface)
    except OSError:
        return False  # it took its link with it
    pins, found = Pins(root), False
    with suppress(FileNotFoundError), pins.locked():
        for path, link, there in list(_links(pins)):
            with link:
                if there == ifindex:
                    link.detach()
                    path.unlink()
                    found = True
    return found


def attached(root: Path) -> tuple[Attached, ...]:
    """In the order of the interfaces' names."""
    found = []
    for _, link, ifindex in _links(Pins(root)):
        with link:
            state, info = xdp_state(ifindex), link.info
        if state is not None and state.program_id == info.program_id:  # else: another namespace's
            found.append(
                Attached(socket.if_indextoname(ifindex), ifindex, state.mode, info.program_id)
            )
    return tuple(sorted(found, key=lambda each: each.interface))


def _ifindex(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as why:
        raise AttachError(
            errno.ENODEV, f"cannot attach to {interface}: there is no such interface"
        ) from why


def _enter(stack: ExitStack, pins: Pins, interface: str) -> Program:
    """The lock, and the loaded program, until the stack unwinds."""
    try:
        stack.enter_context(pins.locked())
        return stack.enter_context(Program.open_pinned(pins.programs / ATTACHED))
    except FileNotFoundError as why:
        raise AttachError(
            errno.ENOENT, f"cannot attach to {interface}: no program is loaded in {pins.root}"
        ) from why


def _links(pins: Pins) -> Iterator[tuple[Path, Link, int]]:
    """Pin, link and interface. Those whose interface is gone are left out."""
    for path in sorted(pins.links.iterdir()) if pins.links.exists() else ():
        link = Link.open_pinned(path)
        if ifindex := link.info.ifindex:
            yield path, link, ifindex
        else:
            link.close()


def _free_pin(pins: Pins, interface: str, ifindex: int) -> Path:
    """Named after the interface, unless one that was renamed since has that name."""
    path = pins.links / link_pin(interface)
    if path.exists():
        with Link.open_pinned(path) as link:
            if link.info.ifindex:
                return pins.links / f"{path.name}:{ifindex}"
        path.unlink()
    return path


def _attach_pinned(pins: Pins, program: Program, interface: str, ifindex: int, mode: Mode) -> None:
    pins.links.mkdir(mode=0o700, exist_ok=True)
    with _attach(program, interface, ifindex, mode) as link:
        link.pin(_free_pin(pins, interface, ifindex))


def _attach(program: Program, interface: str, ifindex: int, mode: Mode) -> Link:
    try:
        return Link.attach_xdp(program, ifindex, mode)
    except OSError as why:
        if why.errno == errno.EPERM:
            raise
        doing = f"cannot attach to {interface}"
        foreign = xdp_state(ifindex)
        if why.errno in (errno.EBUSY, errno.EEXIST) and foreign is not None:
            raise AttachError(errno.EBUSY, f"{doing}: {_name(foreign)} is there already") from why
        if why.errno == errno.EOPNOTSUPP and mode is Mode.NATIVE:
            raise AttachError(
                why.errno, f"{doing}: its driver has no native XDP (generic works, slowly)"
            ) from why
        raise AttachError(
            why.errno or 0, f"{doing} in {mode} mode: {os.strerror(why.errno or 0)}"
        ) from why


def _name(foreign: XdpState) -> str:
    words = f"XDP program {foreign.program_id} in {foreign.mode} mode"
    with suppress(OSError), Program.by_id(foreign.program_id) as program:
        words += f" ({program.name}, not kernlb's)"
    return words
