"""Probes at a VIP by XDP: a program at the egress of lo does for them what XDP does for clients.

XDP sees what comes in; a probe goes out. So bpf/probe.bpf.c stands where packets for the VIP
leave: at lo where the VIP is local, else at the device that the route to it names. What it does is
told by its map, mark by mark. Interfaces hold it, nothing is pinned; the next start makes a new
program with a new map and puts it in the place of the old one.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from kernlb.datapath.probing import Path, Paths
from kernlb.datapath.xdp.layout import (
    U32,
    AddressFamily,
    Encapsulation,
    Forward,
    Layout,
    address_bytes,
)
from kernlb.datapath.xdp.libbpf import Map, Object, Program
from kernlb.datapath.xdp.libbpf.hooks import hook, hooked, unhook
from kernlb.datapath.xdp.loading import object_path
from kernlb.model import Forwarding, IPAddress, TunnelType

NAME = "probe"
LOOPBACK = 1  # LOOPBACK_IFINDEX


class ProbePath(NamedTuple):
    """struct path of bpf/probe.bpf.c"""

    addr: bytes
    source: bytes
    next_hop: bytes
    ifindex: int
    forwarding: int
    family: int
    next_hop_family: int
    tunnel: int
    tunnel_port: bytes


PATH = Layout(ProbePath, "16s 16s 16s I B B B B 2s 2x")
_FORWARD = {Forwarding.DSR: Forward.DSR, Forwarding.TUNNEL: Forward.TUNNEL}
_TUNNEL = {
    TunnelType.IPIP: Encapsulation.IPIP,
    TunnelType.GUE: Encapsulation.GUE,
    TunnelType.GRE: Encapsulation.GRE,
}


class ProbeProgram:
    """Of one network namespace. Nothing is loaded before the first path is asked for."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._program: Program | None = None
        self._paths: Map
        self._written: dict[int, Path] = {}
        self._devices: set[int] | None = None  # None: what an earlier process left is not known

    def carry(self, paths: Paths) -> Mapping[int, str]:
        trouble = {mark: why for mark, path in paths.items() if (why := _why_not(path))}
        wanted = {mark: path for mark, path in paths.items() if mark not in trouble}
        if wanted:
            program = self._load()
            self._write(wanted)
            devices = {LOOPBACK if path.entry is None else path.entry for path in wanted.values()}
            for each in devices:
                if hooked(each) != program.program_id:
                    hook(program, each)
        else:
            devices = set()
        if self._devices is None:
            self._devices = {index for index, _ in socket.if_nameindex()}
        for each in self._devices - devices:
            if _is_ours(hooked(each)):
                unhook(each)
        self._devices = devices
        if not wanted:
            self.close()
        return trouble

    def close(self) -> None:
        self._stack.close()
        self._program = None
        self._written = {}

    def _load(self) -> Program:
        if self._program is None:
            with ExitStack() as stack:
                loadable = stack.enter_context(Object.open(object_path(NAME)))
                loadable.load()
                self._paths = stack.enter_context(loadable.map("paths"))
                self._program = stack.enter_context(loadable.program(NAME))
                self._stack = stack.pop_all()
        return self._program

    def _write(self, wanted: Paths) -> None:
        for mark in self._written.keys() - wanted.keys():
            self._paths.delete(U32.pack(mark))
        for mark, path in wanted.items():
            if self._written.get(mark) != path:
                self._paths.update(U32.pack(mark), PATH.pack(_record(path)))
        self._written = dict(wanted)


def _why_not(path: Path) -> str:
    server = path.server
    if server.forwarding is Forwarding.TUNNEL and path.source is None:
        return f"no address of ours towards {server.address}"
    return ""


def _is_ours(program_id: int) -> bool:
    """By its name; a process without CAP_SYS_ADMIN is told none, and goes by where it stands."""
    if not program_id:
        return False
    try:
        with Program.by_id(program_id) as program:
            return program.name == NAME
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno == errno.EPERM


def _record(path: Path) -> ProbePath:
    server, tunnel = path.server, path.server.tunnel
    return ProbePath(
        addr=address_bytes(server.address),
        source=address_bytes(path.source) if path.source is not None else bytes(16),
        next_hop=address_bytes(path.next_hop),
        ifindex=path.ifindex,
        forwarding=_FORWARD[server.forwarding],
        family=_family(server.address),
        next_hop_family=_family(path.next_hop),
        tunnel=_TUNNEL[tunnel.type] if tunnel is not None else 0,
        tunnel_port=tunnel.port.to_bytes(2, "big") if tunnel is not None else bytes(2),
    )


def _family(address: IPAddress) -> AddressFamily:
    return AddressFamily(address.version)
