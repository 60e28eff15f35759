"""Runtime facts that outlive the process: what kernlb owns, which servers are held, who is lost.

Kept in one small file under the state directory, written whole, atomically, and *before* the
kernel is touched: after a crash at any moment the file names everything that kernlb may have
made. A key that is owned and absent is harmless; the reverse would be a foreign service.

The service documents are never needed to read this file, nor this file to read them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path

import msgspec

from kernlb.health.stance import Phase, Stance
from kernlb.intent import Admin, AdminMode
from kernlb.model import DatapathKind, ServerKey, ServiceRef, parse_endpoint, parse_service_key
from kernlb.vip.plan import Holding

FILE = "state.json"

Owned = dict[ServiceRef, str]
Holds = dict[str, dict[ServerKey, Admin]]
StancesLeft = dict[ServiceRef, Stance]


class _AdminRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    service: str
    server: str
    mode: AdminMode
    since: float
    deadline: float | None = None


class _StanceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    phase: Phase
    withdrawn: bool = False
    kept: list[str] = []


class _Record(msgspec.Struct, omit_defaults=True):
    """The file, version 1. ``owned`` maps a service reference to the name it was declared by;
    ``stances`` say where services stood, as far as the kernel cannot; in ``withdrawn``, which is
    no longer written, are those whose VIP was away for want of good servers."""

    owned: dict[str, str] = {}
    vips: list[tuple[str, str]] = []
    admin: list[_AdminRecord] = []
    stances: dict[str, _StanceRecord] = {}
    withdrawn: list[str] = []


class RuntimeStateError(Exception):
    """The state file is there and cannot be understood."""


class RuntimeState:
    """Owned services and VIPs, and operators' holds on servers; durable after ``save``."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self.owned: Owned = {}
        self.vips: set[Holding] = set()
        self.admin: Holds = {}
        self.stances: StancesLeft = {}
        self._saved = self._copies()

    @classmethod
    def load(cls, directory: Path) -> RuntimeState:
        """What was saved; empty where nothing was. Raises RuntimeStateError."""
        state = cls(directory)
        try:
            record = msgspec.json.decode(state._path.read_bytes(), type=_Record)
            for text, name in record.owned.items():
                state.owned[_ref(text)] = name
            state.stances = {_ref(text): Stance(Phase.BELOW) for text in record.withdrawn}
            for text, left in record.stances.items():
                kept = tuple(map(parse_endpoint, left.kept))
                state.stances[_ref(text)] = Stance(left.phase, left.withdrawn, kept)
            state.vips = {Holding(ip_address(a), interface) for a, interface in record.vips}
            for entry in record.admin:
                holds = state.admin.setdefault(entry.service, {})
                holds[parse_endpoint(entry.server)] = Admin(entry.mode, entry.since, entry.deadline)
        except FileNotFoundError:
            return state
        except (msgspec.MsgspecError, ValueError) as error:
            raise RuntimeStateError(
                f"cannot read {state._path}: {error} (move it away to start anew; services in "
                "the kernel then count as foreign until adopted)"
            ) from error
        state._saved = state._copies()
        return state

    def save(self) -> None:
        """Write and sync; the previous file stays whole until the new one is.

        Raises OSError, and memory is again what the file says: what could not be written down
        has not happened, and the next try is a change as this one was."""
        try:
            self._write()
        except OSError:
            self.owned, self.vips, self.admin, self.stances = self._saved
            self._saved = self._copies()
            raise
        self._saved = self._copies()

    def _copies(self) -> tuple[Owned, set[Holding], Holds, StancesLeft]:
        holds = {service: dict(each) for service, each in self.admin.items()}
        return dict(self.owned), set(self.vips), holds, dict(self.stances)

    def _write(self) -> None:
        record = _Record(
            owned={str(ref): name for ref, name in self.owned.items()},
            vips=sorted((str(vip.address), vip.interface) for vip in self.vips),
            admin=[
                _AdminRecord(service, str(server), hold.mode, hold.since, hold.deadline)
                for service, holds in self.admin.items()
                for server, hold in holds.items()
            ],
            stances={
                str(ref): _StanceRecord(each.phase, each.withdrawn, [*map(str, each.kept)])
                for ref, each in self.stances.items()
            },
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def own(self, refs: Mapping[ServiceRef, str]) -> None:
        """Record ownership; saved if anything is new."""
        if any(self.owned.get(ref) != name for ref, name in refs.items()):
            self.owned.update(refs)
            self.save()

    def disown(self, refs: Iterable[ServiceRef]) -> None:
        """Forget ownership, and where a service stood; saved if anything was owned."""
        gone = [ref for ref in refs if self.owned.pop(ref, None) is not None]
        for ref in gone:
            self.stances.pop(ref, None)
        if gone:
            self.save()

    def stand(self, stances: StancesLeft) -> None:
        """These services, and no others, stand so; saved if that is new."""
        if stances != self.stances:
            self.stances = stances
            self.save()

    def holds(self, service: str) -> Mapping[ServerKey, Admin]:
        return self.admin.get(service, {})

    def hold(self, service: str, server: ServerKey, admin: Admin | None) -> None:
        """Set an operator's hold, None to lift it; saved."""
        holds = self.admin.setdefault(service, {})
        if admin is None:
            holds.pop(server, None)
        else:
            holds[server] = admin
        if not holds:
            del self.admin[service]
        self.save()

    def restore(self, holds: Mapping[str, Mapping[ServerKey, Admin]]) -> None:
        """Put the holds of these services back to what they were; saved if they differ."""
        if any(self.holds(service) != before for service, before in holds.items()):
            for service, before in holds.items():
                self.admin.pop(service, None)
                if before:
                    self.admin[service] = dict(before)
            self.save()

    def rename(self, old: str, new: str) -> None:
        """A service has another name now, and takes its holds along; saved if it has any."""
        if holds := self.admin.pop(old, None):
            self.admin[new] = self.admin.get(new, {}) | holds
            self.save()

    def forget(self, service: str, servers: Iterable[ServerKey] | None = None) -> None:
        """Drop the holds of a service that is gone, or of servers that left it."""
        holds = self.admin.get(service)
        if holds is None:
            return
        for server in list(holds) if servers is None else servers:
            holds.pop(server, None)
        if not holds:
            del self.admin[service]
        self.save()


def _ref(text: str) -> ServiceRef:
    kind, _, key = text.partition(":")
    return ServiceRef(DatapathKind(kind), parse_service_key(key))
