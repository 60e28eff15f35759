"""The XDP datapath with the keeper of next hops behind it: who comes and goes is told."""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.daemon.hops import HopKeeper
from kernlb.datapath import Failure
from kernlb.datapath.xdp.datapath import XDPDatapath
from kernlb.plan import AddServer, Op, RemoveServer, RemoveService


class FollowedDatapath(XDPDatapath):
    """Servers that come have their neighbours looked for before the first packet; those that go
    are forgotten a moment later, for their address may be another server's too."""

    keeper: HopKeeper
    _left = False

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
