"""The keeper of next hops against a kernel in memory: what each change costs, and what is told."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernlb.daemon.destinations import Destination, Destinations
from kernlb.daemon.events import Events
from kernlb.daemon.hop_devices import Devices
from kernlb.daemon.hops import QUESTIONS, ROUTES, STORM, HopKeeper
from kernlb.datapath.xdp.hops import (
    PERMANENT,
    REACHABLE,
    STALE,
    AddressesChanged,
    Event,
    Hop,
    Link,
    Neighbour,
    NeighbourGone,
    NextHop,
    NoRoute,
    Outcome,
    Question,
    Route,
    RoutesChanged,
    Unresolved,
)
from kernlb.model import AddressKey, Family, IPAddress, L4Protocol, ServerKey, ServiceKey

SERVICE: ServiceKey = AddressKey(L4Protocol.TCP, ip_address("192.0.2.1"), 80)
MAC, THEIRS, OTHERS = (bytes([2, 0, 0, 0, 0, last]) for last in (1, 2, 3))
ETH0 = Link(2, "eth0", MAC, 1500)
ETH1 = Link(3, "eth1", MAC, 1500)
FAILED = 0x20
GATEWAY = NextHop(2, ip_address("10.0.0.254"))
EVERY_ROUTE = RoutesChanged(Family.IPV4, 0, 2**32 - 1)


class Kernel:
    """Strict stand-in for the door: answers from tables, counts what is asked."""

    def __init__(self) -> None:
        self.devices = {2: ETH0, 3: ETH1}
        self.table: dict[NextHop, Neighbour] = {}
        self.ways: dict[IPAddress, Route | NoRoute] = {}
        self.default: Route | NoRoute = Route(2)
        self.announced: list[Event] | None = []
        self.asked: Counter[str] = Counter()
        self.kept: list[tuple[NextHop, bool]] = []
        self.released: list[NextHop] = []
        self.looked_up: list[NextHop] = []
        self.refusing: dict[NextHop, int] = {}
        self.broken: OSError | None = None
        self.answers = True  # neighbours do, as soon as they are asked for
        self.closed = False
        self.pipe = (-1, -1)  # to wait at, where run() does

    def fileno(self) -> int:
        return self.pipe[0]

    def events(self) -> list[Event] | None:
        announced, self.announced = self.announced, []
        return announced

    def links(self) -> list[Link]:
        self._ask("links")
        return list(self.devices.values())

    def neighbours(self) -> list[Neighbour]:
        self._ask("neighbours")
        return list(self.table.values())

    def routes(self, questions: Sequence[Question]) -> list[Route | NoRoute]:
        self._ask("routes", len(questions))
        assert 0 < len(questions) <= QUESTIONS
        return [self.ways.get(each.destination, self.default) for each in questions]

    def keep(self, next_hops: Mapping[NextHop, bool]) -> dict[NextHop, int]:
        self._ask("keep")
        self.kept += next_hops.items()
        for to in next_hops.keys() - self.refusing.keys():
            if self.answers:
                self.put(Neighbour(to, REACHABLE, THEIRS, managed=True, ours=True))
        return {to: self.refusing[to] for to in next_hops if to in self.refusing}

    def look_up(self, next_hops: Sequence[NextHop]) -> None:
        self._ask("look up")
        self.looked_up += next_hops

    def release(self, next_hops: Sequence[NextHop]) -> None:
        self._ask("release")
        self.released += next_hops

    def close(self) -> None:
        self.closed = True
        for each in self.pipe:
            os.close(each)

    def put(self, event: Event) -> None:
        """It changes, and is announced."""
        match event:
            case Neighbour(next_hop=to):
                self.table[to] = event
            case NeighbourGone(next_hop=to):
                self.table.pop(to, None)
            case Link(index=index):
                self.devices[index] = event
        if self.announced is not None:
            self.announced.append(event)

    def _ask(self, what: str, count: int = 1) -> None:
        if self.broken is not None:
            raise self.broken
        self.asked[what] += count


class Table:
    """The datapath's side."""

    def __init__(self) -> None:
        self.servers: list[tuple[ServiceKey, ServerKey]] = []
        self.hops: dict[IPAddress, Outcome] = {}
        self.writes = 0
        self.present: set[int] = set()
        self.full = False
        self.refusing: dict[IPAddress, Exception] = {}
        self.written = asyncio.Event()

    def endpoints(self) -> Iterable[tuple[ServiceKey, ServerKey]]:
        return self.servers

    def set_hop(self, address: IPAddress, outcome: Outcome) -> None:
        self.writes += 1
        if address in self.refusing:
            raise self.refusing[address]
        self.hops[address] = outcome
        self.written.set()

    def forget_hop(self, address: IPAddress) -> None:
        self.hops.pop(address, None)

    def devices(self) -> Iterable[int]:
        return set(self.present)

    def add_device(self, ifindex: int) -> None:
        if self.full:
            raise OSError(errno.E2BIG, "Argument list too long")
        self.present.add(ifindex)

    def remove_device(self, ifindex: int) -> None:
        self.present.discard(ifindex)


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.kernel = Kernel()
        self.table = Table()
        self.events = Events(lambda: self.now)
        self.keeper = HopKeeper(self.kernel, self.table, self.events, lambda: self.now)

    async def serve(self, *addresses: str) -> None:
        """Servers at these addresses are all there are."""
        self.table.servers = [(SERVICE, ServerKey(ip_address(each), 80)) for each in addresses]
        self.keeper.refresh()
        await self.settle()

    async def change(self, *events: Event) -> None:
        for each in events:
            self.kernel.put(each)
        await self.settle()

    async def settle(self) -> float:
        """Steps until nothing more is to be done now; returns when the next is due."""
        for _ in range(1000):
            self.keeper._hear()
            due = await self.keeper.step()
            if due > self.now and not self.kernel.announced:
                return due
        raise AssertionError("there is no end of it")

    async def wait(self, seconds: float) -> None:
        self.now += seconds
        await self.settle()

    def hop(self, address: str) -> Outcome:
        return self.table.hops[ip_address(address)]

    def log(self) -> list[str]:
        return [each.text for each in self.events]

    def forget(self) -> None:
        self.kernel.asked.clear()
        self.kernel.kept.clear()
        self.table.writes = 0


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_devices_towards_clients_stay_whatever_servers_do(order: tuple[int, int]) -> None:
    table = Table()
    devices = Devices(table)
    devices.hold([1, 2])
    for each in order:
        devices.enter(Unresolved("", each))
        devices.leave(Unresolved("", each))
    devices.heal()
    assert table.present == {1, 2}
    devices.enter(Unresolved("", 1))
    devices.hold([])
    assert table.present == {1}


