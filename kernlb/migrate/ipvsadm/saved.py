"""Text of ``ipvsadm-save`` to service documents; every line that says more is named.

Lines are commands of ipvsadm, with or without the word ipvsadm in front, as ``ipvsadm -R`` takes
them. Those that make services and servers are carried over; what cannot be is a loss with its line.
"""

from __future__ import annotations

from dataclasses import replace

from kernlb.config.errors import Path
from kernlb.migrate.ipvsadm.document import document_of
from kernlb.migrate.ipvsadm.grammar import RefusedError, Verb
from kernlb.migrate.ipvsadm.names import Names
from kernlb.migrate.ipvsadm.options import Command, parse
from kernlb.migrate.report import Place, Report, Translated, default_name
from kernlb.model import (
    AddressKey,
    Forwarding,
    RealServer,
    ServerKey,
    ServiceKey,
    ServiceState,
    VirtualService,
)

_ELSEWHERE = {
    Verb.SET: "kernlb.yaml says it: ipvs.timeouts",
    Verb.START_DAEMON: "kernlb.yaml says it: ipvs.sync",
    Verb.STOP_DAEMON: "kernlb.yaml says it: ipvs.sync",
}


class _Service:
    """A service on its way to a document."""

    def __init__(self, service: VirtualService, line: int) -> None:
        self.service = service
        self.line = line
        self.servers: dict[ServerKey, tuple[RealServer, int]] = {}


def split(line: str) -> list[str]:
    """The words of a line. ipvsadm knows no quotes, and leaves out its own name."""
    return [word for word in line.split() if word != "ipvsadm"]


def read_saved(text: str, source: str, names: Names) -> Report:
    """Documents of everything that the text says, in its order. The documents are not yet held
    against ``config`` (``migrate.settle``)."""
    return _Reader(source, names).read(text)


class _Reader:
    def __init__(self, source: str, names: Names) -> None:
        self._source = source
        self._names = names
        self._report = Report()
        self._services: dict[ServiceKey, _Service] = {}

    def read(self, text: str) -> Report:
        for number, line in enumerate(text.splitlines(), 1):
            words = split(line)
            if not words or words[0].startswith("#"):
                continue
            place = Place(self._source, number)
            try:
                command = parse(words, self._names, saved=True)
                self._carry(command, line, place)
            except RefusedError as error:
                self._report.lost(line, str(error), place)
        for service in self._services.values():
            self._finish(service)
        return self._report

    def _carry(self, command: Command, line: str, place: Place) -> None:
        if command.service is not None and command.verb is Verb.ADD_SERVICE:
            if command.service.key in self._services:
                first = self._services[command.service.key].line
                raise RefusedError(f"line {first} adds this service already")
            self._services[command.service.key] = _Service(command.service, place.line)
        elif command.server is not None and command.verb is Verb.ADD_SERVER:
            assert command.key is not None
            self._add_server(command.key, command.server, line, place)
        else:
            why = _ELSEWHERE.get(command.verb, "only -A and -a say what a service is")
            raise RefusedError(why)

    def _add_server(self, key: ServiceKey, server: RealServer, line: str, place: Place) -> None:
        service = self._services.get(key)
        if service is None:
            raise RefusedError(f"no line above adds service {key}")
        if server.key in service.servers:
            first = service.servers[server.key][1]
            raise RefusedError(f"line {first} adds this server already")
        if server.port and _keeps_ports(service.service, server):
            fresh = replace(server, port=0)
            if fresh.key in service.servers:
                raise RefusedError("this server is there already: its port means nothing")
            why = f"without port {server.port}: packets keep the port that clients sent to"
            self._report.changed(line, why, place)
            server = fresh
        service.servers[server.key] = server, place.line

    def _finish(self, service: _Service) -> None:
        servers = [server for server, _ in service.servers.values()]
        document = document_of(ServiceState(service.service, tuple(servers)))
        places: dict[Path, Place] = {
            ("servers", index): Place(self._source, line)
            for index, (_, line) in enumerate(service.servers.values())
        }
        name = self._report.name(default_name(document))
        place = Place(self._source, service.line)
        self._report.add(Translated(name, document, place, places))


def _keeps_ports(service: VirtualService, server: RealServer) -> bool:
    """Does the kernel leave a server's port alone, whatever it is?

    (ip_vs_core.c, ip_vs_sched_persist(): of a persistent service only its own port counts.)"""
    key = service.key
    any_port = not isinstance(key, AddressKey) or key.port == 0
    return any_port and (server.forwarding is not Forwarding.NAT or service.persistence is not None)
