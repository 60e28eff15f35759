"""A network namespace with two interfaces and known next hops, for what the program asks the FIB.

It has no name and no process of its own: the thread that enters it leaves it again, and the last
descriptor takes it away. `front` is where packets come in and where clients are, `back` is
another interface, towards servers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyroute2 import IPRoute

from tests.bpf.frames import BACK_MAC, CLIENT_MAC, OUR_MAC, SERVER_MAC

CLONE_NEWNET = 0x40000000
NUD_PERMANENT = 0x80
MTU = 1500
# Networks behind each interface: address of ours, gateway, what lies behind the gateway.
FRONT = (
    ("198.18.0.1", 24, "198.18.0.2", "198.51.100.0/24"),
    ("2001:db8:a::1", 64, "2001:db8:a::2", "2001:db8:c::/64"),
)
BACK = (
    ("198.18.1.1", 24, "198.18.1.2", "10.2.0.0/16"),
    ("2001:db8:b::1", 64, "2001:db8:b::2", "fd00:2::/64"),
)
NO_NEIGHBOUR = {4: "198.18.1.77", 6: "2001:db8:b::77"}  # on the link of `back`, never resolved
NO_ROUTE = {4: "203.0.113.9", 6: "2001:db8:dead::9"}

_libc = ctypes.CDLL(None, use_errno=True)


class Interfaces(NamedTuple):
    front: int
    back: int


class Network:
    def __init__(self) -> None:
        with _own_namespace() as home:
            _checked(_libc.unshare(CLONE_NEWNET))
            self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.interfaces = _build()
            finally:
                _enter(home)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in it meanwhile."""
        with _own_namespace() as home:
            _enter(self._fd)
            try:
                yield
            finally:
                _enter(home)

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def _own_namespace() -> Iterator[int]:
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _enter(fd: int) -> None:
    _checked(_libc.setns(fd, CLONE_NEWNET))


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _build() -> Interfaces:
    for key in ("ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"):
        (Path("/proc/sys/net") / key).write_text("1")
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
        front = _link(ip, "front", OUR_MAC, CLIENT_MAC, FRONT)
        back = _link(ip, "back", BACK_MAC, SERVER_MAC, BACK)
    return Interfaces(front, back)


def _link(ip: IPRoute, name: str, ours: str, theirs: str, networks) -> int:
    ip.link("add", ifname=name, kind="veth", peer=f"{name}-peer", address=ours, mtu=MTU)
    index = ip.link_lookup(ifname=name)[0]
    for each in (index, ip.link_lookup(ifname=f"{name}-peer")[0]):
        ip.link("set", index=each, state="up")
    for address, prefix, gateway, behind in networks:
        nodad = {"flags": 0x02} if ":" in address else {}
        ip.addr("add", index=index, address=address, prefixlen=prefix, **nodad)
        ip.neigh("add", dst=gateway, lladdr=theirs, ifindex=index, state=NUD_PERMANENT)
        ip.route("add", dst=behind, gateway=gateway, oif=index)
    return index
