"""Keeps the VIPs of declared services on their interfaces, and knows which are kernlb's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Protocol

from kernlb.daemon.events import Events
from kernlb.daemon.runtime import RuntimeState
from kernlb.declaration import Declaration
from kernlb.model import IPAddress, ServiceRef
from kernlb.vip.plan import AddVip, Holding, VipOp, plan


class AddressDoor(Protocol):
    """Addresses of a network namespace (vip.netlink.Addresses)."""

    async def present(self) -> Set[Holding]: ...

    async def apply(self, op: VipOp) -> bool:
        """False if it was so already. Raises OSError."""
        ...

    async def close(self) -> None: ...


def wanted_vips(declarations: Iterable[Declaration]) -> dict[Holding, str | None]:
    """The VIPs that declarations ask for, with the interface that announces each."""
    return {
        Holding(declaration.address, declaration.vip.interface): declaration.vip.announce
        for declaration in declarations
        if declaration.vip is not None and declaration.address is not None
    }


class VipKeeper:
    """Adds what is wanted, removes what it added and is wanted no more.

    ``door`` makes the netlink door when the first VIP asks for it: a balancer whose VIPs are
    somebody else's never pays for it.
    """

    def __init__(
        self, runtime: RuntimeState, events: Events, door: Callable[[], AddressDoor]
    ) -> None:
        self._runtime = runtime
        self._events = events
        self._make_door = door
        self._door: AddressDoor | None = None
        self.failing: list[str] = []  # what could not be done at the last look
        self.present: Set[Holding] = frozenset()

    async def draft(self, declarations: Iterable[Declaration]) -> list[VipOp]:
        """What would change. Reads, never writes."""
        wanted = wanted_vips(declarations)
        if not wanted and not self._runtime.vips:
            return []
        return plan(wanted, await self.door.present(), self._runtime.vips)

    async def keep(
        self,
        declarations: Iterable[Declaration],
        *,
        unready: Set[ServiceRef],
        in_use: Set[IPAddress],
        cause: str,
    ) -> tuple[list[VipOp], list[str]]:
        """Make the interfaces hold the VIPs; what was done, and sentences on what could not be.

        A VIP that leads only to services that are ``unready`` is not added yet; one that
        is there already stays, and so does one whose address is ``in_use``."""
        declarations = list(declarations)
        wanted = wanted_vips(declarations)
        if not wanted and not self._runtime.vips:
            return [], []
        ready = wanted_vips(each for each in declarations if each.ref not in unready)
        done: list[VipOp] = []
        errors: list[str] = []
        try:
            self.present = await self.door.present()
            for op in plan(wanted, self.present, self._runtime.vips):
                if op.vip not in ready if isinstance(op, AddVip) else op.vip.address in in_use:
                    continue
                try:
                    await self._apply(op, cause)
                    done.append(op)
                except OSError as error:
                    errors.append(str(error))
            if done or errors:
                self.present = await self.door.present()
        except OSError as error:
            errors.append(f"cannot look at addresses: {error}")
        for text in errors:
            if text not in self.failing:
                self._events.add(text, cause)
        self.failing = errors
        return done, errors

    async def _apply(self, op: VipOp, cause: str) -> None:
        if isinstance(op, AddVip):
            fresh = op.vip not in self._runtime.vips
            if fresh:
                self._runtime.vips.add(op.vip)  # before the kernel: see runtime.py
                self._runtime.save()
            ours = not fresh
            try:
                ours |= await self.door.apply(op)
            finally:
                if not ours:  # not there, or somebody was faster: not kernlb's to remove
                    self._runtime.vips.discard(op.vip)
                    self._runtime.save()
        else:
            await self.door.apply(op)
            self._runtime.vips.discard(op.vip)
            self._runtime.save()
        self._events.add(" ".join(str(op).split()), cause)

    @property
    def door(self) -> AddressDoor:
        if self._door is None:
            self._door = self._make_door()
        return self._door

    async def close(self) -> None:
        if self._door is not None:
            await self._door.close()
