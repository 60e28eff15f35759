"""The service documents: on disk, as texts that somebody proposes, and in force.

Every proposal is a set of new texts by service name, None to remove one. It is parsed and
checked whole, beside the documents in force, before any of it is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kernlb.config import Fault, Index, located, parse_service, validate_set
from kernlb.config.errors import ConfigError, shown
from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import DocumentView, ProblemKind
from kernlb.daemon.desired import Declarations
from kernlb.daemon.views import fault_view
from kernlb.declaration import Declaration
from kernlb.model import DatapathKind
from kernlb.store import Store

Texts = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class FromDisk:
    """The files. ``held``: names whose file is bad and has no good version in force.

    ``complete`` False: the directory itself could not be read, so what is missing means nothing.
    """

    declarations: Declarations
    held: frozenset[str]
    faults: tuple[Fault, ...]
    complete: bool = True


class Documents:
    """Reads, tries and writes documents; knows nothing of the kernel."""

    def __init__(self, store: Store, datapaths: Iterable[DatapathKind]) -> None:
        self._store = store
        self._index = Index()
        self._datapaths = frozenset(datapaths)

    def exists(self, name: str) -> bool:
        """True if the service has a file, good or bad."""
        return os.path.lexists(self._path(name))

    def text(self, name: str) -> str:
        """The text of a document. Raises RequestRefusedError if there is none."""
        try:
            return self._store.read_text(name)
        except FileNotFoundError:
            raise absent(name) from None
        except ConfigError as error:
            raise invalid(f"cannot read the document of {name}", error.faults) from error

    def view(self, name: str, in_force: Declaration | None) -> DocumentView:
        """A document as plain values. Raises RequestRefusedError if there is none, or if it
        cannot be read as a mapping."""
        from kernlb.config.syntax import read_values

        source, content = self.source(name), self.text(name).encode()
        try:
            values = read_values(content, source)
            if not isinstance(values, dict):
                raise ConfigError(Fault("is not a mapping of keys to values", source))
        except ConfigError as error:
            raise invalid(f"cannot read the document of {name}", error.faults) from error
        try:
            defaults = self._store.defaults
            written = parse_service(content, name=name, source=source, defaults=defaults)
        except ConfigError:
            return DocumentView(values, in_force=False)
        return DocumentView(values, in_force=written == in_force)

    def propose(self, in_force: Declarations, texts: Texts) -> Declarations:
        """What would be in force with ``texts``. Raises RequestRefusedError with every fault."""
        index = self._index_of(in_force)
        wanted = dict(in_force)
        faults: list[Fault] = []
        for name in [name for name, text in texts.items() if text is None]:
            wanted.pop(name, None)
            index.discard(name)
        for name, text in texts.items():
            if text is None:
                continue
            source = str(self._path(name))
            content = text.encode(errors="surrogatepass")
            try:
                declaration = parse_service(
                    content, name=name, source=source, defaults=self._store.defaults
                )
            except ConfigError as error:
                faults += error.faults
                continue
            wrong = [*self._unavailable([declaration]), *index.faults(declaration)]
            faults += [located(fault, content) for fault in wrong]
            wanted[name] = declaration
            index.put(declaration)
        if faults:
            raise invalid(f"cannot change {names_of(texts)}", faults)
        return wanted

    def _index_of(self, in_force: Declarations) -> Index:
        """The index of what is in force: kept from one proposal to the next, and brought up to
        date where the two differ."""
        index = self._index
        known = index.declarations
        for name in [name for name in known if name not in in_force]:
            index.discard(name)
        for name, declaration in in_force.items():
            if known.get(name) is not declaration:
                index.put(declaration)
        return index

    def load(self, in_force: Declarations) -> FromDisk:
        """The files as they are; for a bad one its version in force, if there is one."""
        directory = self._store.directory
        try:
            if not directory.is_dir():
                raise ConfigError(Fault("there is no such directory", str(directory)))
            loaded = self._store.load()
        except ConfigError as error:
            return FromDisk(in_force, frozenset(), error.faults, complete=False)
        bad = {name: list(faults) for name, faults in loaded.faults.items()}
        for declaration in loaded.declarations.values():
            if unavailable := self._unavailable([declaration]):
                bad.setdefault(declaration.name, []).extend(unavailable)
        wanted = _without_conflicts(loaded.declarations, in_force, bad)
        held = frozenset(name for name in bad if name not in in_force)
        return FromDisk(wanted, held, tuple(fault for each in bad.values() for fault in each))

    def write(self, texts: Texts) -> Texts:
        """Write and remove documents, all or none; what was there before."""
        before = {name: self.text(name) if self.exists(name) else None for name in texts}
        try:
            self._put(texts)
        except OSError as error:
            with suppress(OSError):
                self._put(before)
            raise RequestRefusedError(
                ProblemKind.REFUSED, f"cannot write the document of {names_of(texts)}: {error}"
            ) from error
        return before

    def _put(self, texts: Texts) -> None:
        for name, text in texts.items():
            if text is None:
                self._store.remove(name)
            else:
                self._store.write(name, text)

    def source(self, name: str) -> str:
        """The file of a document, there or not, as faults name it."""
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        try:
            return self._store.path(name)
        except ConfigError as error:
            raise invalid(f"cannot use service name {shown(name)}", error.faults) from error

    def _unavailable(self, declarations: Iterable[Declaration]) -> list[Fault]:
        return [
            Fault(
                f"datapath {each.datapath} is not available on this host "
                f"(available: {', '.join(sorted(self._datapaths)) or 'none'})",
                each.source,
                key="datapath",
            )
            for each in declarations
            if each.datapath not in self._datapaths
        ]


def _without_conflicts(
    loaded: Declarations, in_force: Declarations, bad: dict[str, list[Fault]]
) -> Declarations:
    """What may be in force side by side: of each name the loaded version, or the one in force
    where that is ``bad``. What is in force has precedence; who quarrels with it turns bad."""
    while True:
        wanted = {name: each for name, each in loaded.items() if name not in bad}
        wanted |= {name: in_force[name] for name in bad if name in in_force}
        order = sorted(wanted.values(), key=lambda each: _newness(each, in_force))
        names = {each.source: each.name for each in order}
        faults = [each for each in validate_set(order) if names[each.file] not in bad]
        if not faults:  # reached, for every other round turns one more of the loaded bad
            return {each.name: each for each in order}
        for fault in faults:
            bad.setdefault(names[fault.file], []).append(fault)


def _newness(declaration: Declaration, in_force: Declarations) -> int:
    """0: in force, 1: another version is, 2: of a new name."""
    before = in_force.get(declaration.name)
    return 2 if before is None else int(before != declaration)


def absent(name: str) -> RequestRefusedError:
    return RequestRefusedError(ProblemKind.NOT_FOUND, f"there is no service {name}")


def invalid(title: str, faults: Iterable[Fault]) -> RequestRefusedError:
    views = [fault_view(fault) for fault in faults]
    return RequestRefusedError(ProblemKind.INVALID_DOCUMENT, title, views)


def names_of(texts: Iterable[str]) -> str:
    """``service web``, ``services db, web`` or ``12 services``."""
    names = sorted(texts)
    if len(names) == 1:
        return f"service {names[0]}"
    return f"services {', '.join(names)}" if len(names) <= 4 else f"{len(names)} services"
