"""New documents for services that a command of ipvsadm adds: named, labelled, a note on top."""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.config.edit import render
from kernlb.migrate.ipvsadm import rules
from kernlb.migrate.ipvsadm.document import document_of, new_server, server_document
from kernlb.migrate.ipvsadm.names import Numbers
from kernlb.migrate.report import Document, default_name
from kernlb.model import AddressKey, RealServer, ServiceKey, ServiceState, VirtualService

LABEL = {"made-by": "ipvsadm"}


def new_document(service: VirtualService, servers: Sequence[RealServer]) -> tuple[str, str]:
    """The name that the service would best have, and its text."""
    state = ServiceState(service, tuple(servers))
    document = document_of(state)
    document |= {"labels": LABEL, "servers": document.pop("servers")}
    line = next(rules.lines(state, Numbers(), restorable=True))
    return default_name(document), f"# made by: kernlb ipvsadm {line}\n{render(document)}"


def added_server(key: ServiceKey, server: RealServer, labels: dict[str, str]) -> Document:
    """A server for a service of these labels. In a document of another make there may be things to
    inherit, so all is said there."""
    port = key.port if isinstance(key, AddressKey) else 0
    own = labels.items() >= LABEL.items()
    return server_document(server, port) if own else new_server(server, port)
