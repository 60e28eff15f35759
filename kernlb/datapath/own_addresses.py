"""This host's own address on an interface, for what is to be answered there by another family
than the one that a route was asked for."""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from kernlb.model import Family, IPAddress

_SIOCGIFADDR = 0x8915
_IFREQ = struct.Struct("16s H 2s 4s 16x")
_IF_INET6 = Path("/proc/self/net/if_inet6")  # address, index, prefix, scope, flags, name
_GLOBAL, _UNUSABLE = 0x00, 0x48  # IPV6_ADDR_SCOPE; IFA_F_DADFAILED | IFA_F_TENTATIVE


def address_on(interface: str, family: Family) -> IPAddress | None:
    """The first of the family, of global scope; None where there is none."""
    return _ipv4(interface) if family is Family.IPV4 else _ipv6(interface)


def _ipv4(interface: str) -> IPv4Address | None:
    request = _IFREQ.pack(interface.encode(), 0, b"", b"")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            answer = fcntl.ioctl(control, _SIOCGIFADDR, request)
    except OSError:
        return None
    return IPv4Address(_IFREQ.unpack(answer)[3])


def _ipv6(interface: str) -> IPv6Address | None:
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        address, _, _, scope, flags, name = line.split()
        if name == interface and int(scope, 16) == _GLOBAL and not int(flags, 16) & _UNUSABLE:
            return IPv6Address(bytes.fromhex(address))
    return None
