"""The door to the question who else answers for a VIP: ARP on the links that it belongs to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

from kernlb.doctor.network import Claims, Network
from kernlb.model import IPAddress
from kernlb.vip.asking import who_has

PATIENCE = 0.5  # seconds for answers, of all links at once
MOST = 256  # VIPs that a link is asked for


def read(network: Network, vips: list[IPAddress]) -> Claims:
    """Asks each Ethernet link in whose network a VIP is. Raises OSError."""
    asked: dict[str, dict[IPv4Address, IPv4Address]] = {}
    for held in network.addresses:
        link = network.link(held.interface)
        if link is None or not link.ethernet or not link.up or held.ip in vips:
            continue
        for vip in vips:
            ours = held.ip
            if not isinstance(vip, IPv4Address) or not isinstance(ours, IPv4Address):
                continue
            if vip in held.address.network and len(asked.get(link.name, ())) < MOST:
                asked.setdefault(link.name, {})[vip] = ours
    found: list[tuple[IPAddress, str, str]] = []
    with ThreadPoolExecutor(max_workers=max(1, min(len(asked), 16))) as askers:
        answers = {
            interface: askers.submit(who_has, interface, questions, PATIENCE)
            for interface, questions in asked.items()
        }
    for interface, heard in answers.items():
        for vip, mac in sorted(heard.result()):
            found.append((vip, mac.hex(":"), interface))
    own = {link.mac for link in network.links}
    return Claims(tuple(each for each in found if each[1] not in own))