def story(test: Callable[[World], object]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test(World()))  # type: ignore[arg-type]

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def many(count: int) -> list[str]:
    return [str(IPv4Address(0x0A010000 + n)) for n in range(count)]


@story
async def test_a_thousand_servers_behind_a_gateway_are_one_neighbour(world: World) -> None:
    world.kernel.default = Route(2, GATEWAY.address)
    await world.serve(*many(1000))
    assert world.kernel.kept == [(GATEWAY, True)]
    assert world.kernel.asked["routes"] == 1000
    assert all(isinstance(each, Hop) for each in world.table.hops.values())
    world.forget()
    await world.change(Neighbour(GATEWAY, REACHABLE, OTHERS, managed=True, ours=True))
    assert world.kernel.asked == {}
    assert world.table.writes == 1000


@story
async def test_a_stranger_is_looked_up_once_and_not_kept(world: World) -> None:
    await world.serve("10.1.0.1")
    world.forget()
    stranger = NextHop(1, ip_address("10.0.0.254"))
    world.keeper.look_up([stranger, stranger])
    await world.settle()
    await world.wait(5)
    assert (world.kernel.looked_up, world.kernel.kept) == ([stranger], [])


@story
async def test_a_neighbour_that_is_only_confirmed_costs_nothing(world: World) -> None:
    await world.serve("10.0.0.2")
    world.forget()
    to = NextHop(2, ip_address("10.0.0.2"))
    await world.change(*(Neighbour(to, each, THEIRS, True, True) for each in (STALE, REACHABLE)))
    assert (world.kernel.asked, world.table.writes) == ({}, 0)


