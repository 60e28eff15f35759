"""Whether somebody waits for connections where clients will arrive."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.facts import Facts, UnreadError
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.network import Network
from kernlb.doctor.server.role import Listener, Listeners, Role
from kernlb.model import IPAddress


def _places(facts: Facts) -> Iterator[tuple[IPAddress, str, int, tuple[Listener, ...]]]:
    """Each address that clients' packets come with, and a port; who listens at the port."""
    role = facts[Role]
    if not role.ports:
        raise UnreadError("no --port was named")
    addresses = role.holds or tuple(
        held.ip
        for held in facts[Network].addresses
        if held.interface == role.interface and not held.ip.is_link_local
    )
    for address in addresses:
        for protocol, port in role.ports:
            yield address, protocol, port, facts[Listeners].at(protocol, port)


def _nobody(facts: Facts) -> Iterator[Finding]:
    for address, protocol, port, there in _places(facts):
        if not there:
            evidence = f"nobody listens at {protocol} port {port}"
            yield Finding(f"{address} {protocol}/{port}", evidence)


def _elsewhere(facts: Facts) -> Iterator[Finding]:
    for address, protocol, port, there in _places(facts):
        if there and not any(each.takes(address) for each in there):
            bound = ", ".join(str(each.address or f"IPv{each.version}") for each in there)
            evidence = f"whoever listens at {protocol} port {port} is bound to {bound}"
            remedy = f"have it listen at {address}, or at any address"
            yield Finding(f"{address} {protocol}/{port}", evidence, (remedy,))


CHECKS = (
    Check(
        id="nobody-listens",
        severity=Severity.ERROR,
        means="No program listens at a service's port.",
        why="Connections are refused. With dsr and tunnel the port is the service's own: the "
        "server's cannot differ.",
        remedy="start the program, or have it listen at the service's port",
        find=_nobody,
    ),
    Check(
        id="listens-elsewhere",
        severity=Severity.ERROR,
        means="The program at a service's port does not listen at the VIP.",
        why="Bound to the server's own address it takes no connection to the VIP; health checks "
        "of the server's address still succeed.",
        remedy="have it listen at the VIP, or at any address",
        find=_elsewhere,
    ),
)
