"""IPVS and XDP as two balancers that are told the same: services, servers, packets and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kernlb.config.xdp_settings import XdpSettings
from kernlb.datapath import Datapath
from kernlb.datapath.ipvs import IPVSDatapath, Timeouts
from kernlb.datapath.xdp import tuning
from kernlb.datapath.xdp.attaching import attach
from kernlb.datapath.xdp.datapath import XDPDatapath
from kernlb.datapath.xdp.loading import load, unload
from kernlb.datapath.xdp.memory import Sizes
from kernlb.datapath.xdp.sweeping import Sweeper
from kernlb.lab.namespaces import write_sysctl
from kernlb.model import ServerKey, ServiceKey
from kernlb.plan import Op
from tests.netns.choices.ground import FRONT, Ground

Loads = dict[ServerKey, tuple[int, int]]  # active and inactive connections

LONG = 900  # seconds: longer than a test


class Side(Protocol):
    ground: Ground
    keeps_from_now: bool  # what `keep` says holds for all there is; else from their next packet on

    @property
    def datapath(self) -> Datapath: ...

    def keep(self, seconds: int) -> None:
        """For how long it keeps a connection in FIN_WAIT, and one of UDP."""

    def look(self) -> None:
        """Whatever has expired by now is gone."""

    def close(self) -> None: ...


class IPVSSide:
    keeps_from_now = False

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.datapath: IPVSDatapath = ground.within(IPVSDatapath)
        ground.within(lambda: write_sysctl("net.ipv4.vs.conn_reuse_mode", "3"))
        self.keep(LONG)

    def keep(self, seconds: int) -> None:
        self.datapath.set_timeouts(Timeouts(tcp=LONG, tcp_fin=seconds, udp=seconds))

    def look(self) -> None:
        """Its timers do that."""

    def close(self) -> None:
        self.datapath.flush()
        self.datapath.close()


class XDPSide:
    keeps_from_now = True

    def __init__(self, ground: Ground, root: Path) -> None:
        self.ground, self._root = ground, root
        sizes = Sizes(services=64, servers=1024, slots=1 << 18, conns4=1 << 14, conns6=1 << 14)
        self._loaded = load(root, sizes)
        self.datapath: XDPDatapath = XDPDatapath(self._loaded)
        self._sweeper = Sweeper(self._loaded, self.datapath)
        ground.within(lambda: attach(root, FRONT))
        self.keep(LONG)

    def keep(self, seconds: int) -> None:
        changed = {"tcp": LONG, "tcpfin": seconds, "udp": seconds}
        timeouts = {**XdpSettings().timeouts, **changed}
        tuning.write(self.datapath.maps.settings, timeouts, icmp_per_second=0)

    def look(self) -> None:
        self._sweeper.whole()

    def close(self) -> None:
        self.datapath.close()
        unload(self._root)


def settle(side: Side, ops: Sequence[Op]) -> None:
    failures = side.datapath.apply(ops)
    assert not failures, "\n".join(map(str, failures))


def loads(side: Side, key: ServiceKey) -> Loads:
    servers = side.datapath.stats([key])[key].servers
    return {server: (each.active, each.inactive) for server, each in servers.items()}