@story
async def test_a_route_asks_for_its_range_alone(world: World) -> None:
    await world.serve("10.0.0.2", "10.0.1.2", "10.0.1.3", "10.0.2.2")
    world.forget()
    first = int(ip_address("10.0.1.0"))
    await world.change(*[RoutesChanged(Family.IPV4, first, first + 255)] * 50)
    assert world.kernel.asked == {"routes": 2}
    assert world.table.writes == 0


@story
async def test_a_link_asks_for_its_destinations_alone(world: World) -> None:
    world.kernel.ways[ip_address("10.0.0.3")] = Route(3)
    await world.serve("10.0.0.2", "10.0.0.3")
    world.forget()
    await world.change(replace(ETH1, carrier=False))
    assert world.kernel.asked == {"routes": 1}
    assert world.hop("10.0.0.3") == Unresolved("eth1 has no carrier")
    assert isinstance(world.hop("10.0.0.2"), Hop)
    await world.change(AddressesChanged(2))
    assert world.kernel.asked == {"routes": 2}


@story
async def test_a_change_of_the_device_below_is_a_change_of_its_vlans(world: World) -> None:
    vlan = Link(7, "eth0.7", MAC, 1500, "vlan", parent=2, vlan=7)
    world.kernel.devices[7] = vlan
    world.kernel.default = Route(7)
    await world.serve("10.0.0.2")
    assert world.hop("10.0.0.2") == Hop(2, MAC, THEIRS, 1500, 7)
    assert world.table.present == {2}
    await world.change(replace(ETH0, carrier=False))
    assert world.hop("10.0.0.2") == Unresolved("eth0 has no carrier")
    assert world.table.present == set()


@story
async def test_a_failing_neighbour_that_is_tried_again_and_again_is_told_once(
    world: World,
) -> None:
    to = NextHop(2, ip_address("10.0.0.2"))
    world.kernel.answers = False
    await world.serve("10.0.0.2")
    assert world.log() == []  # it may answer yet
    for state in (FAILED, 0x01) * 5:
        await world.change(Neighbour(to, state, b"", managed=True, ours=True))
        await world.wait(0.5)
    reason = "no answer from neighbour 10.0.0.2 on eth0"
    assert world.log() == [f"next hop of 10.0.0.2: {reason}"]
    assert world.keeper.problems() == [(world.table.servers[0], f"{reason} (for 5 s)")]
    assert world.table.writes == 1
    await world.change(Neighbour(to, REACHABLE, THEIRS, managed=True, ours=True))
    assert world.log()[1:] == [f"next hop of 10.0.0.2: {reason} -> 02:00:00:00:00:02 on eth0"]
    assert world.keeper.problems() == []


@story
async def test_one_sentence_for_all_that_a_gateway_takes_with_it(world: World) -> None:
    world.kernel.default = Route(2, GATEWAY.address)
    await world.serve(*many(500))
    await world.change(Neighbour(GATEWAY, FAILED, b"", managed=True, ours=True))
    await world.wait(1.0)
    assert world.log() == [
        "next hop of 10.1.0.0 and 499 more: 02:00:00:00:00:02 on eth0 -> "
        "no answer from neighbour 10.0.0.254 on eth0"
    ]


@story
async def test_many_different_changes_are_a_few_lines_and_a_number(world: World) -> None:
    await world.serve(*many(500))
    for address in many(500):
        to = NextHop(2, ip_address(address))
        world.kernel.put(Neighbour(to, FAILED, b"", managed=True, ours=True))
    await world.settle()
    await world.wait(1.0)
    assert len(world.log()) == 21
    assert world.log()[-1] == "next hops of 480 more servers changed"


@story
async def test_a_neighbour_that_is_gone_is_asked_for_once_a_second(world: World) -> None:
    await world.serve("10.0.0.2")
    to = NextHop(2, ip_address("10.0.0.2"))
    world.kernel.answers = False
    world.forget()
    await world.wait(1.0)
    for _ in range(10):
        await world.change(NeighbourGone(to))
    assert world.kernel.kept == [(to, True)]
    await world.wait(0.9)
    assert world.kernel.kept == [(to, True)]
    await world.wait(0.1)
    assert world.kernel.kept == [(to, True)] * 2


