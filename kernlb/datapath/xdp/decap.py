"""The end of tunnels on a real server whose kernel has no device for them (bpf/decap.bpf.c).

The interface itself holds the program: nothing is pinned, no daemon is needed, and both are gone
when the interface is. Attaching again replaces program and addresses in one step, so that no
packet meets an interface without; counts begin anew.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from kernlb.datapath.xdp.libbpf import Mode, Object, Program, require_libbpf, xdp_state
from kernlb.datapath.xdp.libbpf.held import hold, let_go, maps_of
from kernlb.datapath.xdp.loading import object_path
from kernlb.model import IPAddress

NAME = "decap"
GUE_PORT = 6080
MOST = 1024  # of either kind of address

# enum outcome, in its order, and what an operator is told of it
OUTCOMES = ("stripped", "foreign", "fragment", "unsupported", "malformed", "elsewhere", "congested")

_ANYBODY = IPv6Address("::")
_NUMBER = struct.Struct("=I")
_COUNT = struct.Struct("=Q")


class DecapError(OSError):
    """The interface is as it was."""


@dataclass(frozen=True, slots=True)
class Decap:
    """Tunnels to ``ends`` are undone when they come from ``sources`` (none named: from anybody).

    ``gue_port`` is the UDP port of GUE, 0 for no GUE."""

    ends: tuple[IPAddress, ...]
    sources: tuple[IPAddress, ...] = ()
    gue_port: int = GUE_PORT


@dataclass(frozen=True, slots=True)
class Status:
    """What an interface has; ``packets`` to one of the ends, by the names of OUTCOMES."""

    mode: Mode
    decap: Decap
    packets: Mapping[str, int]


def require() -> None:
    """Raise DatapathUnavailableError where the program or libbpf is missing."""
    object_path(NAME)
    require_libbpf()


def attach(interface: str, decap: Decap, mode: Mode = Mode.NATIVE) -> None:
    """Twice is once. Raises DecapError, DatapathUnavailableError, LoadError."""
    doing = f"cannot attach {NAME} to {interface}"
    if not decap.ends:
        raise DecapError(errno.EINVAL, f"{doing}: no address of this host is named")
    if max(len(decap.ends), len(decap.sources)) > MOST:
        raise DecapError(errno.EINVAL, f"{doing}: more than {MOST} addresses")
    ifindex = _ifindex(interface, doing)
    with ExitStack() as stack:
        program = _load(stack, decap)
        present = _present(stack, ifindex)
        if present is not None and present[1] is not mode:
            raise DecapError(errno.EBUSY, f"{doing}: it is there in {present[1]} mode; detach it")
        try:
            hold(program, ifindex, mode, instead_of=present[0] if present else None)
        except OSError as why:
            if why.errno in (errno.EBUSY, errno.EEXIST):
                text = "another XDP program is there already"
            elif why.errno == errno.EOPNOTSUPP and mode is Mode.NATIVE:
                text = "its driver has no native XDP (generic works, slowly)"
            elif why.errno == errno.EPERM:
                raise
            else:
                text = os.strerror(why.errno or 0)
            raise DecapError(why.errno or 0, f"{doing}: {text}") from why


def detach(interface: str) -> bool:
    """False where it was not there; another program stays. Raises DecapError."""
    ifindex = _ifindex(interface, f"cannot detach {NAME} from {interface}")
    with ExitStack() as stack:
        present = _present(stack, ifindex)
        if present is None:
            return False
        let_go(present[0], ifindex, present[1])
        return True


def status(interface: str) -> Status | None:
    """None where it is not attached. Raises DecapError where there is no such interface."""
    ifindex = _ifindex(interface, f"cannot look at {interface}")
    with ExitStack() as stack:
        present = _present(stack, ifindex)
        if present is None:
            return None
        program, mode = present
        maps = {name: stack.enter_context(each) for name, each in maps_of(program).items()}
        ends = {_address(key): _NUMBER.unpack(value)[0] for key, value in maps["ends"].items()}
        sources = tuple(sorted(map(_address, maps["sources"].keys()), key=_order))
        counted = {
            name: sum(
                _COUNT.unpack(value)[0]
                for value in maps["outcomes"].values_per_cpu(_NUMBER.pack(number)) or ()
            )
            for number, name in enumerate(OUTCOMES)
        }
        decap = Decap(
            tuple(sorted(ends, key=_order)),
            () if _ANYBODY in sources else sources,
            max(ends.values(), default=0),
        )
        return Status(mode, decap, counted)


def hold_pass(interfaces: Sequence[str]) -> None:
    """Attach a program that passes everything: what the far end of a veth pair needs before it
    takes frames that XDP sends. An interface that has XDP already keeps it."""
    if not interfaces:
        return
    with Object.open(object_path(NAME)) as loadable:
        loadable.allow_fragments()
        loadable.load()
        with loadable.program("pass") as program:
            for interface in interfaces:
                ifindex = _ifindex(interface, f"cannot attach pass to {interface}")
                if xdp_state(ifindex) is None:
                    hold(program, ifindex, Mode.NATIVE)


def addresses_of(interface: str) -> tuple[IPAddress, ...]:
    """Those that others reach this host at by the interface; link-local ones are left out."""
    from pyroute2 import IPRoute  # a third of a second

    ifindex = _ifindex(interface, f"cannot look at {interface}")
    with IPRoute() as netlink:
        found = [
            ip_address(dict(message["attrs"])["IFA_ADDRESS"])
            for message in netlink.get_addr(index=ifindex)
        ]
    return tuple(sorted({each for each in found if not each.is_link_local}, key=_order))


def _load(stack: ExitStack, decap: Decap) -> Program:
    """In the kernel, with its addresses, and nowhere attached."""
    loadable = stack.enter_context(Object.open(object_path(NAME)))
    loadable.allow_fragments()
    loadable.load()
    with loadable.map("ends") as ends, loadable.map("sources") as sources:
        for each in decap.ends:
            ends.update(_key(each), _NUMBER.pack(decap.gue_port))
        for each in decap.sources or (_ANYBODY,):
            sources.update(_key(each), _NUMBER.pack(1))
    return stack.enter_context(loadable.program(NAME))


def _present(stack: ExitStack, ifindex: int) -> tuple[Program, Mode] | None:
    """The program on an interface, if it is ours."""
    state = xdp_state(ifindex)
    with suppress(FileNotFoundError):
        if state is not None:
            program = stack.enter_context(Program.by_id(state.program_id))
            if program.name == NAME:
                return program, state.mode
    return None


def _ifindex(interface: str, doing: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as why:
        raise DecapError(errno.ENODEV, f"{doing}: there is no such interface") from why


def _key(address: IPAddress) -> bytes:
    """IPv4 as ::ffff:a.b.c.d"""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _address(key: bytes) -> IPAddress:
    address = IPv6Address(key)
    return address.ipv4_mapped or address


def _order(address: IPAddress) -> tuple[int, int]:
    return address.version, int(address)
