"""How services stand, and what became of them: the loop's memory of what it told."""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.control.protocol import SyncState
from kernlb.daemon.events import Events
from kernlb.daemon.outcome import UNKNOWN, Report
from kernlb.declaration import Declaration
from kernlb.model import ServiceRef
from kernlb.plan import Op, server_of

AUDIT = "audit"  # the cause of a change that repairs drift
_SHOWN = 4  # ops spelled out in an event; more are counted


class Reports:
    """One report for each service that was looked at; an event for each that changed."""

    def __init__(self, events: Events) -> None:
        self.drift_repaired = 0
        self._events = events
        self._reports: dict[ServiceRef, Report] = {}

    def of(self, ref: ServiceRef) -> Report:
        """How a service stood when it was last looked at."""
        return self._reports.get(ref, UNKNOWN)

    def synced(self, ref: ServiceRef) -> bool:
        return self.of(ref).state is SyncState.SYNCED

    def put(self, ref: ServiceRef, state: SyncState, error: str = "", name: str = "") -> None:
        """An error is told once, not at every look. ``name`` is the service's."""
        if error and self.of(ref).error != error:
            self._events.add(error, "kernel", name)
        self._reports[ref] = Report(state, error)

    def forget(self, ref: ServiceRef) -> None:
        self._reports.pop(ref, None)

    def changed(self, ref: ServiceRef, name: str, ops: Sequence[Op], cause: str) -> None:
        """Ops were carried out. In an audit of a service that stood well, that was drift."""
        if not ops:
            return
        text = "; ".join(" ".join(str(op).split()) for op in ops[:_SHOWN])
        if len(ops) > _SHOWN:
            text += f"; and {len(ops) - _SHOWN} more changes"
        if cause == AUDIT and self.synced(ref):
            self.drift_repaired += 1
            text = f"drift repaired: {text}"
        self._events.add(f"service {name}: {text}", cause, name, _server(ops))


def _server(ops: Sequence[Op]) -> str:
    """The server that all of ``ops`` are about; "" if they are about more."""
    keys = {server_of(op) for op in ops}
    only = keys.pop() if len(keys) == 1 else None
    return str(only) if only is not None else ""


def conflict(declaration: Declaration) -> str:
    """Why a declared service is left alone."""
    return (
        f"cannot take over {declaration.service.key}: it is in the kernel and kernlb did not "
        "make it (adopt it, or remove it there)"
    )