@story
async def test_what_another_looks_after_is_left_alone(world: World) -> None:
    permanent, learned = (NextHop(2, ip_address(f"10.0.0.{n}")) for n in (2, 3))
    world.kernel.table[permanent] = Neighbour(permanent, PERMANENT, THEIRS)
    world.kernel.table[learned] = Neighbour(learned, REACHABLE, THEIRS, learned=True)
    await world.serve("10.0.0.2", "10.0.0.3")
    await world.serve()
    assert (world.kernel.kept, world.kernel.released) == ([], [])


@story
async def test_a_mark_that_somebody_took_away_is_put_back_by_the_next_look(world: World) -> None:
    await world.serve("10.0.0.2")
    to = NextHop(2, ip_address("10.0.0.2"))
    world.forget()
    await world.change(Neighbour(to, REACHABLE, THEIRS, ours=True))
    assert world.kernel.kept == []
    await world.wait(30.0)
    assert world.kernel.kept == [(to, False)]


@story
async def test_a_kernel_without_managed_neighbours_has_them_probed_at_every_look(
    world: World,
) -> None:
    to = NextHop(2, ip_address("10.0.0.2"))
    world.kernel.table[to] = Neighbour(to, STALE, THEIRS, ours=True)
    world.kernel.answers = False
    await world.serve("10.0.0.2")
    for _ in range(3):
        await world.wait(30.0)
    assert world.kernel.kept == [(to, False)] * 4


@story
async def test_an_entry_that_is_being_looked_up_already_is_taken_over(world: World) -> None:
    """The kernel does not announce an entry before it has an answer."""
    to = NextHop(2, ip_address("10.0.0.2"))
    world.kernel.refusing[to] = errno.EEXIST
    await world.serve("10.0.0.2")
    world.kernel.refusing.clear()
    await world.wait(1.0)
    assert world.kernel.kept == [(to, True), (to, False)]
    assert isinstance(world.hop("10.0.0.2"), Hop)


@story
async def test_a_refused_neighbour_is_told_once_and_tried_again(world: World) -> None:
    to = NextHop(2, ip_address("10.0.0.2"))
    world.kernel.refusing[to] = errno.ENOBUFS
    await world.serve("10.0.0.2")
    for _ in range(3):
        await world.wait(30.0)
    told = [line for line in world.log() if "cannot" in line]
    assert told == [
        "cannot have neighbour 10.0.0.2 on eth0 kept resolved: No buffer space available"
    ]
    world.kernel.refusing.clear()
    await world.wait(30.0)
    assert isinstance(world.hop("10.0.0.2"), Hop)


@story
async def test_servers_that_go_give_their_neighbours_and_devices_back(world: World) -> None:
    world.kernel.ways[ip_address("10.0.0.3")] = Route(3)
    await world.serve("10.0.0.2", "10.0.0.3")
    assert world.table.present == {2, 3}
    await world.serve("10.0.0.2")
    assert world.kernel.released == [NextHop(3, ip_address("10.0.0.3"))]
    assert world.table.present == {2}
    assert list(world.table.hops) == [ip_address("10.0.0.2")]


@story
async def test_a_route_that_moves_gives_its_old_neighbour_back(world: World) -> None:
    await world.serve("10.0.0.2")
    world.kernel.default = Route(3)
    await world.change(EVERY_ROUTE)
    assert world.kernel.released == [NextHop(2, ip_address("10.0.0.2"))]
    assert world.table.present == {3}


@story
async def test_devices_of_an_earlier_run_are_removed(world: World) -> None:
    world.table.present = {2, 99}
    await world.serve("10.0.0.2")
    assert world.table.present == {2}


@story
async def test_a_device_that_vanished_from_the_datapath_is_put_back(world: World) -> None:
    await world.serve("10.0.0.2")
    world.table.present.clear()
    await world.wait(30.0)
    assert world.table.present == {2}


