"""Packets that no decent client sends."""

from __future__ import annotations

import socket

from kernlb.datapath.xdp import explain
from kernlb.lab.namespaces import inside
from kernlb.lab.topology import IPAddress
from kernlb.model import L4Protocol, ServerKey
from tests.netns.traffic.balancer import Balancer


def send(balancer: Balancer, vip: IPAddress, *, malformed: bool = False) -> None:
    """A segment of no connection, from the lab's client."""
    source = ServerKey(balancer.topology.sources(4)[0], 40000)
    packet = bytearray(explain.frame(L4Protocol.TCP, source, ServerKey(vip, 80), within=True)[14:])
    if malformed:
        packet[20 + 12] = 15 << 4  # a header of TCP longer than the packet

    def go() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(packet, (str(vip), 0))

    inside(balancer.topology.namespace("client"), go)
