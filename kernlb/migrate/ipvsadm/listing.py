"""What ``ipvsadm -L`` prints, to the byte: widths, rounding, truncation and order are ipvsadm's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kernlb.control.protocol import CountersView, ServerStatsView, ServiceStatsView
from kernlb.migrate.ipvsadm import rules
from kernlb.migrate.ipvsadm.names import Names
from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    RealServer,
    ServiceState,
    TunnelType,
    endpoint,
)

_NO_COUNTERS = CountersView(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_METHODS = {Forwarding.NAT: "Masq", Forwarding.TUNNEL: "Tunnel", Forwarding.DSR: "Route"}
_COUNTED = ("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes")
_RATED = ("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")
_LOCAL, _REMOTE = "Prot LocalAddress:Port", "  -> RemoteAddress:Port"
_STEPS = ((100_000_000, 1, ""), (10**9, 10**3, "K"), (10**11, 10**6, "M"), (10**14, 10**9, "G"))


class Listed(NamedTuple):
    """A service as the kernel holds it, and its counters; None: none were to be had."""

    state: ServiceState
    stats: ServiceStatsView | None = None


class Table:
    """One way of listing. ``parts``: options of -L by ipvsadm's names, of which the first of
    stats, rate, thresholds, persistent-conn and tun-info counts."""

    def __init__(self, parts: Iterable[str], names: Names) -> None:
        known = ("stats", "rate", "thresholds", "persistent-conn", "tun-info")
        parts = frozenset(parts)
        self._kind = next((each for each in known if each in parts), "")
        self._exact = "exact" in parts
        self._names = names

    def whole(self, services: Iterable[Listed], version: str, size: int) -> Iterator[str]:
        """Every service. ``size``: hash buckets of the kernel's connections."""
        yield f"IP Virtual Server version {version} (size={size})"
        by_key = {each.state.key: each for each in services}
        yield from self.title()
        for state in rules.services_in_order([each.state for each in by_key.values()]):
            yield from self.service(by_key[state.key])

    def title(self) -> list[str]:
        match self._kind:
            case "stats" | "rate":
                columns = _COUNTED if self._kind == "stats" else _RATED
                first = f"{_LOCAL:<33}" + "".join(f" {each:>8}" for each in columns)
                return [first, _REMOTE]
            case "thresholds":
                limits = ("Uthreshold", "Lthreshold", "ActiveConn", "InActConn")
                return [f"{_LOCAL:<33}" + "".join(f" {each:<10}" for each in limits), _REMOTE]
            case "persistent-conn":
                rest = f"{'Weight':<9} {'PersistConn':<11} {'ActiveConn':<10} {'InActConn':<10}"
                return [f"{_LOCAL:<33} {rest}", _REMOTE]
        tunnel = "TunnelInfo    " if self._kind == "tun-info" else ""
        second = f"{_REMOTE}           Forward {tunnel}Weight ActiveConn InActConn"
        return [f"{_LOCAL} Scheduler Flags", second]

    def service(self, listed: Listed) -> Iterator[str]:
        """One service and its servers."""
        state, stats = listed
        name = self._name(state)
        if self._kind in ("stats", "rate"):
            counters = _NO_COUNTERS if stats is None else stats.counters
            yield f"{name:<33}{self._numbers(counters)}"
        else:
            yield f"{name} {_settings(state)}"
        by_server = {each.server: each for each in stats.servers} if stats is not None else {}
        for server in rules.in_order(state):
            place = rules.place(server.address, server.port, state.key, self._names)
            if server.address.version == 4:
                place = place[:28]
            found = by_server.get(endpoint(server.address, server.port))
            yield f"  -> {place:<28}{self._server(server, found or _nothing(server))}"

    def _name(self, state: ServiceState) -> str:
        key = state.key
        if not isinstance(key, AddressKey):
            family = " IPv6" if key.family is Family.IPV6 else ""
            return f"FWM  {rules.signed(key.fwmark)}{family}"
        place = rules.place(key.address, key.port, key, self._names)
        name = f"{key.protocol.upper():<4} {place}"
        return name if key.family is Family.IPV6 else name[:33]

    def _server(self, server: RealServer, stats: ServerStatsView) -> str:
        connections = f"{stats.active:<10} {stats.inactive:<10}"
        match self._kind:
            case "stats":
                return self._numbers(stats.counters)
            case "rate":
                return self._server_rates(stats.counters)
            case "thresholds":
                limits = f"{server.upper_threshold:<10} {server.lower_threshold:<10}"
                return f" {limits} {connections}"
            case "persistent-conn":
                return f" {server.weight:<9} {stats.persistent:<11} {connections}"
        tunnel = f" {_tunnel(server):<13}" if self._kind == "tun-info" else ""
        return f" {_METHODS[server.forwarding]:<7}{tunnel} {server.weight:<6} {connections}"

    def _numbers(self, counters: CountersView) -> str:
        if self._kind == "stats":
            values = [
                counters.connections,
                counters.packets_in,
                counters.packets_out,
                counters.bytes_in,
                counters.bytes_out,
            ]
        else:
            values = [*_packet_rates(counters), counters.bytes_in_rate, counters.bytes_out_rate]
        return "".join(map(self._large, values))

    def _server_rates(self, counters: CountersView) -> str:
        """Packets are never rounded here, for no reason that can be seen."""
        packets = "".join(f" {each:>8}" for each in _packet_rates(counters))
        return packets + self._large(counters.bytes_in_rate) + self._large(counters.bytes_out_rate)

    def _large(self, number: int) -> str:
        if self._exact:
            return f" {number:>8}"
        for limit, unit, letter in _STEPS:
            if number < limit:
                return f"{number // unit:>8}{letter}" if letter else f"{number:>9}"
        return f"{number // 10**12:>8}T"


def _packet_rates(counters: CountersView) -> list[int]:
    return [counters.connections_rate, counters.packets_in_rate, counters.packets_out_rate]


def _settings(state: ServiceState) -> str:
    service = state.service
    words = str(service.scheduler)
    if service.flags:
        words += f" ({rules.flags(state)})"
    if service.persistence is not None:
        words += f" persistent {service.persistence.timeout}"
        words += rules.netmask(service.persistence, " mask ", state)
        if service.persistence.engine is not None:
            words += f" pe {service.persistence.engine}"
    return words + (" ops" if service.one_packet else "")


def _tunnel(server: RealServer) -> str:
    tunnel = server.tunnel
    if tunnel is None:
        return "n/a"
    checksum = "+c" if tunnel.checksum else "-c"
    match tunnel.type:
        case TunnelType.GUE:
            return f"gue:{tunnel.port}:{checksum}"
        case TunnelType.GRE:
            return f"gre:{checksum}"
    return "ipip"


def _nothing(server: RealServer) -> ServerStatsView:
    where = endpoint(server.address, server.port)
    return ServerStatsView(where, server.weight, 0, 0, 0, _NO_COUNTERS)
