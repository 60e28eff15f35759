"""Which packets are a service's, from what the daemon says of it. Pure."""

from __future__ import annotations

from kernlb.control.protocol import ServiceView
from kernlb.model import AddressKey, parse_service_key


class NotByXdpError(Exception):
    """The service is forwarded elsewhere; the message says where to look."""


def address_key(service: ServiceView) -> AddressKey | None:
    """None for a service of a firewall mark."""
    key = parse_service_key(service.key)
    return key if isinstance(key, AddressKey) else None


def key_of_xdp(service: ServiceView) -> AddressKey:
    """Raises NotByXdpError where IPVS has it."""
    key = address_key(service)
    if key is not None and service.datapath == "xdp":
        return key
    raise NotByXdpError(
        f"cannot capture {service.name}: it is forwarded by {service.datapath}, in the kernel's "
        f"network stack; try: tcpdump -ni any '{tcpdump_filter(key)}'"
        if key is not None
        else f"cannot capture {service.name}: it is forwarded by {service.datapath}, in the "
        "kernel's network stack, and chosen by a firewall mark, which tcpdump cannot see"
    )


def tcpdump_filter(key: AddressKey) -> str:
    """Both directions at the VIP; ``tcp`` and its port where it has one."""
    words = [f"host {key.address}", str(key.protocol)]
    if key.port:
        words.append(f"port {key.port}")
    return " and ".join(words)
