"""One service in one apply: what its ops make of it. Nothing of it is in force.

Ops are checked one by one and gathered here; :mod:`.publishing` writes the outcome, so that a
table is computed once however many servers come. Cursors are moved op by op, as IPVS does.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernlb.datapath.xdp import reading, records, refusals
from kernlb.datapath.xdp.cursor import RR_HEAD, Turn, rr_removed, wrr_begun, wrr_changed
from kernlb.datapath.xdp.inventory import Inventory
from kernlb.datapath.xdp.layout import SERVER, Schedule, Server, Service
from kernlb.datapath.xdp.records import Identity
from kernlb.datapath.xdp.refusals import NO_SERVER, NO_SERVICE, Refused
from kernlb.model import AddressKey, RealServer, ServerKey, ServiceKey, VirtualService
from kernlb.plan import AddServer, AddService, EditServer, EditService, Op, RemoveServer

_HOW = ("forwarding", "port", "tunnel", "tunnel_port")  # fields that change what packets become


class Draft:
    """``number`` of the service in force, None where there is none."""

    def __init__(self, inventory: Inventory, key: ServiceKey, number: int | None) -> None:
        self.inventory, self.key, self.number = inventory, key, number
        maps = inventory.maps
        self.before = None if number is None else maps.service(number)
        self.after: Service | None = self.before
        self.members = reading.members(maps, self.before) if self.before else []
        self.kept = list(self.members)  # as they are in force
        self.new: dict[int, tuple[Server, ServerKey]] = {}
        self.edited: dict[int, Server] = {}
        self.removed: list[int] = []
        self.place = number  # of the service as it is to be
        self.grows = False  # set by an op that needs more room than there was
        self.reweighed = False  # a server came, went or changed: a table is to be dealt anew
        self._places: dict[Identity, int] | None = None

    @property
    def changed(self) -> bool:
        return self.reweighed or self.after != self.before

    def take(self, op: Op) -> Refused | None:
        """Any op but RemoveService, which ends a draft. Returns why it is refused."""
        match op:
            case AddService(service=service):
                return self._set_service(service)
            case EditService(new=service):
                return self._set_service(service) if self.after else NO_SERVICE
            case AddServer(server=server) | EditServer(new=server):
                return self._set_server(op, server) if self.after else NO_SERVICE
            case RemoveServer(server=server):
                self._remove_server(server)
        return None

    def abandon(self) -> None:
        """Give back what was taken."""
        self.inventory.server_ids.rest(self.new)
        if self.number is None and self.place is not None:
            self.inventory.service_ids.rest(self.place, self.inventory.clock())

    def record(self, number: int) -> Server:
        """Of a member, as it is to be."""
        if number in self.new:
            return self.new[number][0]
        return self.edited.get(number) or self.inventory.maps.server(number)

    def weights(self) -> list[int]:
        """Of all members, as they are to be."""
        words = self.inventory.maps.servers.cast("I")
        at, step = SERVER.offset["weight"] // 4, SERVER.size // 4
        pending = {each: record.weight for each, record in self.edited.items()}
        pending |= {each: record.weight for each, (record, _) in self.new.items()}
        if not pending:
            return [words[at + step * each] for each in self.members]
        return [
            pending[each] if each in pending else words[at + step * each] for each in self.members
        ]

    def _set_service(self, service: VirtualService) -> Refused | None:
        if (refused := refusals.of_service(service)) is not None:
            return refused
        wanted = records.service_record(service)
        was, self.after = self.after, wanted
        if was is None:
            self.place = self.inventory.service_ids.take(self.inventory.clock())
            if self.place is None:
                self.after = None
                return refusals.full("services")
        else:
            self.after = wanted._replace(**{name: getattr(was, name) for name in _OF_SERVERS})
            if wanted.scheduler == was.scheduler:
                return None
        self.grows = True
        if wanted.scheduler == Schedule.WRR:
            self._turn(wrr_begun(self.weights()))
        else:
            self.after = self.after._replace(cursor=RR_HEAD, max_weight=0, step=1)
        return None

    def _set_server(self, op: Op, server: RealServer) -> Refused | None:
        if (refused := refusals.of_server(self.key, server)) is not None:
            return refused
        name = server.key
        identity = records.identity_of(name)
        number = self._index().get(identity)
        if number is not None:
            self._edit_server(number, server, identity)
            return None
        if isinstance(op, EditServer):
            return NO_SERVER
        return self._add_server(server, name, identity)

    def _add_server(
        self, server: RealServer, name: ServerKey, identity: Identity
    ) -> Refused | None:
        taken = self.inventory.take_server()
        if taken is None:
            return refusals.full("servers")
        number, generation = taken
        assert isinstance(self.key, AddressKey) and self.place is not None
        record = records.server_record(server, identity, self.key, self.place, generation)
        record = self.inventory.hops.resolved(server.address, record)
        self.new[number] = record, name
        self.grows = True
        self.members.append(number)
        self._index()[identity] = number
        self._reweigh()
        return None

    def _edit_server(self, number: int, server: RealServer, identity: Identity) -> None:
        assert isinstance(self.key, AddressKey)
        before = self.record(number)
        wanted = records.server_record(
            server, identity, self.key, before.service, before.generation
        )
        after = before._replace(
            weight=wanted.weight,
            upper=wanted.upper,
            lower=wanted.lower,
            last_weight=wanted.weight or before.last_weight,
            **{name: getattr(wanted, name) for name in _HOW},
        )
        if any(getattr(after, name) != getattr(before, name) for name in _HOW):
            after = self.inventory.hops.resolved(server.address, after)
        if after == before:
            return
        if number in self.new:
            self.new[number] = after, server.key
        else:
            self.edited[number] = after
        self._reweigh()

    def _remove_server(self, server: RealServer) -> None:
        number = self._index().pop(records.identity_of(server.key), None)
        if number is None or self.after is None:
            return
        place = self.members.index(number)
        del self.members[place]
        self.edited.pop(number, None)
        if self.new.pop(number, None):
            self.inventory.server_ids.rest([number])
        else:
            self.removed.append(number)
        if self.after.scheduler == Schedule.RR:
            cursor = rr_removed(self.after.cursor, place, len(self.members))
            self.after = self.after._replace(cursor=cursor)
        self._reweigh()

    def _reweigh(self) -> None:
        """ip_vs_wrr.c hears of every server that comes, goes or changes."""
        self.reweighed = True
        if self.after is not None and self.after.scheduler == Schedule.WRR:
            self._turn(wrr_changed(self.after.cursor >> 32, self.weights()))

    def _turn(self, turn: Turn) -> None:
        assert self.after is not None
        self.after = self.after._replace(
            cursor=turn.cursor, max_weight=turn.max_weight, step=turn.step
        )

    def _index(self) -> dict[Identity, int]:
        if self._places is None:
            self._places = identities(self.inventory, self.members)
        return self._places


_OF_SERVERS = (
    *("members_first", "members_count", "table_first", "table_count"),
    *("max_weight", "step", "cursor"),
)


def identities(inventory: Inventory, members: Iterable[int]) -> dict[Identity, int]:
    """Which server of a service is which."""
    return {records.identity(inventory.maps.servers, each): each for each in members}
