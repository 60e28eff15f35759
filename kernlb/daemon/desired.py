"""What is declared, and what the kernel should therefore hold. Knows nothing of the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Protocol

from kernlb.daemon.runtime import RuntimeState
from kernlb.declaration import Declaration
from kernlb.intent import Admins, Intent, Standings, intend
from kernlb.model import ServerKey, ServiceRef

Declarations = Mapping[str, Declaration]  # by name
Clock = Callable[[], float]  # seconds since the epoch


class Health(Protocol):
    """What the health monitor says of servers (daemon.health.HealthKeeper)."""

    def follow(self, declarations: Declarations) -> None:
        """These are in force from now on."""

    def standings(self, declaration: Declaration, holds: Admins, *, final: bool) -> Standings:
        """``final``: of a declaration in force, and the kernel will be made so."""
        ...

    def withdraws(self, declaration: Declaration, holds: Admins) -> bool:
        """Would the VIP of any declaration not be there now?"""
        ...

    @property
    def withdrawn(self) -> frozenset[ServiceRef]:
        """Services whose VIP is not to be there now."""

    def write_down(self, cause: str) -> None:
        """Where services stand, for a daemon that is started after this one."""


class Unwatched:
    """Every server counts as good."""

    withdrawn: frozenset[ServiceRef] = frozenset()

    def follow(self, declarations: Declarations) -> None:
        pass

    def standings(self, declaration: Declaration, holds: Admins, *, final: bool) -> Standings:
        return {}

    def withdraws(self, declaration: Declaration, holds: Admins) -> bool:
        return False

    def write_down(self, cause: str) -> None:
        pass


class Desired:
    """The declarations in force, with the intent of each worked out when first asked for.

    ``held`` are names whose file is bad and has no good version in force: what the kernel holds
    for them is left as it is. Adopted services and operators' holds come from ``runtime``.
    """

    def __init__(self, runtime: RuntimeState, clock: Clock, health: Health | None = None) -> None:
        self.declarations: Declarations = {}
        self.held: frozenset[str] = frozenset()
        self._runtime = runtime
        self._clock = clock
        self._health: Health = health or Unwatched()
        self._by_ref: dict[ServiceRef, Declaration] = {}
        self._intents: dict[ServiceRef, Intent] = {}

    def __contains__(self, ref: ServiceRef) -> bool:
        return ref in self._by_ref

    def __getitem__(self, ref: ServiceRef) -> Declaration:
        return self._by_ref[ref]

    def declare(self, declarations: Declarations, held: Iterable[str] = ()) -> list[ServiceRef]:
        """Replace what is in force; the services that this concerns, those that go last."""
        self.held = frozenset(held)
        concerned = self.concerned(declarations, self.held)
        for name, old in self.renamed(declarations, self.held).items():
            self._runtime.rename(old, name)
        for name in self._runtime.admin.keys() - self.held:
            self._drop_holds(name, declarations.get(name))
        self.declarations = dict(declarations)
        self._by_ref = {declaration.ref: declaration for declaration in declarations.values()}
        self._health.follow(self.declarations)
        self.wake(concerned)
        return concerned

    def withdraw(self) -> list[ServiceRef]:
        """Nothing is to be in the kernel any more, whatever the files say; what is there."""
        self.declarations, self.held = {}, frozenset()
        self._by_ref.clear()
        self._intents.clear()
        self._health.follow({})
        return list(self._runtime.owned)

    def concerned(self, wanted: Declarations, held: Set[str]) -> list[ServiceRef]:
        """Services that ``wanted`` changes, then those that it leaves in the kernel undeclared."""
        changed: dict[ServiceRef, None] = {}
        for name, new in wanted.items():
            old = self.declarations.get(name)
            if old is not new and old != new:
                changed[new.ref] = None
        kept = {declaration.ref for declaration in wanted.values()}
        owned = self._runtime.owned
        gone = [ref for ref, name in owned.items() if ref not in kept and name not in held]
        return [*changed, *gone]

    def renamed(self, wanted: Declarations, held: Set[str]) -> dict[str, str]:
        """Services with holds whose file has another name in ``wanted``, and the same key: what
        they were called, by new name. Whoever keeps its name is not meant."""
        lost = self._runtime.admin.keys() - wanted.keys() - held
        if not lost:
            return {}
        before = self._runtime.owned | {each.ref: each.name for each in self._by_ref.values()}
        known = set(before.values())
        heirs: dict[str, list[str]] = {}
        for name, declaration in wanted.items():
            old = before.get(declaration.ref)
            if old in lost and name not in known:
                heirs.setdefault(old, []).append(name)
        return {names[0]: old for old, names in heirs.items() if len(names) == 1}

    def refs(self) -> list[ServiceRef]:
        """Every service that is declared, or owned and still to be removed."""
        return [*self._by_ref, *self.concerned(self.declarations, self.held)]

    def wake(self, refs: Iterable[ServiceRef]) -> None:
        """Forget what was worked out: something that it depends on has changed."""
        for ref in refs:
            self._intents.pop(ref, None)

    def intent(self, ref: ServiceRef) -> Intent | None:
        """What the kernel should hold for a service now; None: nothing."""
        declaration = self._by_ref.get(ref)
        return None if declaration is None else self.intended(declaration)

    def intended(self, declaration: Declaration) -> Intent:
        """The same for a service in force."""
        found = self._intents.get(declaration.ref)
        if found is None:
            holds = self._runtime.holds(declaration.name)
            standings = self._health.standings(declaration, holds, final=True)
            found = self._intents[declaration.ref] = self._intend(declaration, standings, holds)
        return found

    def serving(self, declaration: Declaration) -> set[ServerKey]:
        """The servers of a service in force that are to take new connections."""
        return {each.key for each in self.intended(declaration).state.servers if each.weight}

    def intent_of(self, declaration: Declaration, holds: Admins | None = None) -> Intent:
        """What it would be for any declaration, with ``holds`` in place of those in force."""
        if holds is None:
            holds = self._runtime.holds(declaration.name)
        standings = self._health.standings(declaration, holds, final=False)
        return self._intend(declaration, standings, holds)

    def _intend(self, declaration: Declaration, standings: Standings, holds: Admins) -> Intent:
        return intend(declaration, standings, holds, self._clock())

    @property
    def withdrawn(self) -> frozenset[ServiceRef]:
        """Services whose VIP is not to be there now, of those whose intent was worked out."""
        return self._health.withdrawn

    def write_down(self, cause: str) -> None:
        """Where services stand, before anything is done about VIPs."""
        self._health.write_down(cause)

    def announced(
        self, declarations: Iterable[Declaration], holds: Mapping[str, Admins] | None = None
    ) -> list[Declaration]:
        """Those of ``declarations``, in force or not, whose VIP is to be there; with ``holds`` of
        services by name in place of those in force."""
        others, withdraws = holds or {}, self._health.withdraws

        def shown(each: Declaration) -> bool:
            held = others.get(each.name, self._runtime.holds(each.name))
            return each.vip is None or not withdraws(each, held)

        return [each for each in declarations if shown(each)]

    def _drop_holds(self, name: str, declaration: Declaration | None) -> None:
        """An operator's hold goes with the server it was on, running or not as we were."""
        kept = {server.key for server in declaration.servers} if declaration is not None else ()
        if gone := [server for server in self._runtime.holds(name) if server not in kept]:
            self._runtime.forget(name, gone)
