"""The XDP datapath with the keeper of next hops behind it: who comes and goes is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from kernlb.control.protocol_xdp import XdpTable
from kernlb.daemon.hops import HopKeeper
from kernlb.datapath import Failure
from kernlb.datapath.xdp.datapath import XDPDatapath
from kernlb.datapath.xdp.loading import ATTACHED, Loaded
from kernlb.datapath.xdp.maps import Maps
from kernlb.plan import AddServer, Op, RemoveServer, RemoveService


class FollowedDatapath(XDPDatapath):
    """Servers that come have their neighbours looked for before the first packet; those that go
    are forgotten a moment later, for their address may be another server's too."""

    keeper: HopKeeper
    _left = False

    @classmethod
    def of(cls, loaded: Loaded) -> Self:
        return cls(Maps.of(loaded), loaded.programs[ATTACHED].tag, closing=loaded.close)

    def apply(self, ops: Sequence[Op]) -> list[Failure]:
        failures = super().apply(ops)
        self.keeper.want({op.server.address for op in ops if isinstance(op, AddServer)})
        self._left |= any(isinstance(op, RemoveServer | RemoveService) for op in ops)
        return failures

    def follow(self) -> None:
        """Have the keeper forget the addresses where no server is any more."""
        if self._left:
            self._left = False
            self.keeper.refresh()

    def tables(self) -> list[XdpTable]:
        """How full they are; those of connections are the sweep's to tell."""
        sizes, inventory = self.maps.sizes, self._inventory
        return [
            XdpTable("services", sum(inventory.vips.values()), sizes.services),
            XdpTable("servers", len(list(self.endpoints())), sizes.servers),
            XdpTable("slots", sizes.slots - inventory.runs.free, sizes.slots),
        ]