@story
async def test_a_device_that_does_not_fit_is_a_reason_until_it_does(world: World) -> None:
    world.table.full = True
    await world.serve("10.0.0.2")
    reason = "XDP cannot transmit on eth0: Argument list too long"
    assert world.hop("10.0.0.2") == Unresolved(reason, 0, 1500)
    world.table.full = False
    await world.wait(30.0)
    assert isinstance(world.hop("10.0.0.2"), Hop)


@story
async def test_a_hop_that_cannot_be_written_is_tried_again_and_holds_up_no_other(
    world: World,
) -> None:
    bad = ip_address("10.0.0.2")
    world.table.refusing[bad] = OSError(errno.ENOMEM, "Cannot allocate memory")
    await world.serve("10.0.0.2", "10.0.0.3", "10.0.0.4")
    await world.wait(1.0)
    await world.wait(1.0)
    assert {str(each) for each in world.table.hops} == {"10.0.0.3", "10.0.0.4"}
    assert sum("Cannot allocate memory" in each for each in world.log()) == 1
    world.table.refusing.clear()
    await world.wait(1.0)
    assert isinstance(world.hop("10.0.0.2"), Hop)
    world.table.servers = []
    world.keeper.refresh()
    await world.settle()
    assert world.table.present == set(), "the device was counted once"


