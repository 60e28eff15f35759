"""States of services as the lines of ``ipvsadm -S``.

``ipvsadm -S`` itself leaves out connection thresholds and prints a mark above 2**31-1 with a sign,
which ``ipvsadm -R`` refuses; ``restorable`` lines have the one and not the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cmp_to_key

from kernlb.migrate.ipvsadm.names import Names
from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    IPAddress,
    L4Protocol,
    Persistence,
    RealServer,
    SchedulerFlag,
    ServiceKey,
    ServiceState,
    TunnelType,
)

SERVICE_OPTIONS = {
    L4Protocol.TCP: "-t",
    L4Protocol.UDP: "-u",
    L4Protocol.SCTP: "--sctp-service",
}
METHODS = {Forwarding.NAT: "-m", Forwarding.TUNNEL: "-i", Forwarding.DSR: "-g"}
_NUMBERS = {L4Protocol.TCP: 6, L4Protocol.UDP: 17, L4Protocol.SCTP: 132}


def lines(state: ServiceState, names: Names, *, restorable: bool = False) -> Iterator[str]:
    """The service, then its real servers, in ipvsadm's order."""
    name = _service(state.key, names, restorable)
    service = state.service
    words = f"-A {name} -s {service.scheduler}"
    if service.persistence is not None:
        words += f" -p {service.persistence.timeout}{netmask(service.persistence, ' -M ', state)}"
        if service.persistence.engine is not None:
            words += f" --pe {service.persistence.engine}"
    if service.one_packet:
        words += " -o"
    if service.flags:
        words += f" -b {flags(state)}"
    yield words
    for server in in_order(state):
        yield f"-a {name} {_server(state, server, names, restorable)}"


def _service(key: ServiceKey, names: Names, restorable: bool) -> str:
    if isinstance(key, AddressKey):
        return f"{SERVICE_OPTIONS[key.protocol]} {place(key.address, key.port, key, names)}"
    mark = key.fwmark if restorable else signed(key.fwmark)
    return f"-f {mark}" + (" -6" if key.family is Family.IPV6 else "")


def _server(state: ServiceState, server: RealServer, names: Names, restorable: bool) -> str:
    words = f"-r {place(server.address, server.port, state.key, names)}"
    words += f" {METHODS[server.forwarding]} -w {server.weight}"
    tunnel = server.tunnel
    if tunnel is not None:
        words += f" --tun-type {tunnel.type}"
        if tunnel.type is TunnelType.GUE:
            words += f" --tun-port {tunnel.port}"
        if tunnel.type is not TunnelType.IPIP:
            words += " --tun-csum" if tunnel.checksum else " --tun-nocsum"
    if restorable and server.upper_threshold:
        words += f" -x {server.upper_threshold}"
    if restorable and server.lower_threshold:
        words += f" -y {server.lower_threshold}"
    return words


def place(address: IPAddress, port: int, key: ServiceKey, names: Names) -> str:
    """``192.0.2.1:80`` or ``web.example.net:http``. Ports of a mark's servers have no names, for
    a mark has no protocol."""
    host = names.host(address)
    named = names.service(port, key.protocol) if isinstance(key, AddressKey) else str(port)
    return f"{host if address.version == 4 else f'[{host}]'}:{named}"


def netmask(persistence: Persistence, word: str, state: ServiceState) -> str:
    """A mask that is not that of one host, behind ``word``; "" where it is."""
    family = state.key.family
    if persistence.prefix == family.max_prefix:
        return ""
    if family is Family.IPV6:
        return f"{word}{persistence.prefix}"
    mask = 0xFFFFFFFF << (32 - persistence.prefix) & 0xFFFFFFFF
    return word + ".".join(map(str, mask.to_bytes(4, "big")))


def flags(state: ServiceState) -> str:
    """In the order of their bits."""
    return ",".join(flag for flag in SchedulerFlag if flag in state.service.flags)


def signed(mark: int) -> int:
    """As printf's %d shows 32 bits."""
    return (mark + 2**31) % 2**32 - 2**31


# ipvsadm sorts by differences that it keeps in an int: an address more than 2**31 above another
# comes before it (libipvs.c, ipvs_cmp_services() and ipvs_cmp_dests()).


def services_in_order(states: list[ServiceState]) -> list[ServiceState]:
    return sorted(states, key=cmp_to_key(_compare_services))


def in_order(state: ServiceState) -> list[RealServer]:
    """The servers as ipvsadm sorts them."""
    return sorted(state.servers, key=cmp_to_key(_compare_servers))


def _compare_services(one: ServiceState, other: ServiceState) -> int:
    a, b = one.key, other.key
    differences = [
        signed(_mark(a) - _mark(b)),
        (a.family is Family.IPV6) - (b.family is Family.IPV6),
    ]
    if isinstance(a, AddressKey) and isinstance(b, AddressKey):
        differences.append(_NUMBERS[a.protocol] - _NUMBERS[b.protocol])
        differences += _addresses(a.address, b.address)
        differences.append(a.port - b.port)
    return next((each for each in differences if each), 0)


def _compare_servers(one: RealServer, other: RealServer) -> int:
    differences = [*_addresses(one.address, other.address), one.port - other.port]
    return next((each for each in differences if each), 0)


def _mark(key: ServiceKey) -> int:
    return 0 if isinstance(key, AddressKey) else key.fwmark


def _addresses(one: IPAddress, other: IPAddress) -> Iterator[int]:
    """By 32 bits each; of IPv4 there are only the first."""
    count = 4 if one.version == 6 else 1
    for a, b in zip(_words(one)[:count], _words(other)[:count], strict=True):
        yield signed(a - b)


def _words(address: IPAddress) -> list[int]:
    packed = address.packed.ljust(16, b"\0")
    return [int.from_bytes(packed[start : start + 4], "big") for start in range(0, 16, 4)]
