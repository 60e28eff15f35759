"""What operators may ask for: edits of documents, holds on servers, adoption.

One request at a time. A request is tried whole before any of it is done: parsed, checked,
planned; then written to the files and carried out. If the kernel refuses, the files and the
kernel go back to what they were. A dry run stops at the plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from kernlb.config import Fault
from kernlb.config.errors import ConfigError
from kernlb.control.problem import RequestRefusedError
from kernlb.control.protocol import Change, DocumentView, ProblemKind
from kernlb.daemon.desired import Declarations
from kernlb.daemon.documents import Documents, FromDisk, Texts, invalid, names_of
from kernlb.daemon.loop import Reconciler
from kernlb.daemon.outcome import Outcome
from kernlb.daemon.views import change_view
from kernlb.declaration import Declaration
from kernlb.intent import Admin, AdminMode
from kernlb.model import IPAddress, ServerKey, parse_endpoint

_VERBS = {AdminMode.DRAINING: "drain", AdminMode.DISABLED: "disable", None: "enable"}


class Changes:
    """Carries out requests. ``faults`` are those of the files as last read from disk."""

    def __init__(
        self,
        documents: Documents,
        reconciler: Reconciler,
        clock: Callable[[], float],
        holds_changed: Callable[[], None],
        reread_settings: Callable[[], None],
    ) -> None:
        self.faults: tuple[Fault, ...] = ()
        self._documents = documents
        self._reconciler = reconciler
        self._clock = clock
        self._holds_changed = holds_changed
        self._reread_settings = reread_settings
        self._lock = asyncio.Lock()

    def source(self, name: str) -> str:
        """The file of a service, as faults name it."""
        return self._documents.source(name)

    # -- documents

    def document(self, name: str) -> DocumentView:
        """The document as it is written, and whether it is what is in force. From disk."""
        return self._documents.view(name, self._reconciler.desired.declarations.get(name))

    async def put(
        self,
        name: str,
        document: Mapping[str, Any],
        *,
        replace: bool,
        adopt: bool,
        dry_run: bool,
    ) -> Change:
        """A new document; refuses to overwrite one unless ``replace``. With ``adopt``, a
        service that is in the kernel already and not kernlb's is taken over."""
        from kernlb.config import edit

        async with self._lock:
            if not replace and self._documents.exists(name):
                raise RequestRefusedError(
                    ProblemKind.EXISTS,
                    f"cannot add service {name}: it exists (edit it, or remove it first)",
                )
            return await self._edit({name: edit.render(dict(document))}, dry_run, adopt)

    async def patch(self, name: str, patch: Mapping[str, Any], *, dry_run: bool) -> Change:
        """Change keys of a document (RFC 7386); its comments and order stay."""
        from kernlb.config import edit

        return await self._rewrite(name, lambda text: edit.merge(text, dict(patch)), dry_run)

    async def delete(self, name: str, *, dry_run: bool) -> Change:
        """Remove a document, and its service from the kernel."""
        async with self._lock:
            if not self._documents.exists(name):
                raise RequestRefusedError(ProblemKind.NOT_FOUND, f"there is no service {name}")
            return await self._edit({name: None}, dry_run)

    async def add_server(self, name: str, server: Mapping[str, Any], *, dry_run: bool) -> Change:
        from kernlb.config import edit

        return await self._rewrite(name, lambda text: edit.add_server(text, dict(server)), dry_run)

    async def edit_server(
        self, name: str, server: str, patch: Mapping[str, Any], *, dry_run: bool
    ) -> Change:
        from kernlb.config import edit

        declaration = self._declaration(name)
        service, key = declaration.service.key, self._server(declaration, server)
        return await self._rewrite(
            name, lambda text: edit.edit_server(text, service, key, dict(patch)), dry_run
        )

    async def remove_server(self, name: str, server: str, *, dry_run: bool) -> Change:
        from kernlb.config import edit

        declaration = self._declaration(name)
        service, key = declaration.service.key, self._server(declaration, server)
        return await self._rewrite(
            name, lambda text: edit.remove_server(text, service, key), dry_run
        )

    async def apply(self, documents: Mapping[str, str], *, dry_run: bool) -> Change:
        """Documents to be in force, all or none of them; others stay as they are."""
        async with self._lock:
            return await self._edit(documents, dry_run)

    async def start(self) -> None:
        """Put the files in force for the first time; what is wrong is in the status."""
        async with self._lock:
            await self._from_disk("start")

    async def reload(self, *, dry_run: bool = False) -> Change:
        """The files as they are on disk, and the kernel as they say, drift included.

        A bad file leaves its last good version in force and is told in ``faults``."""
        async with self._lock:
            if dry_run:
                disk = self._load()
                preview = await self._reconciler.preview(
                    disk.declarations, disk.held, everything=True
                )
                return change_view(preview, faults=[*disk.faults, *map(Fault, preview.errors)])
            try:
                self._reread_settings()
            except ConfigError as error:
                raise invalid("cannot reload the settings", error.faults) from error
            outcome = await self._from_disk("reload")
            faults = [*self.faults, *map(Fault, outcome.errors)]
            return change_view(outcome, applied=True, faults=faults)

    async def _from_disk(self, cause: str) -> Outcome:
        disk = self._load()
        self.faults = disk.faults
        return await self._commit(disk.declarations, disk.held, cause, everything=True)

    def _load(self) -> FromDisk:
        disk = self._documents.load(self._reconciler.desired.declarations)
        if disk.complete:
            return disk
        # the directory could not be read: nothing that was there before is taken away
        owners = frozenset(self._reconciler.runtime.owned.values())
        return replace(disk, held=disk.held | owners - disk.declarations.keys())

    async def plan(self, documents: Mapping[str, str]) -> Change:
        """What :meth:`apply` (or, without documents, :meth:`reload`) would change."""
        if not documents:
            return await self.reload(dry_run=True)
        return await self.apply(documents, dry_run=True)

    # -- holds and adoption

    async def hold(
        self,
        name: str,
        server: str,
        mode: AdminMode | None,
        *,
        drain_timeout: float | None = None,
        dry_run: bool,
    ) -> Change:
        """Drain or disable a server; None enables it. ``drain_timeout`` in seconds, 0: none, None:
        the service's own."""
        async with self._lock:
            declaration = self._declaration(name)
            key = self._server(declaration, server)
            admin = None if mode is None else self._admin(declaration, mode, drain_timeout)
            before = self._reconciler.runtime.holds(name)
            if dry_run:
                holds = {each: hold for each, hold in before.items() if each != key}
                if admin is not None:
                    holds[key] = admin
                desired = self._reconciler.desired
                wanted = desired.intent_of(declaration, holds)
                outcome = Outcome().add(self._reconciler.draft([declaration.ref], lambda _: wanted))
                announced = desired.announced(desired.declarations.values(), {name: holds})
                outcome.vip_ops = await self._reconciler.vips.draft(announced)
                return change_view(outcome)
            previous = before.get(key)
            outcome = await self._reconciler.hold(declaration, key, admin, _VERBS[mode])
            if outcome.failures and not self._reconciler.settled(declaration.ref, key):
                await self._reconciler.hold(declaration, key, previous, "rollback")
                title = f"cannot {_VERBS[mode]} {key} of {name}"
                raise self._refused(title, outcome, outcome.errors)
            self._holds_changed()
            return change_view(outcome, applied=True, warnings=outcome.failures.values())

    def _admin(self, declaration: Declaration, mode: AdminMode, timeout: float | None) -> Admin:
        now = self._clock()
        limit = declaration.drain_timeout if timeout is None else timeout
        deadline = now + limit if limit and mode is AdminMode.DRAINING else None
        return Admin(mode, now, deadline)

    async def adopt(self, name: str, *, dry_run: bool) -> Change:
        """Take over the service in the kernel that has the key of a declared one."""
        async with self._lock:
            ref = self._declaration(name).ref
            if dry_run:
                draft = self._reconciler.draft([ref], self._reconciler.desired.intent, {ref})
                return change_view(Outcome().add(draft))
            others = self._reconciler.not_ours([ref])
            self._reconciler.runtime.own({ref: name})
            outcome = await self._reconciler.wake([ref], "adopt")
            if outcome.failures:
                await self._reconciler.give_back(others)
                await self._reconciler.wake([ref], "rollback")
                raise self._refused(f"cannot adopt {name}", outcome, outcome.errors)
            return change_view(outcome, applied=True)

    # -- how

    async def _rewrite(self, name: str, rewrite: Callable[[str], str], dry_run: bool) -> Change:
        async with self._lock:
            text = self._documents.text(name)
            try:
                fresh = rewrite(text)
            except ConfigError as error:
                raise invalid(f"cannot change service {name}", error.faults) from error
            return await self._edit({name: fresh}, dry_run)

    async def _edit(self, texts: Texts, dry_run: bool, adopt: bool = False) -> Change:
        desired = self._reconciler.desired
        in_force, held = desired.declarations, desired.held
        wanted = self._documents.propose(in_force, texts)
        adopted = {wanted[name].ref: name for name in texts if adopt and name in wanted}
        if dry_run:
            preview = await self._reconciler.preview(
                wanted, held - texts.keys(), adopting=adopted.keys()
            )
            if preview.failures:
                raise self._refused(f"cannot change {names_of(texts)}", preview, preview.errors)
            return change_view(preview)
        runtime, known = self._reconciler.runtime, self._reconciler.vips.failing
        holds = {name: dict(runtime.holds(name)) for name in texts}
        others = self._reconciler.not_ours(adopted)
        before = self._documents.write(texts)

        async def take_back() -> None:
            """The kernel first: a file that cannot be written back must not stop that."""
            with suppress(OSError):
                await self._reconciler.give_back(others)
            with suppress(OSError):
                runtime.restore(holds)
            await self._commit(in_force, held, "rollback")
            self._documents.write(before)

        try:
            runtime.own(adopted)
            outcome = await self._commit(wanted, held - texts.keys(), "api")
        except OSError as error:
            await take_back()
            title = f"cannot change {names_of(texts)}: {error}"
            raise RequestRefusedError(ProblemKind.REFUSED, title) from error
        refs = {each[name].ref for each in (in_force, wanted) for name in texts if name in each}
        if errors := outcome.errors_of(refs, known):
            await take_back()
            raise self._refused(f"cannot change {names_of(texts)}", outcome, errors)
        touched = {self._documents.source(name) for name in texts}
        self.faults = tuple(fault for fault in self.faults if fault.file not in touched)
        return change_view(outcome, applied=True, warnings=outcome.errors)

    async def _commit(
        self, wanted: Declarations, held: Iterable[str], cause: str, *, everything: bool = False
    ) -> Outcome:
        outcome = await self._reconciler.declare(wanted, held, cause, everything=everything)
        self._holds_changed()
        return outcome

    def _declaration(self, name: str) -> Declaration:
        declaration = self._reconciler.desired.declarations.get(name)
        if declaration is None:
            raise RequestRefusedError(ProblemKind.NOT_FOUND, f"there is no service {name}")
        return declaration

    def _server(self, declaration: Declaration, text: str) -> ServerKey:
        """A server by ``address:port``, or by its address where that says which."""
        named = _named(text)
        keys = [server.key for server in declaration.servers]
        found = [key for key in keys if named in (key, key.address)]
        if len(found) == 1:
            return found[0]
        if found:
            title = f"{text} is several servers of {declaration.name}: say which port"
            raise RequestRefusedError(ProblemKind.INVALID_REQUEST, title)
        title = f"there is no server {text} in service {declaration.name}"
        raise RequestRefusedError(ProblemKind.NOT_FOUND, title)

    def _refused(self, title: str, outcome: Outcome, errors: list[str]) -> RequestRefusedError:
        kind = ProblemKind.FOREIGN if outcome.conflicts else ProblemKind.REFUSED
        return RequestRefusedError(kind, f"{title}: {'; '.join(errors)}")


def _named(text: str) -> ServerKey | IPAddress | None:
    """What an operator names a server by, None if it can be no server's name."""
    with suppress(ValueError):
        return parse_endpoint(text)
    with suppress(ValueError):
        return ip_address(text.removeprefix("[").removesuffix("]"))
    return None
