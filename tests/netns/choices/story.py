"""One service on several balancers, to all of which the same happens; they must not differ.

A story is drawn from a seed: connections come, are answered and close, servers come, go, are
drained and limited. After every step it is compared where each balancer sent what, and how many
connections it counts on each server.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from kernlb.model import (
    AddressKey,
    Forwarding,
    L4Protocol,
    RealServer,
    Scheduler,
    ServerKey,
    VirtualService,
)
from kernlb.plan import EditServer, EditService, Op, RemoveServer
from tests.netns.choices.ground import GATEWAY_MAC, SERVERS, mac_of
from tests.netns.choices.packets import Packet, client
from tests.netns.choices.sides import LONG, Side, loads
from tests.netns.choices.together import Together
from tests.netns.traffic.wait import wait_for

SERVER_PORT = 8080
WEIGHTS = (0, 1, 1, 2, 3, 5, 10, 100)
NEW_WEIGHTS = (0, 0, 1, 2, 4, 6, 50, 65535)
MOST_OPEN, FEWEST_SERVERS, MOST_SERVERS = 60, 4, 9
CHAPTER = 120  # steps until all that is closing leaves
LAST = 40  # steps at the end; what dsr then ends for good need not expire
SHORT = {L4Protocol.TCP: 1, L4Protocol.UDP: 2}  # seconds
FRESH = 4.0  # seconds; a connection that was reset is forgotten ten after it
TURNS = (Scheduler.RR, Scheduler.WRR, Scheduler.LC, Scheduler.WLC)
_ports = count(2000)  # of all stories: one of a client's to two services would be ambiguous in nat


@dataclass
class Connection:
    first: Packet
    server: ServerKey
    said: str = "S"  # the last flag that mattered, whoever said it

    @property
    def closing(self) -> bool:
        return self.said in "FRT"


class Story:
    def __init__(
        self,
        sides: Sequence[Side],
        key: AddressKey,
        scheduler: Scheduler,
        forwarding: Forwarding,
        seed: int,
    ) -> None:
        self.key, self.forwarding = key, forwarding
        self.random = random.Random(seed)
        self.all = Together(sides, VirtualService(key, scheduler))
        self.servers, self.history = self.all.servers, self.all.history
        self.fresh = list(SERVERS[key.address.version])
        self.open: dict[int, Connection] = {}  # by the client's port
        self.reset_at: float | None = None  # the first reset whose connection is still there
        self.decided = self.refused = self.step = self.last = 0

    # Servers.

    def add(self, weight: int | None = None) -> None:
        """With this weight and no limits; or with whatever is drawn."""
        if len(self.servers) >= MOST_SERVERS or not self.fresh:
            return
        lower, upper = 0, 0
        if weight is None:
            weight, (lower, upper) = self.random.choice(WEIGHTS), self._limits(0.3)
        self.all.set(
            RealServer(
                address=self.fresh.pop(0),
                port=self._port,
                weight=weight,
                forwarding=self.forwarding,
                lower_threshold=lower,
                upper_threshold=upper,
            )
        )

    def remove(self) -> None:
        if len(self.servers) > FEWEST_SERVERS:
            server = self._some_server()
            del self.servers[server.key]
            self.open = {k: c for k, c in self.open.items() if c.server != server.key}
            self.all.apply(RemoveServer(self.key, server))

    def weigh(self) -> None:
        self.all.set(replace(self._some_server(), weight=self.random.choice(NEW_WEIGHTS)))

    def limit(self) -> None:
        server = self._some_server()
        lower, upper = self._limits(0.6)
        self.all.set(replace(server, lower_threshold=lower, upper_threshold=upper))

    def change_several(self) -> None:
        """In one go, as a document does that is applied."""
        ops: list[Op] = []
        for server in self.random.sample(list(self.servers.values()), 3):
            changed = replace(server, weight=self.random.choice(NEW_WEIGHTS))
            if changed != server:
                ops.append(EditServer(self.key, server, changed))
                self.servers[changed.key] = changed
        self.all.apply(*ops)

    def reschedule(self) -> None:
        before = self.all.service
        changed = replace(before, scheduler=self.random.choice(TURNS))
        if changed != before:
            self.all.service = changed
            self.all.apply(EditService(before, changed))

    # Connections.

    def arrive(self) -> None:
        if len(self.open) >= MOST_OPEN:
            self.close()
            return
        port = next(_ports)
        source = client(self.key.address.version, self.random.randint(1, 200))
        packet = Packet(self.key.protocol, source, port, self.key.address, self.key.port, "S")
        if self.key.protocol is L4Protocol.UDP:
            packet = packet.saying("")
        self._begin(packet)

    def speak(self) -> None:
        """Somebody goes on with a connection."""
        if connection := self._some_connection(closing=False):
            self._say(connection, "A", from_server=self._server_speaks())

    def close(self) -> None:
        """To FIN_WAIT, where it stays as long as the balancer keeps it."""
        connection = self._some_connection(closing=False)
        if connection and self.key.protocol is L4Protocol.TCP:
            self._say(connection, "A")
            self._say(connection, "FA", from_server=self.forwarding is Forwarding.NAT)

    def reset(self) -> None:
        """To CLOSE, of which the balancer knows for ten seconds."""
        connection = self._some_connection(closing=False)
        if connection and self._may_end:
            self._say(connection, "A")
            self._say(connection, "R", from_server=self._server_speaks())
            self.reset_at = self.reset_at or time.monotonic()

    def finish(self) -> None:
        """To TIME_WAIT: both sides have ended it, or the client before it began."""
        connection = self._some_connection(closing=False)
        if connection and self._may_end:
            if self.forwarding is Forwarding.NAT:
                self._say(connection, "A")
                self._say(connection, "FA")
                self._say(connection, "FA", from_server=True)
            elif connection.said == "S":
                self._say(connection, "F")
            else:
                return
            connection.said = "T"

    def begin_again(self, port: int | None = None) -> None:
        """From a port (any, if none is named) whose connection is over, and is counted still."""
        ends = "RT" if self.forwarding is Forwarding.NAT else "RTF"  # as conn_reuse_mode 3 has it
        over = [each for each, connection in self.open.items() if connection.said in ends]
        if over:
            self._begin(self.open.pop(port or self.random.choice(over)).first)

    def leave(self) -> None:
        """All that is closing expires; of UDP, half of what there is."""
        self.history.append("leave")
        for each in self.open.values():
            if each.said in "RT":
                self._revive(each)
        self.reset_at = None
        leaving = {port for port, each in self.open.items() if each.closing}
        if self.key.protocol is L4Protocol.UDP:
            leaving = set(self.random.sample(list(self.open), len(self.open) // 2))
        staying = [each for port, each in self.open.items() if port not in leaving]
        self.all.keep(SHORT[self.key.protocol], from_now=False)
        self._repeat([self.open[port] for port in leaving])
        self.all.keep(LONG, from_now=False)
        if self.key.protocol is L4Protocol.UDP:
            self._repeat(staying)
        self.all.keep(SHORT[self.key.protocol], from_now=True)
        self.open = {each.first.sport: each for each in staying}
        for side in self.all.sides:
            wait_for(partial(self._have_left, side), 30, "connections expire")
        self.all.keep(LONG, from_now=True)

    def _revive(self, connection: Connection) -> None:
        """Over as it is, to FIN_WAIT, which ends sooner: by a SYN of the server's own."""
        assert self.forwarding is Forwarding.NAT
        self._say(connection, "S", from_server=True)
        self._say(connection, "S")
        self._say(connection, "FA", from_server=True)
        connection.said = "F"

    def _have_left(self, side: Side) -> bool:
        if self.key.protocol is L4Protocol.UDP:
            self._repeat(self.open.values())
        side.look()
        counted = sum(sum(each) for each in loads(side, self.key).values())
        return counted == len(self.open)

    def _repeat(self, connections: Iterable[Connection]) -> None:
        for each in connections:
            self._say(each, "A" if each.first.flags else "")

    # The telling.

    def tell(self, steps: int, *more: Callable[[], None]) -> None:
        acts = [self.arrive] * 12 + [self.speak] * 4 + [self.close] * 4 + [self.reset] * 2
        acts += [
            self.finish,
            self.begin_again,
            self.add,
            self.remove,
            self.weigh,
            self.weigh,
            self.limit,
        ]
        acts += [self.change_several, *more]
        self.last = steps - LAST
        while len(self.servers) < FEWEST_SERVERS + 1:
            self.add()
        for self.step in range(steps):
            act = self.random.choice(acts)
            self.history.append(act.__name__)
            act()
            self.all.compare()
            if self._is_late() and self.forwarding is not Forwarding.NAT:
                return
            if (self.step % CHAPTER == CHAPTER - 1 and self.step + 1 < steps) or self._is_late():
                self.leave()
                self.all.compare()

    def _begin(self, packet: Packet) -> None:
        arrived = self.all.pass_on(packet)
        if arrived is None:
            self.refused += 1
            return
        chosen = next(each for each in self.servers if mac_of(each.address) == arrived[0])
        assert self.servers[chosen].weight > 0
        self.decided += 1
        self.open[packet.sport] = Connection(packet, chosen)

    def _say(self, connection: Connection, flags: str, from_server: bool = False) -> None:
        packet, server = connection.first, connection.server
        if from_server:
            said = Packet(packet.protocol, *server, packet.source, packet.sport, flags)
            arrived = self.all.pass_on(said if packet.flags else said.saying(""))
            back = replace(said, source=packet.destination, sport=packet.dport)
            assert arrived == (GATEWAY_MAC, back if packet.flags else back.saying(""))
        else:
            arrived = self.all.pass_on(packet.saying(flags))
            strayed = f"{packet} with {flags} strayed from {server} to {arrived}"
            assert arrived and arrived[0] == mac_of(server.address), self.all.told(strayed)
        if flags and not connection.closing and self.key.protocol is L4Protocol.TCP:
            connection.said = flags[0]

    @property
    def _may_end(self) -> bool:
        """Whether a connection may end in a state that only `_revive` leads out of."""
        if self.key.protocol is L4Protocol.UDP:
            return False
        return self.forwarding is Forwarding.NAT or self.step >= self.last

    def _is_late(self) -> bool:
        return self.reset_at is not None and time.monotonic() - self.reset_at > FRESH

    @property
    def _port(self) -> int:
        return SERVER_PORT if self.forwarding is Forwarding.NAT else self.key.port

    def _server_speaks(self) -> bool:
        return self.forwarding is Forwarding.NAT and self.random.random() < 0.5

    def _limits(self, chance: float) -> tuple[int, int]:
        if self.random.random() > chance:
            return 0, 0
        upper = self.random.randint(2, 8)
        return self.random.choice((0, 1, upper - 1)), upper

    def _some_server(self) -> RealServer:
        return self.random.choice(list(self.servers.values()))

    def _some_connection(self, *, closing: bool) -> Connection | None:
        some = [each for each in self.open.values() if each.closing is closing]
        return self.random.choice(some) if some else None
