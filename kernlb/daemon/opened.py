"""The datapaths of this host, opened, and what each of them brings beside its protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kernlb.config.settings import Settings
from kernlb.control.protocol import DatapathStatus
from kernlb.daemon import host
from kernlb.daemon.events import Events, sentence
from kernlb.daemon.leftovers import Leftovers
from kernlb.datapath import Datapath, DatapathUnavailableError
from kernlb.datapath.fake import EVERYTHING_OF_XDP, FakeDatapath
from kernlb.datapath.ipvs import IPVSDatapath
from kernlb.datapath.ipvs.probing import ProbeServices
from kernlb.datapath.probing import Carrier
from kernlb.declaration import Declaration
from kernlb.model import DatapathKind

if TYPE_CHECKING:
    from kernlb.daemon.xdp import XdpHost

log = logging.getLogger("kernlb")


class Opened:
    """``missing``: what this host could have and has not, with the reason. ``xdp``: None where
    XDP is missing or not asked for."""

    def __init__(self, settings: Settings, events: Events, pins: Path, *, fake: bool) -> None:
        """``fake``: hold services in memory and forward nothing."""
        self.datapaths: dict[DatapathKind, Datapath] = {}
        self.missing: list[DatapathStatus] = []
        self.xdp: XdpHost | None = None
        self._events = events
        if fake:
            self._pretend(settings)
        else:
            self._open(settings, pins)

    def _pretend(self, settings: Settings) -> None:
        self.datapaths[DatapathKind.IPVS] = FakeDatapath()
        if settings.xdp.interfaces:
            self.datapaths[DatapathKind.XDP] = FakeDatapath(features=EVERYTHING_OF_XDP)

    def _open(self, settings: Settings, pins: Path) -> None:
        try:
            self.datapaths[DatapathKind.IPVS] = IPVSDatapath()
        except DatapathUnavailableError as error:
            self._miss(DatapathKind.IPVS, error)
        if not settings.xdp.interfaces:
            return
        from kernlb.daemon.xdp import XdpHost  # libbpf, rtnetlink: only with XDP

        try:
            self.xdp = XdpHost(settings.xdp, pins, self._events)
            self.datapaths[DatapathKind.XDP] = self.xdp.datapath
        except OSError as error:
            self._miss(DatapathKind.XDP, error)

    def _miss(self, kind: DatapathKind, error: OSError) -> None:
        log.warning("%s", sentence(error))
        for line in getattr(error, "log", "").splitlines():  # the verifier's last words
            log.warning("  %s", line)
        self.missing.append(DatapathStatus(kind, False, detail=sentence(error)))

    def carrier(self, kind: DatapathKind) -> Carrier | None:
        """What carries probes at a VIP; None where the datapath has no such thing."""
        datapath = self.datapaths.get(kind)
        if isinstance(datapath, IPVSDatapath):
            return ProbeServices(datapath)
        if self.xdp is None or kind is not DatapathKind.XDP:
            return None
        from kernlb.datapath.xdp.probing import ProbeProgram

        return ProbeProgram()

    def leftovers(self) -> Callable[[Mapping[str, Declaration]], None]:
        """What looks for connections that stay with servers which are out."""
        if isinstance(self.datapaths.get(DatapathKind.IPVS), IPVSDatapath):
            return Leftovers(self._events).look
        return lambda declared: None

    def apply_host(self, settings: Settings) -> None:
        """What is set for the host as a whole."""
        for datapath in self.datapaths.values():
            if isinstance(datapath, IPVSDatapath):
                host.apply(settings.ipvs, datapath, self._events)

    def close(self) -> None:
        for datapath in self.datapaths.values():
            datapath.close()
