"""Commands of ipvsadm that write, as calls of the daemon: services become documents.

A restore of many lines is one call where it can be: services that are not there yet are gathered,
and their servers with them. If the daemon declines that call, the lines are tried one by one, so
that the good ones count, as with ``ipvsadm -R``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kernlb.cli.render import problem_text
from kernlb.control.client import Client, ControlError
from kernlb.control.protocol import Documents, ServiceSummary
from kernlb.migrate.ipvsadm.document import server_patch, service_patch
from kernlb.migrate.ipvsadm.grammar import FAILED, RefusedError, Verb
from kernlb.migrate.ipvsadm.making import LABEL, added_server, new_document

if TYPE_CHECKING:
    from kernlb.migrate.ipvsadm.options import Command
    from kernlb.model import RealServer, ServerKey, ServiceKey, VirtualService

    Numbered = tuple[int, Command]

AT_ONCE = 20_000  # services and servers in one call, so that its body stays small
IPVS = "ipvs"
ADOPT = "kernlb import ipvsadm --live --apply --adopt takes it over"


class _Pending:
    """A service of a restore that the daemon does not know yet."""

    def __init__(self, service: VirtualService, first: Numbered) -> None:
        self.service = service
        self.servers: dict[ServerKey, RealServer] = {}
        self.lines = [first]


class Table:
    """The services of datapath ipvs that kernlb has, to be changed."""

    def __init__(self, client: Client) -> None:
        self.errors: list[tuple[int, str]] = []  # of a restore: line, sentence
        self._client = client
        self._known: dict[str, tuple[str, dict[str, str]]] = {}  # name and labels by key
        self._names: set[str] = set()
        self._others: list[ServiceSummary] = []  # not kernlb's, or not of IPVS
        self._pending: dict[ServiceKey, _Pending] = {}
        for each in client.services():
            if each.name:
                self._names.add(each.name)
            if each.name and each.key and each.datapath == IPVS:
                self._known[each.key] = each.name, each.labels
            elif each.key:
                self._others.append(each)

    def run(self, command: Command) -> None:
        """Carry out one command. Raises RefusedError and ControlError."""
        match command.verb:
            case Verb.ADD_SERVICE:
                self._add_service(command)
            case Verb.EDIT_SERVICE:
                assert command.service is not None
                name = self._name(command)
                self._client.edit_service(name, service_patch(command.service))
            case Verb.DELETE_SERVICE:
                self._client.remove_service(self._name(command))
                del self._known[str(command.key)]
            case Verb.ADD_SERVER:
                assert command.server is not None
                name, key = self._name(command), self._key(command)
                server = added_server(key, command.server, self._known[str(key)][1])
                self._client.add_server(name, server)
            case Verb.EDIT_SERVER:
                assert command.server is not None
                patch = server_patch(command.server)
                self._client.edit_server(self._name(command), str(command.server.key), patch)
            case Verb.DELETE_SERVER:
                self._client.remove_server(self._name(command), str(command.target))
            case Verb.CLEAR:
                self._clear()
            case _:
                raise RefusedError(f"--{command.verb} changes no service")

    def left(self) -> list[str]:
        """Services that a clear does not touch."""
        return [f"{each.key} ({each.datapath}, {each.state})" for each in self._others]

    # -- many

    def restore(self, commands: Iterable[Numbered]) -> None:
        """Carry out lines in order; what was declined is in ``errors``."""
        for number, command in commands:
            if self._gathered(number, command):
                continue
            if command.key is None or command.key in self._pending:
                self._flush()
            self._try(number, command)
        self._flush()

    def _gathered(self, number: int, command: Command) -> bool:
        """Was it of a service that is not there yet, and so put aside?"""
        if command.key is None or str(command.key) in self._known:
            return False
        pending = self._pending.get(command.key)
        if pending is None:
            if command.service is None or command.verb is not Verb.ADD_SERVICE:
                return False
            self._pending[command.key] = _Pending(command.service, (number, command))
            return True
        server = command.server
        if server is None or command.verb is not Verb.ADD_SERVER or server.key in pending.servers:
            return False
        pending.servers[server.key] = server
        pending.lines.append((number, command))
        return True

    def _flush(self) -> None:
        waiting, self._pending = list(self._pending.values()), {}
        batch: list[_Pending] = []
        for pending in waiting:
            batch.append(pending)
            if sum(1 + len(each.servers) for each in batch) >= AT_ONCE:
                self._send(batch)
                batch = []
        if batch:
            self._send(batch)

    def _send(self, batch: list[_Pending]) -> None:
        before = set(self._names)
        try:
            self._make([(each.service, list(each.servers.values())) for each in batch])
        except ControlError as error:
            self._names = before
            if len(batch) == 1 and not batch[0].servers:
                self.errors.append((batch[0].lines[0][0], "; ".join(problem_text(error.problem))))
                return
            for pending in batch:
                for number, command in pending.lines:
                    self._try(number, command)

    def _try(self, number: int, command: Command) -> None:
        try:
            self.run(command)
        except RefusedError as error:
            self.errors.append((number, str(error)))
        except ControlError as error:
            self.errors.append((number, "; ".join(problem_text(error.problem))))

    # -- one

    def _add_service(self, command: Command) -> None:
        assert command.service is not None
        key = self._key(command)
        if str(key) in self._known:
            raise _refused(f"cannot add service {key}: it exists")
        if self._is_foreign(key):
            raise _refused(f"cannot add service {key}: the kernel has it, not by kernlb: {ADOPT}")
        self._make([(command.service, [])])

    def _make(self, services: list[tuple[VirtualService, list[RealServer]]]) -> None:
        """New documents, all or none."""
        texts, made = {}, {}
        for service, servers in services:
            wanted, text = new_document(service, servers)
            name = self._free_name(wanted)
            texts[name] = text
            made[str(service.key)] = name, dict(LABEL)
        self._client.apply(Documents(texts))
        self._known |= made

    def _free_name(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted[:58]}-{number}"
        self._names.add(name)
        return name

    def _clear(self) -> None:
        for key, (name, _) in list(self._known.items()):
            self._client.remove_service(name)
            del self._known[key]

    def _key(self, command: Command) -> ServiceKey:
        assert command.key is not None  # the grammar asks for one
        return command.key

    def _name(self, command: Command) -> str:
        key = self._key(command)
        if str(key) in self._known:
            return self._known[str(key)][0]
        if self._is_foreign(key):
            raise _refused(f"cannot change service {key}: it is not kernlb's: {ADOPT}")
        raise _refused(f"there is no service {key}")

    def _is_foreign(self, key: ServiceKey) -> bool:
        return any(not each.name and each.key == str(key) for each in self._others)


def _refused(why: str) -> RefusedError:
    return RefusedError(why, FAILED, fatal=False)
