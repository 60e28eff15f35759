"""The balancer of a lab with kernlbd on it, whatever the datapath, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from kernlb.lab.load import LoadClient
from kernlb.lab.network import Lab
from kernlb.lab.topology import IPAddress, Topology
from kernlb.model import (
    AddressKey,
    DatapathKind,
    L4Protocol,
    ServerKey,
    ServiceKey,
    ServiceState,
)
from tests.netns.traffic.daemon import Daemon

Json = dict[str, Any]

WEIGHTS = {"server1": 1, "server2": 2, "server3": 3}
EQUAL = {"server1": 1, "server2": 1, "server3": 1}


class Balancer:
    """Declares services by the daemon, and reads back what the kernel makes of them.

    `read` gives a service as the kernel has it, servers newest first.
    """

    def __init__(
        self,
        lab: Lab,
        daemon: Daemon,
        kind: DatapathKind,
        read: Callable[[ServiceKey], ServiceState],
    ) -> None:
        self.lab = lab
        self.daemon = daemon
        self.kind = kind
        self._read = read
        self._names = {
            server.address(version): server.role
            for server in self.topology.servers
            for version in (4, 6)
        }
        self._taken = {4: 0, 6: 0}

    @property
    def topology(self) -> Topology:
        return self.lab.topology

    @property
    def load(self) -> LoadClient:
        return self.lab.load

    @property
    def namespace(self) -> str:
        return self.topology.namespace("balancer")

    def fresh_vip(self, version: int) -> IPAddress:
        """An address that is routed to the balancer and was no test's for a good while."""
        vips = self.topology.vips(version)
        number = self._taken[version]
        self._taken[version] += 1
        return vips[number % len(vips)]

    def servers(
        self, version: int, weights: Mapping[str, int] = EQUAL, **settings: Any
    ) -> list[Json]:
        """Server documents of the lab's servers with these weights."""
        return [
            {"address": self.address(role, version), "weight": weight, **settings}
            for role, weight in weights.items()
        ]

    def address(self, role: str, version: int) -> str:
        (host,) = [host for host in self.topology.servers if host.role == role]
        return str(host.address(version))

    def declare(self, name: str, document: Json) -> None:
        """Add the service, or make it another."""
        self.daemon.client.add_service(name, document, replace=True)

    def settle_timeouts(self, **timeouts: float) -> None:
        """Idle connections end after so many seconds, by kind of connection."""
        settings = {**self.daemon.settings.get(self.kind, {}), "timeouts": timeouts}
        self.daemon.settle({self.kind: settings})
        self.daemon.client.reload()

    def state(self, document: Json) -> ServiceState:
        """What the kernel holds for a document's service, servers in the kernel's order."""
        protocol = L4Protocol(document.get("protocol", "tcp"))
        return self._read(AddressKey(protocol, ip_address(document["address"]), document["port"]))

    def role(self, server: ServerKey) -> str:
        return self._names[ip_address(str(server.address))]

    def name_of(self, address: str) -> str:
        """The role that has an address."""
        return self._names[ip_address(address)]

    def key_text(self, service: str) -> str:
        """As events name it: tcp/192.0.2.10:80."""
        return self.daemon.client.service(service).key

    def active(self, service: str) -> dict[str, int]:
        """Active connections by role, as the daemon tells them."""
        (stats,) = self.daemon.client.stats(service)
        return {
            self._names[ip_address(each.server.rpartition(":")[0].strip("[]"))]: each.active
            for each in stats.servers
        }
