"""What IPVS holds, as it was read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from kernlb.model import ServiceKey


@dataclass(frozen=True, slots=True)
class Ipvs:
    """Of this network namespace. ``buckets`` of the table of connections."""

    keys: frozenset[ServiceKey] = frozenset()
    buckets: int = 4096
    connections: int = 0  # active and inactive, of all servers
    backup: bool = False  # a connection-sync daemon takes connections from another balancer
