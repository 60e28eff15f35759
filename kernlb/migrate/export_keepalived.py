"""Declarations to a keepalived.conf; what keepalived has no word for is named there and told.

What is written, ``kernlb import keepalived`` reads back to an equal service. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernlb.declaration import Declaration
from kernlb.health.check import Damping, HealthPolicy, Initial, OnDown, WhenAllDown
from kernlb.migrate.export_keepalived_checks import checkers
from kernlb.migrate.export_text import Text, quoted
from kernlb.migrate.report import Place, Report, Written
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    Forwarding,
    Persistence,
    RealServer,
    Tunnel,
    VirtualService,
)

_METHODS = {Forwarding.NAT: "NAT", Forwarding.DSR: "DR", Forwarding.TUNNEL: "TUN"}
_HEAD = "! written by kernlb export keepalived"


def write_keepalived(declarations: Mapping[str, Declaration]) -> Written:
    """The services in the order of their names."""
    report = Report()
    text = Text()
    text.line(_HEAD)
    for name in sorted(declarations):
        _Service(declarations[name], text, report).write()
    return Written(text.finished(), report.losses)


class _Service:
    def __init__(self, declaration: Declaration, text: Text, report: Report) -> None:
        self._declaration = declaration
        self._service = declaration.service
        self._text = text
        self._report = report
        self._place = Place(declaration.source)

    def lost(self, what: str, why: str) -> None:
        self._report.lost(what, why, self._place, self._declaration.name)
        self._text.line(f"# lost: {what}: {why}")

    def changed(self, what: str, why: str) -> None:
        self._report.changed(what, why, self._place, self._declaration.name)
        self._text.line(f"# changed: {what}: {why}")

    def write(self) -> None:
        declaration = self._declaration
        self._text.line("")
        self._text.line(f"# service {declaration.name}")
        servers = [each for each in declaration.servers if self._goes(each)]
        if not servers:
            self.lost("the service", "keepalived takes no virtual server without real servers")
            return
        self._tell_lost()
        with self._text.block(f"virtual_server {_key(self._service)}"):
            self._write_service()
            self._write_policy(servers)
            self._write_sorry()
            for server in servers:
                self._write_server(server)

    def _goes(self, server: RealServer) -> bool:
        if server.forwarding is Forwarding.FULLNAT:
            self.lost(f"server {server.key}", "IPVS has no forwarding fullnat")
            return False
        return True

    def _tell_lost(self) -> None:
        declaration = self._declaration
        if declaration.datapath is not DatapathKind.IPVS:
            self.changed("datapath xdp", "keepalived programs IPVS")
        if declaration.vip is not None:
            interface = declaration.vip.interface
            self.lost("vip", f"a vrrp_instance on {interface} can hold {declaration.address}")
        if declaration.drain_timeout is not None:
            self.lost("drain_timeout", "keepalived drains no servers")
        for key in sorted(declaration.labels):
            if key != "snmp-name":
                self.lost(f"labels.{key}", "keepalived has no labels")

    def _write_service(self) -> None:
        service = self._service
        line = self._text.line
        if isinstance(service.key, AddressKey):
            line(f"protocol {service.key.protocol.value.upper()}")
        else:
            line(f"ip_family {'inet6' if service.family is Family.IPV6 else 'inet'}")
        line(f"lvs_sched {service.scheduler.value}")
        for flag in sorted(service.flags):
            line(flag.value)
        if service.one_packet:
            line("ops")
        if service.persistence is not None:
            self._write_persistence(service.persistence, service.family)
        if name := self._declaration.labels.get("snmp-name"):
            self._name(name)

    def _write_persistence(self, persistence: Persistence, family: Family) -> None:
        self._text.line(f"persistence_timeout {persistence.timeout}")
        if persistence.prefix != family.max_prefix:
            mask = str(persistence.prefix)
            if family is Family.IPV4:
                value = (0xFFFFFFFF << (32 - persistence.prefix)) & 0xFFFFFFFF
                mask = ".".join(str(value >> shift & 0xFF) for shift in (24, 16, 8, 0))
            self._text.line(f"persistence_granularity {mask}")
        if persistence.engine is not None:
            self._text.line(f"persistence_engine {persistence.engine}")

    def _name(self, name: str) -> None:
        if (said := quoted(name)) is None:
            self.lost("labels.snmp-name", "has a quote, which keepalived cannot read")
        else:
            self._text.line(f"snmp_name {said}")

    def _write_policy(self, servers: list[RealServer]) -> None:
        policy = self._declaration.health
        if policy.initial is Initial.WAIT:
            self._text.line("alpha")
        if policy.on_down is OnDown.INHIBIT:
            self._text.line("inhibit_on_failure")
        self._write_quorum(policy, sum(server.weight for server in servers))
        if policy.withdraw_vip:
            self.lost("health.withdraw_vip", "a script of quorum_down can do so")
        if policy.keep:
            self.lost("health.keep", "keepalived takes every bad server out")
        if policy.when_all_down is WhenAllDown.FAIL_OPEN:
            self.lost("health.when_all_down", "keepalived takes every bad server out")
        if policy.damping != Damping(changes=0):
            self.lost("health.damping", "keepalived holds no flapping server down")
        if policy.passive:
            self.lost("health.passive", "IPVS does not tell what it sees of servers")

    def _write_quorum(self, policy: HealthPolicy, total: int) -> None:
        """kernlb loses the quorum below ``quorum`` and has it again at ``quorum + hysteresis``;
        keepalived's two bounds are as far from its quorum as its hysteresis says."""
        half = (policy.hysteresis + 1) // 2
        quorum = policy.quorum + half
        if half and (policy.hysteresis % 2 or quorum + half > max(total, 1)):
            self.changed("health.hysteresis", "is the same on both sides of keepalived's quorum")
        if quorum != 1:
            self._text.line(f"quorum {quorum}")
        if half:
            self._text.line(f"hysteresis {half}")

    def _write_sorry(self) -> None:
        sorry = self._declaration.sorry_servers
        for other in sorry[1:]:
            self.lost(f"sorry_server {other.key}", "keepalived has one sorry server")
        if not sorry:
            return
        first = sorry[0]
        if first.forwarding is Forwarding.FULLNAT:
            self.lost(f"sorry_server {first.key}", "IPVS has no forwarding fullnat")
            return
        self._text.line(f"sorry_server {self._where(first)}")
        self._text.line(f"sorry_server_lvs_method {_method(first)}")
        if first.weight != 1:
            self.lost("sorry_server.weight", "keepalived's sorry server weighs 1")
        if first.upper_threshold or first.lower_threshold:
            self.lost("sorry_server.upper_threshold", "keepalived's sorry server has none")
        self._tell_labels(first, "sorry_server.labels", ())

    def _write_server(self, server: RealServer) -> None:
        with self._text.block(f"real_server {self._where(server)}"):
            line = self._text.line
            line(f"weight {server.weight}")
            line(f"lvs_method {_method(server)}")
            if server.upper_threshold:
                line(f"uthreshold {server.upper_threshold}")
            if server.lower_threshold:
                line(f"lthreshold {server.lower_threshold}")
            labels = self._declaration.server_labels.get(server.key, {})
            if name := labels.get("snmp-name"):
                self._name(name)
            self._tell_labels(server, f"labels of {server.key}", ("snmp-name",))
            watch = self._declaration.watches.get(server.key)
            if watch is not None:
                checkers(watch, self._text, self.lost, self.changed)

    def _tell_labels(self, server: RealServer, what: str, kept: tuple[str, ...]) -> None:
        labels = self._declaration.server_labels.get(server.key, {})
        if any(key not in kept for key in labels):
            self.lost(what, "keepalived has no labels")

    def _where(self, server: RealServer) -> str:
        return f"{server.address} {server.port}" if server.port else str(server.address)


def _key(service: VirtualService) -> str:
    key = service.key
    if isinstance(key, AddressKey):
        return f"{key.address} {key.port}" if key.port else str(key.address)
    return f"fwmark {key.fwmark}"


def _method(server: RealServer) -> str:
    method = _METHODS[server.forwarding]
    tunnel = server.tunnel
    if tunnel is None or tunnel == Tunnel():
        return method
    words = [method, "type", tunnel.type.value]
    if tunnel.port:
        words += ["port", str(tunnel.port)]
    if tunnel.checksum:
        words.append("csum")
    return " ".join(words)
