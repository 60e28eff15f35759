"""keepalived.conf to service documents.

``lines`` reads the text as keepalived does, ``tree`` makes directives of it, ``virtual``, ``real``
and ``checkers`` read those of virtual servers, ``services`` makes documents, ``elsewhere`` tells
what is not carried over, and ``ledger`` sees to it that every directive is one or the other.
What keepalived 2.2.7 makes of a configuration is what counts, defaults and leniencies included.
"""

from __future__ import annotations

from kernlb.migrate.keepalived.elsewhere import Elsewhere, point_out
from kernlb.migrate.keepalived.files import Disk, Files
from kernlb.migrate.keepalived.keys import Group, Key, read_group, read_key
from kernlb.migrate.keepalived.ledger import Ledger
from kernlb.migrate.keepalived.lines import Lines
from kernlb.migrate.keepalived.services import documents
from kernlb.migrate.keepalived.tree import Directive, read_tree
from kernlb.migrate.keepalived.virtual import read_virtual
from kernlb.migrate.report import MigrationError, Place, Report
from kernlb.migrate.settle import mark_local, settle

MAX_SERVICES = 16_384


def read_keepalived(path: str, files: Files | None = None, config_id: str = "") -> Report:
    """The services of a configuration and what is lost. ``config_id`` as keepalived's -i.

    Raises MigrationError if it cannot be read at all."""
    report, _ = translate(path, files, config_id)
    mark_local(report)
    settle(report)
    return report


def translate(
    path: str, files: Files | None = None, config_id: str = ""
) -> tuple[Report, tuple[Ledger, list[Directive]]]:
    """The same before documents are held against ``config``, with the account of directives."""
    report = Report()
    try:
        lines = Lines(files or Disk(), config_id, report)
        tree = read_tree(lines.read(path), report)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise MigrationError(why, Place(path)) from None
    ledger = Ledger(report)
    _Top(ledger).read(tree)
    ledger.close(tree)
    return report, (ledger, tree)


class _Top:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._groups: dict[str, Group] = {}
        self._grouped: set[str] = set()

    def read(self, tree: list[Directive]) -> None:
        elsewhere = Elsewhere(self._ledger)
        for directive in tree:
            if directive.name == "virtual_server_group":
                group = read_group(directive, self._ledger)
                if group is not None:
                    self._groups.setdefault(group.name, group)
        for directive in tree:
            if directive.name == "virtual_server":
                self._service(directive)
            elif directive.name != "virtual_server_group":
                elsewhere.read(directive)
        for name, group in self._groups.items():
            if name not in self._grouped:
                self._ledger.report.lost(
                    group.by.text, "no virtual_server uses this group", group.by.place
                )
        point_out(self._ledger.report, elsewhere.vips)

    def _service(self, directive: Directive) -> None:
        name = ""
        try:
            if directive.args[:1] == ("group",):
                name, keys = self._group(directive)
            else:
                keys = (read_key(directive),)
        except ValueError as error:
            self._ledger.lost(directive, f"{error}: keepalived ignores it")
            return
        count = len(self._ledger.report.services) + len(keys)
        if count > MAX_SERVICES:
            raise MigrationError(f"comes to more than {MAX_SERVICES} services", directive.place)
        self._ledger.use(directive, 2)
        virtual = read_virtual(directive, self._ledger, 0 if name else keys[0].family)
        documents(virtual, keys, name, self._ledger)

    def _group(self, directive: Directive) -> tuple[str, tuple[Key, ...]]:
        name = directive.args[1] if len(directive.args) > 1 else ""
        if name not in self._groups:
            raise ValueError(f'there is no virtual_server_group "{name}"')
        self._grouped.add(name)
        return name, self._groups[name].keys
