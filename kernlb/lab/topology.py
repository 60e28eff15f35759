"""What the lab's network is: its namespaces, links and addresses, as one frozen value.

        client ----+                            +---- server1
                   |            balancer        +---- server2
                   +-- front --+        +- back +---- server3
                   |            router          |
    front is 10.0.0.0/24 and fd00:f::/64, back is 10.1.0.0/24 and fd00:b::/64; both are bridges in
    the namespace `switch`. The VIPs (192.0.2.10-30, fd00:aa::10-30) are routed to the balancer's
    front; 192.0.2.210-214 and fd00:aa:0:0:1::10-14 come to it through the router, so that it has
    clients and servers on one interface ("one-armed").
    Replies sent from a VIP leave the servers through the router (dsr, tunnel), replies sent from a
    server's own address through the balancer (nat), so all forwarding methods work at once.

Pure: says where things are, does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

FRONT, BACK = "front", "back"
SUBNETS: dict[str, tuple[IPNetwork, IPNetwork]] = {
    FRONT: (ip_network("10.0.0.0/24"), ip_network("fd00:f::/64")),
    BACK: (ip_network("10.1.0.0/24"), ip_network("fd00:b::/64")),
}
VIP_NETWORKS: tuple[IPNetwork, IPNetwork] = (
    ip_network("192.0.2.0/24"),
    ip_network("fd00:aa::/64"),
)
BACK_VIP_NETWORKS: tuple[IPNetwork, IPNetwork] = (  # within VIP_NETWORKS
    ip_network("192.0.2.192/26"),
    ip_network("fd00:aa::1:0:0:0/80"),
)
GUE_PORT = 6080


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace's address on one segment, in both families."""

    role: str
    segment: str
    v4: IPv4Address
    v6: IPv6Address

    def address(self, version: int) -> IPAddress:
        return self.v4 if version == 4 else self.v6


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything a test may want to know about where things are. `name` prefixes namespaces."""

    name: str = "kernlb"
    server_count: int = 3
    source_count: int = 30
    vip_count: int = 21
    back_vip_count: int = 5

    @property
    def client(self) -> Host:
        return _host("client", FRONT, 2)

    @property
    def balancer_front(self) -> Host:
        return _host("balancer", FRONT, 1)

    @property
    def balancer(self) -> Host:
        """The balancer as its servers see it."""
        return _host("balancer", BACK, 1)

    @property
    def router_front(self) -> Host:
        return _host("router", FRONT, 254)

    @property
    def router(self) -> Host:
        return _host("router", BACK, 254)

    @property
    def servers(self) -> tuple[Host, ...]:
        return tuple(_host(f"server{n}", BACK, 10 + n) for n in range(1, self.server_count + 1))

    @property
    def hosts(self) -> tuple[Host, ...]:
        ends = (self.client, self.balancer_front, self.balancer, self.router_front, self.router)
        return ends + self.servers

    @property
    def roles(self) -> tuple[str, ...]:
        fixed = ("client", "router", "balancer", "switch")
        return fixed + tuple(server.role for server in self.servers)

    def namespace(self, role: str) -> str:
        if role not in self.roles:
            raise KeyError(f"no {role} in lab {self.name} (there are: {', '.join(self.roles)})")
        return f"{self.name}-{role}"

    def sources(self, version: int) -> tuple[IPAddress, ...]:
        """The client's extra addresses, to be many clients with."""
        return tuple(_at(FRONT, version, 11 + n) for n in range(self.source_count))

    def vips(self, version: int) -> tuple[IPAddress, ...]:
        """Addresses of virtual services, routed to the balancer, in no segment of the lab."""
        prefix = "192.0.2." if version == 4 else "fd00:aa::"
        return tuple(ip_address(f"{prefix}{10 + n}") for n in range(self.vip_count))

    def back_vips(self, version: int) -> tuple[IPAddress, ...]:
        """The same, but their packets come to the balancer on the servers' segment."""
        prefix = "192.0.2.2" if version == 4 else "fd00:aa::1:0:0:"
        return tuple(ip_address(f"{prefix}{10 + n}") for n in range(self.back_vip_count))

    def front_vip(self, version: int) -> IPAddress:
        """One VIP inside the client's own segment: found by ARP or neighbour discovery."""
        return _at(FRONT, version, 100)

    def all_vips(self) -> Iterator[IPAddress]:
        for version in (4, 6):
            yield from self.vips(version)
            yield from self.back_vips(version)
            yield self.front_vip(version)


def _host(role: str, segment: str, number: int) -> Host:
    v4, v6 = _at(segment, 4, number), _at(segment, 6, number)
    assert isinstance(v4, IPv4Address) and isinstance(v6, IPv6Address)
    return Host(role, segment, v4, v6)


def _at(segment: str, version: int, number: int) -> IPAddress:
    """10.0.0.11 and fd00:f::11 belong together: the IPv6 suffix reads as the IPv4 one."""
    if version == 4:
        return SUBNETS[segment][0][number]
    return SUBNETS[segment][1][int(str(number), 16)]