@story
async def test_work_that_is_begun_again_after_a_fault_has_missed_nothing(world: World) -> None:
    world.kernel.pipe = os.pipe()
    await world.serve("10.0.0.2")
    to = NextHop(2, ip_address("10.0.0.2"))
    world.kernel.put(Neighbour(to, REACHABLE, OTHERS, managed=True, ours=True))
    world.keeper._hear()
    world.table.refusing[to.address] = KeyError("a fault")
    with pytest.raises(KeyError):
        await world.keeper.run()
    assert not world.kernel.closed
    world.table.refusing.clear()
    world.now += 1.0
    world.table.written.clear()
    running = asyncio.create_task(world.keeper.run())
    await asyncio.wait_for(world.table.written.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    hop = world.hop("10.0.0.2")
    assert isinstance(hop, Hop)
    assert hop.destination_mac == OTHERS
    assert world.kernel.closed


@story
async def test_lost_events_have_everything_looked_at(world: World) -> None:
    await world.serve("10.0.0.2")
    to = NextHop(2, ip_address("10.0.0.2"))
    world.kernel.announced = None
    world.kernel.table[to] = Neighbour(to, REACHABLE, OTHERS, managed=True, ours=True)
    await world.settle()
    hop = world.hop("10.0.0.2")
    assert isinstance(hop, Hop)
    assert hop.destination_mac == OTHERS


@story
async def test_routes_are_asked_again_in_turn(world: World) -> None:
    await world.serve(*many(ROUTES + 100))
    world.kernel.default = NoRoute("nobody announced it")
    asked = []
    for _ in range(4):
        world.forget()
        await world.wait(30.0)
        asked.append(world.kernel.asked["routes"])
    assert asked == [ROUTES, 100, ROUTES, 100]
    assert all(isinstance(each, Unresolved) for each in world.table.hops.values())


@story
async def test_a_server_that_went_is_not_asked_for_in_its_turn(world: World) -> None:
    await world.serve(*many(ROUTES + 100))
    await world.wait(30.0)
    await world.serve()
    world.forget()
    await world.wait(30.0)
    assert world.kernel.asked["routes"] == 0


@story
async def test_a_storm_beyond_measure_is_one_look(world: World) -> None:
    await world.serve("10.0.0.2")
    world.forget()
    world.kernel.announced = [RoutesChanged(Family.IPV4, n, n) for n in range(STORM + 1)]
    await world.settle()
    assert world.kernel.asked == {"links": 1, "neighbours": 1, "routes": 1}


@story
async def test_what_is_heard_during_a_look_is_newer_than_it(world: World) -> None:
    await world.serve("10.0.0.2")
    to = NextHop(2, ip_address("10.0.0.2"))
    dump = world.kernel.neighbours

    def and_then_it_changes() -> list[Neighbour]:
        found = dump()
        world.kernel.put(Neighbour(to, REACHABLE, OTHERS, managed=True, ours=True))
        world.keeper._hear()
        return found

    world.kernel.neighbours = and_then_it_changes  # type: ignore[method-assign]
    await world.wait(30.0)
    hop = world.hop("10.0.0.2")
    assert isinstance(hop, Hop)
    assert hop.destination_mac == OTHERS


@story
async def test_a_server_that_goes_while_its_route_is_asked_for_is_forgotten(world: World) -> None:
    ask = world.kernel.routes

    def and_then_it_goes(questions: Sequence[Question]) -> list[Route | NoRoute]:
        answers = ask(questions)
        world.keeper.forget([ip_address("10.0.0.2")])
        return answers

    await world.serve("10.0.0.3")
    world.table.hops[ip_address("10.0.0.2")] = Unresolved("as if it were known")
    world.kernel.routes = and_then_it_goes  # type: ignore[method-assign]
    world.keeper.want([ip_address("10.0.0.2")])
    await world.settle()
    assert list(world.table.hops) == [ip_address("10.0.0.3")]
    assert world.kernel.kept == [(NextHop(2, ip_address("10.0.0.3")), True)]


@story
async def test_a_kernel_that_does_not_answer_is_told_once_and_asked_again(world: World) -> None:
    await world.serve("10.0.0.2")
    world.kernel.broken = OSError(errno.ETIMEDOUT, "cannot hear rtnetlink")
    for _ in range(5):
        await world.wait(30.0)
    assert len([line for line in world.log() if "cannot hear rtnetlink" in line]) == 1
    assert isinstance(world.hop("10.0.0.2"), Hop)  # what is known stays
    world.kernel.announced = None
    await world.settle()
    world.kernel.broken = None
    world.kernel.default = NoRoute("no route to it")
    await world.wait(1.0)
    assert world.hop("10.0.0.2") == Unresolved("no route to it")


@story
async def test_a_gateway_that_fails_over_is_not_behind_a_backlog(world: World) -> None:
    """While routes of thousands of others are being asked for."""
    await world.serve("10.0.0.2", *many(5000))
    for each in (EVERY_ROUTE, Neighbour(NextHop(2, ip_address("10.0.0.2")), REACHABLE, OTHERS)):
        world.kernel.put(each)
    world.forget()
    world.keeper._hear()
    await world.keeper.step()
    hop = world.hop("10.0.0.2")
    assert isinstance(hop, Hop)
    assert hop.destination_mac == OTHERS
    assert world.kernel.asked["routes"] <= QUESTIONS


@story
async def test_rest_costs_nothing(world: World) -> None:
    await world.serve(*many(100))
    world.forget()
    due = await world.settle()
    assert due == world.now + 30.0
    assert world.kernel.asked == {}


NUMBERS = st.lists(st.integers(0, 400), unique=True, max_size=100)


@given(NUMBERS, NUMBERS, st.integers(0, 400), st.integers(0, 400))
def test_a_range_finds_what_is_there(there: list[int], gone: list[int], a: int, b: int) -> None:
    destinations = Destinations()
    made = {n: Destination(IPv4Address(n), None) for n in there}
    destinations.add(made.values())
    leaving = [made.pop(n) for n in gone if n in made]
    destinations.remove(leaving)
    first, last = min(a, b), max(a, b)
    found = destinations.within(RoutesChanged(Family.IPV4, first, last))
    assert [int(each.address) for each in found] == sorted(n for n in made if first <= n <= last)
    assert set(destinations) == set(made.values())
    assert destinations.within(RoutesChanged(Family.IPV6, first, last)) == []


@pytest.mark.parametrize("count", [1, 100])
def test_a_next_hop_is_in_use_while_something_is_behind_it(count: int) -> None:
    destinations = Destinations()
    made = [Destination(IPv4Address(n), None) for n in range(count)]
    destinations.add(made)
    for each in made:
        destinations.routed(each, Route(2, GATEWAY.address))
    assert set(destinations.behind(GATEWAY)) == set(made)
    assert list(destinations.on(2)) == [GATEWAY]
    destinations.remove(made)
    assert not destinations.next_hops()
    assert not destinations.on(2)
    assert len(destinations) == 0
