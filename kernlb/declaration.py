"""What an operator declared for one virtual service: a validated document, as a value.

``config`` makes these from documents; ``intent`` turns them into what the kernel should hold.
Runtime facts (drain, verdicts of the health monitor) are not in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernlb.health.check import HealthPolicy, Watch
from kernlb.model import (
    AddressKey,
    DatapathKind,
    IPAddress,
    RealServer,
    ServerKey,
    ServiceRef,
    VirtualService,
)

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Vip:
    """Where kernlb puts the address of a service.

    ``interface`` gets the address (as /32 or /128); gratuitous ARP or unsolicited neighbour
    advertisements leave by ``announce``, None for none (a routed VIP on ``lo``).
    """

    interface: str
    announce: str | None


@dataclass(frozen=True, slots=True)
class Declaration:
    """One document. ``name`` is the stem of its file ``source``.

    ``servers`` carry the declared weights. ``sorry_servers`` take over while no server can
    serve. ``watches`` say how a server is watched; one that is not in there is never asked and
    counts as good. ``vip`` None: the address is somebody else's to manage. ``drain_timeout`` in
    seconds, None: a drained server keeps its connections until they end. ``local`` are the servers
    on the balancer itself, whose addresses may be VIPs.
    """

    name: str
    datapath: DatapathKind
    service: VirtualService
    servers: tuple[RealServer, ...] = ()
    sorry_servers: tuple[RealServer, ...] = ()
    vip: Vip | None = None
    drain_timeout: float | None = None
    labels: Labels = field(default_factory=dict)
    server_labels: Mapping[ServerKey, Labels] = field(default_factory=dict)
    source: str = ""
    watches: Mapping[ServerKey, Watch] = field(default_factory=dict)
    health: HealthPolicy = field(default_factory=HealthPolicy)
    local: frozenset[ServerKey] = frozenset()
    ref: ServiceRef = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", ServiceRef(self.datapath, self.service.key))

    @property
    def address(self) -> IPAddress | None:
        """The address clients connect to; None for a firewall-mark service."""
        key = self.service.key
        return key.address if isinstance(key, AddressKey) else None

    def server(self, key: ServerKey) -> RealServer | None:
        return next((server for server in self.servers if server.key == key), None)
