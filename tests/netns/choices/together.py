"""One service on several balancers that get the same ops and packets; they must not differ."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kernlb.model import RealServer, ServerKey, VirtualService
from kernlb.plan import AddServer, AddService, EditServer, Op
from tests.netns.choices.packets import Packet
from tests.netns.choices.sides import LONG, Loads, Side, loads, settle

Outcome = tuple[str, Packet] | None


class Together:
    """``history`` is what happened, for whoever reads of a difference."""

    def __init__(self, sides: Sequence[Side], service: VirtualService) -> None:
        self.sides, self.service, self.key = sides, service, service.key
        self.servers: dict[ServerKey, RealServer] = {}
        self.history: list[str] = []
        for from_now in (False, True):
            self.keep(LONG, from_now=from_now)
        self.apply(AddService(service))

    def apply(self, *ops: Op) -> None:
        for side in self.sides:
            settle(side, ops)

    def set(self, server: RealServer) -> None:
        before = self.servers.get(server.key)
        if before == server:
            return
        self.servers[server.key] = server
        add = AddServer(self.key, server)
        self.apply(add if before is None else EditServer(self.key, before, server))

    def keep(self, seconds: int, *, from_now: bool) -> None:
        for side in self.sides:
            if side.keeps_from_now is from_now:
                side.keep(seconds)

    def compare(self) -> None:
        """Each balancer counts the same connections on the same servers."""
        first, *others = self.sides
        for other in others:
            deadline = time.monotonic() + 5  # IPVS unbinds what began again at its next tick
            while (one := loads(first, self.key)) != (two := loads(other, self.key)):
                assert time.monotonic() < deadline, self.told(f"{_text(one)}\n{_text(two)}")
            assert set(one) == set(self.servers)

    def pass_on(self, packet: Packet) -> Outcome:
        """To all; what comes of it, the same everywhere. None: it is refused by the VIP."""
        outcomes = [side.ground.pass_on(packet) for side in self.sides]
        wanted = [None if each[1].source == packet.destination else each for each in outcomes]
        assert all(each == wanted[0] for each in wanted), self.told(f"{packet} -> {outcomes}")
        return wanted[0]

    def told(self, what: str) -> str:
        counted = [loads(side, self.key) for side in self.sides]
        servers = [
            f"{key}: weight {each.weight}, {each.lower_threshold}..{each.upper_threshold}, "
            f"counted {[every.get(key) for every in counted]}"
            for key, each in self.servers.items()
        ]
        lately = ", ".join(self.history[-12:])
        return "\n".join([f"{self.service.scheduler} {what}", *servers, f"after {lately}"])


def _text(loads: Loads) -> str:
    return "{" + ", ".join(f"{k}: {v}" for k, v in sorted(loads.items())) + "}"
