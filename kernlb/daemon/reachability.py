"""What is known of the ways to destinations, and what has to be asked or decided anew. Pure.

It takes in what the kernel answered and announced, and keeps two lists that somebody works off:
``unasked``, destinations whose route is to be looked up, and ``undecided``, those whose outcome
is to be worked out. The path behind a next hop is worked out once for all destinations there.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from itertools import islice

from kernlb.daemon.destinations import Destination, Destinations
from kernlb.daemon.neighbours import Keeping
from kernlb.datapath.xdp.hops import (
    AddressesChanged,
    Event,
    Link,
    LinkGone,
    Neighbour,
    NeighbourGone,
    NextHop,
    NoRoute,
    Outcome,
    Path,
    Route,
    RoutesChanged,
    Unresolved,
    choose_source,
    hop,
    path,
)
from kernlb.model import IPAddress

# An outcome, and the objects by whose identity it is found: hashing them would cost more.
_Shared = tuple[Outcome, Route, IPAddress | None]


class Reachability:
    """Of all destinations of one namespace."""

    def __init__(self, keeping: Keeping, sources: Sequence[IPAddress]) -> None:
        self.neighbours: dict[NextHop, Neighbour] = {}
        self.unasked: dict[Destination, None] = {}
        self.undecided: dict[Destination, None] = {}
        self._keeping = keeping
        self._sources = sources
        self._links: dict[int, Link] = {}
        self._paths: dict[NextHop, Path | Unresolved] = {}
        self._routes: dict[Route, Route] = {}  # one object for all that are alike
        self._shared: dict[NextHop, dict[tuple[int, int, int], _Shared]] = {}
        self._destinations = Destinations()
        self._turns: list[Destination] = []  # whose routes are asked again by the next looks

    def get(self, address: IPAddress) -> Destination | None:
        return self._destinations.get(address)

    def addresses(self) -> Iterator[IPAddress]:
        return (each.address for each in self._destinations)

    def next_hops(self) -> Collection[NextHop]:
        """Those that destinations are reached by."""
        return self._destinations.next_hops()

    def name(self, ifindex: int) -> str:
        link = self._links.get(ifindex)
        return link.name if link is not None else f"interface {ifindex}"

    def keeps(self, to: NextHop) -> bool:
        """It is needed, and its device has neighbours to keep."""
        link = self._links.get(to.ifindex)
        if link is None or not (link.up and link.arp):
            return False
        return bool(self._destinations.behind(to))

    def want(self, addresses: Iterable[IPAddress]) -> None:
        new = [
            Destination(each, choose_source(each, self._sources))
            for each in dict.fromkeys(addresses)
            if self._destinations.get(each) is None
        ]
        self._destinations.add(new)
        self.unasked.update(dict.fromkeys(new))

    def forget(self, addresses: Iterable[IPAddress]) -> list[Destination]:
        """Returns those that were known."""
        known = map(self._destinations.get, dict.fromkeys(addresses))
        leaving = [each for each in known if each is not None]
        next_hops = {each.via for each in leaving if each.via is not None}
        self._destinations.remove(leaving)
        for each in leaving:
            self.unasked.pop(each, None)
            self.undecided.pop(each, None)
        self._left(next_hops)
        return leaving

    def look(
        self, links: Iterable[Link], neighbours: Iterable[Neighbour], routes: int | None
    ) -> None:
        """These are all there are. So many routes are to be asked again, each in its turn, or all
        of them (None)."""
        self._routes.clear()
        self._links = {each.index: each for each in links}
        self.neighbours = {each.next_hop: each for each in neighbours}
        if routes is None or not self._turns:
            self._turns = list(self._destinations)
        for each in self._turns[:routes]:
            if self._destinations.get(each.address) is each:  # and not gone since
                self.unasked[each] = None
        del self._turns[:routes]
        unresolved = (each for each in self._destinations if isinstance(each.outcome, Unresolved))
        self.undecided.update(dict.fromkeys(unresolved))
        needed = self._destinations.next_hops()
        self._keeping.consider(needed)
        self._keeping.unneeded(self.neighbours.keys() - needed)
        self._touch(needed)

    def note(self, event: Event) -> None:
        """Something changed."""
        match event:
            case Neighbour(next_hop=to):
                self.neighbours[to] = event
                self._touch([to])
            case NeighbourGone(next_hop=to):
                self.neighbours.pop(to, None)
                self._keeping.consider([to])
                self._touch([to])
            case Link() | LinkGone():
                self._note_link(event)
            case RoutesChanged():
                self.unasked.update(dict.fromkeys(self._destinations.within(event)))
            case AddressesChanged(ifindex=ifindex):
                self._ask_anew(self._destinations.on(ifindex))

    def next_unasked(self, most: int) -> list[Destination]:
        """They stay on the list until they are answered."""
        return list(islice(self.unasked, most))

    def answered(self, destination: Destination, answer: Route | NoRoute) -> None:
        if destination not in self.unasked:
            return  # forgotten meanwhile
        del self.unasked[destination]
        before = destination.via
        if destination.route == answer:
            return
        if isinstance(answer, Route):
            answer = self._routes.setdefault(answer, answer)
        self._destinations.routed(destination, answer)
        self.undecided[destination] = None
        after = destination.via
        if after == before:
            return
        if before is not None:
            self._left([before])
        if after is not None and after not in self._paths:
            self._touch([after])
            self._keeping.consider([after])

    def take_undecided(self, most: int) -> Iterator[Destination]:
        """Each leaves the list when its turn comes."""
        for each in list(islice(self.undecided, most)):
            del self.undecided[each]
            yield each

    def outcome(self, destination: Destination) -> Outcome:
        """Destinations that have everything in common share one object."""
        route, via, source = destination.route, destination.via, destination.source
        if not isinstance(route, Route) or via is None:
            reason = route.reason if isinstance(route, NoRoute) else "its route is not known yet"
            return Unresolved(reason, source=source)
        shared = self._shared.setdefault(via, {})
        key = id(route), id(source), destination.address.version
        if key not in shared:
            made = hop(destination.address, route, self._paths[via], source)
            shared[key] = made, route, source
        return shared[key][0]

    def _note_link(self, event: Link | LinkGone) -> None:
        index = event.index if isinstance(event, Link) else event.ifindex
        before = self._links.pop(index, None)
        after = event if isinstance(event, Link) else None
        if after is not None:
            self._links[index] = after
        if before == after:
            return
        same = before and after and _usable(before) == _usable(after)
        above = [each.index for each in self._links.values() if each.parent == index]
        for device in (index, *above):
            next_hops = self._destinations.on(device)
            self._touch(next_hops)
            if not same:
                self._keeping.consider(next_hops)
                self._ask_anew(next_hops)  # IPv4 routes go with their device without a word

    def _ask_anew(self, next_hops: Iterable[NextHop]) -> None:
        for to in next_hops:
            self.unasked.update(dict.fromkeys(self._destinations.behind(to)))

    def _touch(self, next_hops: Iterable[NextHop]) -> None:
        """Work out their paths; only what is another now concerns those behind it."""
        for to in next_hops:
            behind = self._destinations.behind(to)
            if not behind:
                continue
            way = path(to, self._links, self.neighbours)
            if way != self._paths.get(to):
                self._paths[to] = way
                self._shared.pop(to, None)
                self.undecided.update(dict.fromkeys(behind))

    def _left(self, next_hops: Iterable[NextHop]) -> None:
        """Some destinations are not behind them any more."""
        left = [to for to in next_hops if not self._destinations.behind(to)]
        self._keeping.unneeded(left)
        for to in left:
            self._paths.pop(to, None)
            self._shared.pop(to, None)


def _usable(link: Link) -> tuple[bool, ...]:
    return link.up, link.carrier, link.arp


def subject(event: Event) -> Hashable:
    """What it tells the latest of."""
    match event:
        case Link(index=index) | LinkGone(ifindex=index):
            return "link", index
        case Neighbour(next_hop=to) | NeighbourGone(next_hop=to):
            return "neighbour", to
        case AddressesChanged(ifindex=index):
            return "addresses", index
        case RoutesChanged():
            return "routes", event
