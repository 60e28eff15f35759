"""Which server is watched how: its own check, else its service's, else the host's."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from kernlb.config.check_document import CheckDocument
from kernlb.config.check_words import CheckName
from kernlb.config.checks import read_watch
from kernlb.config.errors import Path, Report
from kernlb.health.check import (
    AgentCheck,
    Check,
    ExecCheck,
    IcmpCheck,
    Several,
    SimpleCheck,
    Via,
    Watch,
)
from kernlb.model import (
    AddressKey,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    RealServer,
    ServerKey,
    VirtualService,
)

CheckSaid = CheckName | CheckDocument | UnsetType

_PORTLESS = (IcmpCheck, ExecCheck, AgentCheck)  # an agent has a port of its own, always
_CARRIED = (Forwarding.DSR, Forwarding.TUNNEL)


class WatchReader:
    """Watches of one service's servers. What they share is held against each kind of server
    once, so a hundred thousand servers cost little more than their places in a dict."""

    def __init__(
        self, check: CheckSaid, service: VirtualService, default: Watch | None, report: Report
    ) -> None:
        self._service = service
        self._report = report
        self._path: Path = ("check",)
        self._of_host = check is UNSET
        self._usual = (
            default if isinstance(check, UnsetType) else read_watch(check, self._path, report)
        )
        self._held: set[tuple[Forwarding, bool]] = set()
        self._told: set[str] = set()
        self.watches: dict[ServerKey, Watch] = {}

    def add(self, server: RealServer, check: CheckSaid, path: Path) -> None:
        """``path`` is that of the server."""
        if isinstance(check, UnsetType):
            watch = self._usual
            if watch is None:
                return
            kind = (server.forwarding, server.port == 0)
            if kind not in self._held:
                self._held.add(kind)
                self._hold_usual(watch, server)
        else:
            watch = read_watch(check, (*path, "check"), self._report)
            if watch is None:
                return
            for key, why in self._misfits(watch, server):
                self._report.add((*path, "check", *key), why)
        self.watches[server.key] = watch

    def _hold_usual(self, watch: Watch, server: RealServer) -> None:
        """What several servers share is told once, of the service."""
        for key, why in self._misfits(watch, server):
            if why in self._told:
                continue
            self._told.add(why)
            if self._of_host:
                self._report.add(
                    (), f"the host's default check does not fit: {why}; give check, or check: none"
                )
            else:
                self._report.add((*self._path, *key), why)

    def _misfits(self, watch: Watch, server: RealServer) -> list[tuple[Path, str]]:
        """Where a check does not fit a server, beneath its own path, and why."""
        found: list[tuple[Path, str]] = []
        if watch.via is Via.VIP:
            found += [(("via",), why) for why in self._why_not_via_vip(watch.check, server)]
        for key, check in _each(watch.check):
            if isinstance(check, _PORTLESS) or check.port is not None:
                continue
            if server.port == 0:
                found.append(
                    (key, f"{_word(check)} needs a port: this service keeps the client's port")
                )
            elif self._is_sctp():
                found.append(
                    (
                        key,
                        f"{_word(check)} does not speak to an SCTP port: give it another port, "
                        "or use icmp, exec or agent",
                    )
                )
        return found

    def _is_sctp(self) -> bool:
        key = self._service.key
        return isinstance(key, AddressKey) and key.protocol is L4Protocol.SCTP

    def _why_not_via_vip(self, check: Check, server: RealServer) -> list[str]:
        if isinstance(self._service.key, FwmarkKey):
            return ["vip does not go with fwmark: such a service has no address"]
        if server.forwarding not in _CARRIED:
            return [
                f"vip goes with forwarding dsr and tunnel only, and a server is "
                f"{server.forwarding}: such a server is sent packets to its own address, which "
                "is where via server asks"
            ]
        if any(isinstance(each, ExecCheck) for _, each in _each(check)):
            return ["vip does not go with exec: what a program sends cannot be steered"]
        if any(isinstance(each, IcmpCheck) for _, each in _each(check)):
            return ["vip does not go with icmp: echo requests are not forwarded to servers"]
        return []


def _each(check: Check) -> list[tuple[Path, SimpleCheck]]:
    """The checks within a check, each with its path beneath it."""
    if not isinstance(check, Several):
        return [((), check)]
    word = {len(check.checks): "all", 1: "any"}.get(check.need, "of")
    return [((word, index), each) for index, each in enumerate(check.checks)]


def _word(check: SimpleCheck) -> str:
    return type(check).__name__.removesuffix("Check").lower()
