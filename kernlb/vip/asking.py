"""The door to the question who has an address: ARP by AF_PACKET, for VIPs that are ours."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from ipaddress import IPv4Address

from kernlb.vip.announce import ETH_P_ARP, answer, question

_ARPHRD_ETHER = 1
_MOST = 4096  # frames that are looked at, whatever else the link has to say


def who_has(
    interface: str, vips: Mapping[IPv4Address, IPv4Address], patience: float
) -> set[tuple[IPv4Address, bytes]]:
    """Who on the link answers for each address, besides this host: address and MAC.

    ``vips``: the address, and ours to ask from. Takes ``patience`` seconds, hence for a thread.
    Raises OSError."""
    found: set[tuple[IPv4Address, bytes]] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
        link.bind((interface, ETH_P_ARP))
        _, _, _, kind, mac = link.getsockname()
        if kind != _ARPHRD_ETHER:
            return found
        for vip, source in vips.items():
            link.send(question(vip, source, mac))
        deadline = time.monotonic() + patience
        for _ in range(_MOST):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            link.settimeout(left)
            try:
                heard = answer(link.recv(256))
            except TimeoutError:
                break
            if heard is not None and heard[0] in vips and heard[1] != mac:
                found.add(heard)
    return found
