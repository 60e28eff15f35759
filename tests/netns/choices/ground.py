"""Two namespaces and a cable: in one a balancer, in the other everybody else, who is the test.

Servers and the gateway of the clients are MAC addresses only, known to the balancer beforehand:
where it sends a frame is whom it has chosen, whatever the forwarding method.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Self, TypeVar

from kernlb.datapath.xdp.decap import hold_pass
from kernlb.lab.namespaces import inside, write_sysctl
from kernlb.model import IPAddress
from tests.netns.choices import packets
from tests.netns.choices.packets import Packet

T = TypeVar("T")

FRONT, OUTSIDE = "front", "outside"  # the ends of the cable
VIPS = {4: [ip_address(f"192.0.2.{n}") for n in range(1, 41)]}
VIPS[6] = [ip_address(f"2001:db8:f::{n:x}") for n in range(1, 41)]
_unused = {version: iter(vips) for version, vips in VIPS.items()}
SERVERS = {4: [ip_address(f"10.9.1.{n}") for n in range(1, 97)]}
SERVERS[6] = [ip_address(f"fd00:9::1:{n:x}") for n in range(1, 97)]
_NETWORKS = (
    ("10.9.0.1/16", "10.9.0.254", "198.51.100.0/22"),
    ("fd00:9::1/64", "fd00:9::fe", "2001:db8:c::/64"),
)
_FRONT_MAC, _OUTSIDE_MAC, GATEWAY_MAC = (f"02:00:00:00:00:0{n}" for n in (1, 2, 3))
_SETTINGS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv4.icmp_ratelimit": 0,  # refusals are told by ICMP
    "net.ipv6.icmp.ratelimit": 0,
    "net.ipv6.conf.default.router_solicitations": 0,
}
_ETH_P_ALL, _SOL_PACKET, _IGNORE_OUTGOING = 3, 263, 23
_PATIENCE = 20.0  # seconds for a frame to arrive: for the slowest guest


def fresh_vip(version: int) -> IPAddress:
    """One that nobody had before."""
    return next(_unused[version])


def mac_of(server: IPAddress) -> str:
    return "02:00:00:01:00:" + f"{SERVERS[server.version].index(server) + 1:02x}"


class Ground:
    def __init__(self, name: str) -> None:
        self.balancer, self.outside = f"{name}-balancer", f"{name}-outside"

    def __enter__(self) -> Self:
        for each in (self.balancer, self.outside):
            _ip("netns", "add", each)
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.balancer, self.outside):
            subprocess.run(["ip", "netns", "delete", each], capture_output=True, timeout=30)

    def within(self, act: Callable[[], T]) -> T:
        """On the balancer."""
        return inside(self.balancer, act)

    def pass_on(self, packet: Packet) -> tuple[str, Packet]:
        """Give the balancer a packet; whom it sends what then."""
        self._wire.send(packets.frame(packet, _OUTSIDE_MAC, _FRONT_MAC))
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                arrived = packets.parse(self._wire.recv(2048))
            except TimeoutError:
                break
            if arrived and _concerns(arrived[1], packet):
                return arrived
        raise AssertionError(f"nothing came of {packet} in {self.balancer}")

    def _build(self) -> None:
        inside(self.outside, lambda: write_sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
        self.within(_write_settings)
        link = f"link add {FRONT} address {_FRONT_MAC} type veth"
        peer = f"peer {OUTSIDE} address {_OUTSIDE_MAC} netns {self.outside}"
        _ip("-n", self.balancer, *link.split(), *peer.split())
        _ip("-n", self.outside, "link", "set", OUTSIDE, "up")
        _ip("-n", self.balancer, "-batch", "-", given="\n".join(_batch()))
        inside(self.outside, lambda: hold_pass([OUTSIDE]))
        self._wire = inside(self.outside, _open_wire)


def _write_settings() -> None:
    for key, value in _SETTINGS.items():
        write_sysctl(key, str(value))


def _batch() -> list[str]:
    lines = [f"link set {each} up" for each in ("lo", FRONT)]
    for address, gateway, clients in _NETWORKS:
        nodad = " nodad" if ":" in address else ""
        lines.append(f"address add {address} dev {FRONT}{nodad}")
        lines.append(_neighbour(gateway, GATEWAY_MAC))
        lines.append(f"route add {clients} via {gateway}")
    for version in (4, 6):
        lines += [f"address add {vip} dev lo" for vip in VIPS[version]]
        lines += [_neighbour(str(each), mac_of(each)) for each in SERVERS[version]]
    return lines


def _neighbour(address: str, mac: str) -> str:
    return f"neighbour add {address} lladdr {mac} dev {FRONT} nud permanent"


def _open_wire() -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    wire.bind((OUTSIDE, _ETH_P_ALL))
    wire.settimeout(_PATIENCE)
    return wire


def _concerns(arrived: Packet, sent: Packet) -> bool:
    """It is the packet itself, wherever to; or an answer to it, or what it became of a server's."""
    ends = {(sent.source, sent.sport), (sent.destination, sent.dport)}
    if arrived.protocol is None:
        return arrived.destination == sent.source
    return bool(ends & {(arrived.source, arrived.sport), (arrived.destination, arrived.dport)})


def _ip(*words: str, given: str | None = None) -> None:
    done = subprocess.run(["ip", *words], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
