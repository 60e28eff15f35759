"""A service of `sh` or `mh` on several balancers, asked by many clients.

An ask is a connection of its own, so that no answer comes from a table of connections.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import count

from kernlb.model import (
    AddressKey,
    Forwarding,
    IPAddress,
    L4Protocol,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServerKey,
    VirtualService,
)
from kernlb.plan import AddServer, AddService, EditServer, RemoveServer
from kernlb.schedule import maglev, source_hash
from tests.netns.choices.ground import SERVERS, mac_of
from tests.netns.choices.packets import Packet, client
from tests.netns.choices.sides import Side, settle

TABLES = {Scheduler.SH: source_hash, Scheduler.MH: maglev}
CLIENTS = 200

Asked = tuple[IPAddress, int]  # a client and its port
Answers = dict[Asked, ServerKey | None]  # None: refused

_ports = count(3000)


class Hashing:
    """``weights`` of its servers, oldest first."""

    def __init__(
        self,
        sides: Sequence[Side],
        vip: IPAddress,
        scheduler: Scheduler,
        weights: Sequence[int],
        flags: Iterable[SchedulerFlag] = (),
    ) -> None:
        self.sides, self.key = sides, AddressKey(L4Protocol.UDP, vip, 53)
        self.scheduler = scheduler
        self.service = VirtualService(self.key, scheduler, frozenset(flags))
        self.servers = [
            RealServer(address, 53, weight=weight, forwarding=Forwarding.DSR)
            for address, weight in zip(SERVERS[vip.version], weights, strict=False)
        ]
        for side in sides:
            settle(
                side, [AddService(self.service), *(AddServer(self.key, s) for s in self.servers)]
            )

    def weigh(self, server: RealServer, weight: int) -> RealServer:
        after = RealServer(server.address, 53, weight=weight, forwarding=Forwarding.DSR)
        for side in self.sides:
            settle(side, [EditServer(self.key, server, after)])
        self.servers[self.servers.index(server)] = after
        return after

    def remove(self, server: RealServer) -> None:
        for side in self.sides:
            settle(side, [RemoveServer(self.key, server)])
        self.servers.remove(server)

    def ask(self, seed: int = 1) -> list[Answers]:
        """Of each balancer, the same clients."""
        version = self.key.address.version
        numbers = random.Random(seed).sample(range(1, 1000), CLIENTS)
        asked = [(client(version, number), next(_ports)) for number in numbers]
        return [{each: self._ask(side, *each) for each in asked} for side in self.sides]

    def predicted(self, asked: Iterable[Asked], by_port: bool = False) -> Answers:
        """As kernlb computes it, drained servers left aside."""
        module = TABLES[self.scheduler]
        newest_first = [(each.key, each.weight) for each in reversed(self.servers)]
        table = module.table(newest_first, self.service.family)
        assert table is not None
        return {each: table[module.slot(each[0], each[1] if by_port else 0)] for each in asked}

    def _ask(self, side: Side, source: IPAddress, port: int) -> ServerKey | None:
        packet = Packet(L4Protocol.UDP, source, port, self.key.address, self.key.port)
        mac, arrived = side.ground.pass_on(packet)
        if arrived.source == packet.destination:
            return None
        return next(each.key for each in self.servers if mac_of(each.address) == mac)


def by_client(answers: Answers) -> dict[IPAddress, ServerKey | None]:
    return {source: server for (source, _), server in answers.items()}
