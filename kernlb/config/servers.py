"""Real servers of a service document, each held against its service and its neighbours."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from msgspec import UNSET

from kernlb import limits
from kernlb.config.address import is_loopback, parse_address
from kernlb.config.document import (
    ServerDocument,
    ServiceDocument,
    SorryServerDocument,
    TunnelDocument,
)
from kernlb.config.errors import Path, Report
from kernlb.config.watches import WatchReader
from kernlb.declaration import Labels
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    Forwarding,
    IPAddress,
    RealServer,
    ServerKey,
    Tunnel,
    TunnelType,
    VirtualService,
)

_PLAIN = Tunnel()


class ServerReader:
    """Makes the real servers of one document; what they inherit is worked out once."""

    def __init__(
        self,
        document: ServiceDocument,
        service: VirtualService,
        forwarding: Forwarding,
        datapath: DatapathKind,
        watches: WatchReader,
        report: Report,
    ) -> None:
        self._watches = watches
        self._datapath = datapath
        self._document = document
        self._service = service
        self._family = service.family
        self._own_kind = IPv4Address if service.family is Family.IPV4 else IPv6Address
        self._forwarding = forwarding
        self._report = report
        key = service.key
        self._vip = key.address if isinstance(key, AddressKey) else None
        self._port = key.port if isinstance(key, AddressKey) else 0
        self._tunnel = _PLAIN
        if document.tunnel is not UNSET:
            self._tunnel = self._read_tunnel(document.tunnel, ("tunnel",))
        self._seen: dict[tuple[IPAddress, int], int] = {}
        self._inherited: set[limits.Limit] = set()  # told once, of the service
        self.local: set[ServerKey] = set()  # of what servers() and sorry_servers() gave

    def servers(self) -> tuple[tuple[RealServer, ...], dict[ServerKey, Labels]]:
        """The real servers in the order of the document, and the labels of those that have."""
        service = self._document
        servers: list[RealServer] = []
        labels: dict[ServerKey, Labels] = {}
        for index, document in enumerate(service.servers):
            path = ("servers", index)
            upper, lower = document.upper_threshold, document.lower_threshold
            server = self._server(
                document,
                path,
                service.weight if document.weight is UNSET else document.weight,
                service.upper_threshold if upper is UNSET else upper,
                service.lower_threshold if lower is UNSET else lower,
            )
            if server is None:
                continue
            first = self._seen.setdefault((server.address, server.port), index)
            if first != index:
                self._report.add(path, f"{server.key} is servers[{first}] already")
            servers.append(server)
            self._watches.add(server, document.check, path)
            if document.labels is not UNSET and document.labels:
                labels[server.key] = document.labels
        self._refuse_idle_tunnel(servers)
        return tuple(servers), labels

    def sorry_servers(self) -> tuple[tuple[RealServer, ...], dict[ServerKey, Labels]]:
        """The sorry servers: they inherit forwarding and tunnel, nothing else."""
        said = self._document.sorry_server
        servers: list[RealServer] = []
        labels: dict[ServerKey, Labels] = {}
        if said is UNSET:
            return (), labels
        for index, document in enumerate(said if isinstance(said, list) else [said]):
            path: Path = ("sorry_server", index) if isinstance(said, list) else ("sorry_server",)
            server = self._server(
                document, path, document.weight, document.upper_threshold, document.lower_threshold
            )
            if server is None:
                continue
            if (first := self._seen.get(server.key)) is not None:
                self._report.add(path, f"{server.key} is servers[{first}] already")
            if any(server.key == other.key for other in servers):
                self._report.add(path, f"{server.key} is there already")
            servers.append(server)
            if document.labels is not UNSET and document.labels:
                labels[server.key] = document.labels
        return tuple(servers), labels

    def _server(
        self,
        document: ServerDocument | SorryServerDocument,
        path: Path,
        weight: int,
        upper: int,
        lower: int,
    ) -> RealServer | None:
        try:
            address = parse_address(document.address)
        except ValueError as error:
            self._report.add((*path, "address"), str(error))
            return None
        forwarding = self._forwarding if document.forwarding is UNSET else document.forwarding
        port = self._port if document.port is UNSET else document.port
        if lower > upper:
            self._refuse_thresholds(document, path, upper, lower)
        if document.local and self._datapath is DatapathKind.XDP:
            self._report.add(
                (*path, "local"), "goes with datapath ipvs only: XDP sends packets away"
            )
        if address == self._vip and not document.local:
            self._report.add(
                (*path, "address"),
                f"{address} is the service's own address: the balancer itself would answer",
            )
        if type(address) is not self._own_kind or is_loopback(address):
            self._hold_address(address, forwarding, (*path, "address"))
        if port != self._port or port == 0:
            self._hold_port(port, forwarding, (*path, "port"))
        tunnel = None
        if forwarding is Forwarding.TUNNEL or document.tunnel is not UNSET:
            tunnel = self._tunnel_of(document, forwarding, path)
        server = RealServer(address, port, weight, forwarding, tunnel, upper, lower)
        if self._datapath is DatapathKind.XDP or forwarding is Forwarding.FULLNAT:
            self._hold_datapath(server, document, path)
        if document.local:
            self.local.add(server.key)
        return server

    def _hold_datapath(
        self, server: RealServer, document: ServerDocument | SorryServerDocument, path: Path
    ) -> None:
        limit = limits.of_server(self._datapath, self._service.key, server)
        if limit is None:
            return
        key = tuple(limit.key.split("."))
        if getattr(document, key[0]) is not UNSET:
            self._report.add((*path, *key), limit.why)
        elif limit not in self._inherited:
            self._inherited.add(limit)
            self._report.add(key, limit.why)

    def _hold_address(self, address: IPAddress, forwarding: Forwarding, path: Path) -> None:
        if Family.of(address) is not self._family and forwarding is not Forwarding.TUNNEL:
            self._report.add(
                path,
                f"{address} cannot serve an {self._family} service by {forwarding}: "
                "only forwarding tunnel mixes address families",
            )  # ip_vs_ctl.c, ip_vs_genl_set_cmd(): udest.af != usvc.af
        if is_loopback(address) and forwarding in (Forwarding.DSR, Forwarding.TUNNEL):
            self._report.add(
                path,
                f"{address} is a loopback address: forwarding {forwarding} cannot reach it, "
                "nat can (a server on the balancer itself)",
            )

    def _hold_port(self, port: int, forwarding: Forwarding, path: Path) -> None:
        key = self._service.key
        if port == self._port == 0:
            return  # fwmark or every port: the client's port is kept
        # Of a persistent mark as well, whatever a server's port is (ip_vs_core.c,
        # ip_vs_sched_persist(): dest->port counts if vport == svc->port): checks ask there.
        if forwarding in (Forwarding.DSR, Forwarding.TUNNEL):
            wanted = f"the service's, {self._port}" if self._port else "left out"
            self._report.add(
                path,
                f"must be {wanted}, not {port}: forwarding {forwarding} does not change ports",
            )
        elif self._port == 0 and isinstance(key, AddressKey):
            self._report.add(
                path, "must be left out: a service on every port keeps the client's port"
            )
        elif port == 0:
            self._report.add(path, "must be within 1..65535, not 0")

    def _tunnel_of(
        self, document: ServerDocument | SorryServerDocument, forwarding: Forwarding, path: Path
    ) -> Tunnel | None:
        if document.tunnel is UNSET:
            return self._tunnel
        path = (*path, "tunnel")
        tunnel = self._read_tunnel(document.tunnel, path)
        if forwarding is Forwarding.TUNNEL:
            return tunnel
        self._report.add(path, f"goes with forwarding tunnel only, and this is {forwarding}")
        return None

    def _read_tunnel(self, document: TunnelDocument, path: Path) -> Tunnel:
        port = 0 if document.port is UNSET else document.port
        kind = document.type
        if kind is TunnelType.GUE and port == 0:
            where = path if document.port is UNSET else (*path, "port")
            self._report.add(where, "needs a port within 1..65535 with type gue")
        if kind is not TunnelType.GUE and document.port is not UNSET:
            self._report.add((*path, "port"), f"goes with type gue only, and this is {kind}")
        if kind is TunnelType.IPIP and document.checksum:
            self._report.add((*path, "checksum"), "goes with type gue and gre only: ipip has none")
        tunnel = Tunnel(kind, port, document.checksum)
        return _PLAIN if tunnel == _PLAIN else tunnel

    def _refuse_thresholds(
        self, document: ServerDocument | SorryServerDocument, path: Path, upper: int, lower: int
    ) -> None:
        """The kernel answers ERANGE (ip_vs_ctl.c, ip_vs_add_dest)."""
        own = any(
            getattr(document, name) is not UNSET for name in ("upper_threshold", "lower_threshold")
        )
        where = (*path, "lower_threshold") if own else ("lower_threshold",)
        self._report.add(where, f"must not be above upper_threshold: {lower} > {upper}")

    def _refuse_idle_tunnel(self, servers: list[RealServer]) -> None:
        if self._document.tunnel is UNSET or self._forwarding is Forwarding.TUNNEL:
            return
        if not any(server.forwarding is Forwarding.TUNNEL for server in servers):
            self._report.add(
                ("tunnel",), f"goes with forwarding tunnel only, and this is {self._forwarding}"
            )
