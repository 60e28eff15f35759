"""The third opinion in the daemon: who may be ejected, for how long, and what is remembered."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from kernlb.config import parse_service
from kernlb.daemon.events import Events
from kernlb.daemon.passive import PassiveWatch
from kernlb.declaration import Declaration
from kernlb.health.passive import EJECTION, FEWEST, LONGEST, WINDOW
from kernlb.model import ServerKey, ServiceKey, ServiceRef


def server(number: int) -> ServerKey:
    return ServerKey(ip_address(f"10.0.0.{number}"), 80)


def declared(servers: int, more: str = "") -> Declaration:
    listed = ", ".join(f"{{address: 10.0.0.{each}}}" for each in range(1, servers + 1))
    text = (
        "address: 192.0.2.10\nport: 80\ndatapath: xdp\nforwarding: dsr\ncheck: tcp\n"
        f"health: {{passive: true}}\nservers: [{listed}{more}]\n"
        "sorry_server: {address: 10.0.0.99}\n"
    )
    return parse_service(text.encode(), name="web", source="web.yaml")


class Site:
    """A service by XDP: what is ejected leaves the kernel, and comes back with counters at 0."""

    def __init__(self, servers: int = 4, more: str = "") -> None:
        self.declaration = declared(servers, more)
        self.now = 0.0
        self.out: set[ServerKey] = set()  # drained, disabled or down
        self.gone: set[ServerKey] = set()  # out of the kernel for these
        self.bad = {server(1)}  # clients send their first packets there again and again
        self.well: set[ServerKey] = set()  # connections begin there
        self.counters: dict[ServerKey, tuple[int, int, int]] = {}
        self.events = Events(lambda: self.now)
        self.again: list[ServiceRef] = []
        self.watch = PassiveWatch(
            self,
            lambda: [self.declaration] if self.declaration.servers else [],
            lambda declaration: {server(99)} | self.placed() - self.out,
            self.events,
            self.again.extend,
            lambda: self.now,
        )

    def placed(self) -> set[ServerKey]:
        keys = {each.key for each in self.declaration.servers}
        return {each for each in keys - self.gone if not self.ejected(each)}

    def ejected(self, key: ServerKey) -> bool:
        return self.watch.ejected(self.declaration.ref, key)

    def signals(
        self, keys: Iterable[ServiceKey]
    ) -> dict[ServiceKey, dict[ServerKey, tuple[int, int, int]]]:
        here = self.placed() | {server(99)}
        self.counters = {each: self.counters.get(each, (0, 0, 0)) for each in here}
        for each in self.bad & here:
            begun, again, unreachable = self.counters[each]
            self.counters[each] = begun, again + FEWEST, unreachable
        for each in self.well & here:
            self.counters[each] = (self.counters[each][0] + 1, *self.counters[each][1:])
        return {key: dict(self.counters) for key in keys}

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / WINDOW)):
            self.watch.look()
            self.now += WINDOW

    @property
    def told(self) -> list[str]:
        return [each.text for each in self.events]

    @property
    def lasted(self) -> list[float]:
        return [float(each.split()[6]) for each in self.told if "is ejected" in each]


def test_a_server_that_clients_do_not_reach_is_ejected_and_may_come_back() -> None:
    site = Site()
    site.pass_time(2 * WINDOW)
    assert site.ejected(server(1))
    assert site.again == [site.declaration.ref]
    why = f"{FEWEST} first packets sent again, and no connection begun"
    assert site.told == [f"real server web/10.0.0.1:80 is ejected for 10 s: {why}"]
    site.bad.clear()
    site.pass_time(EJECTION)
    assert not site.ejected(server(1))
    assert site.told[1:] == ["real server web/10.0.0.1:80 may show that it serves"]


def test_an_ejection_of_a_server_that_is_removed_doubles_in_a_row() -> None:
    site = Site()
    site.pass_time(2400)
    assert site.lasted[:8] == [10, 20, 40, 80, 160, LONGEST, LONGEST, LONGEST]


def test_a_connection_begun_ends_the_row() -> None:
    site = Site()
    site.pass_time(60)
    assert site.lasted == [10, 20, 40]
    site.bad, site.well = set(), {server(1)}
    site.pass_time(40)
    site.bad, site.well = {server(1)}, set()
    site.pass_time(10)
    assert site.lasted == [10, 20, 40, 10]


def test_who_does_not_serve_counts_as_out() -> None:
    """Two of three are drained, disabled or down: the third is all that there is."""
    for gone in (True, False):  # out of the kernel, or with weight 0
        site = Site(3)
        site.out = {server(2), server(3)}
        site.gone = set(site.out) if gone else set()
        site.pass_time(60)
        assert site.lasted == []


def test_more_than_half_of_the_servers_serve_without_the_one_that_is_ejected() -> None:
    site = Site(7)
    site.bad = {server(each) for each in range(1, 8)}
    site.pass_time(2 * WINDOW)
    assert sum(map(site.ejected, site.bad)) == 3
    site = Site(7)
    site.out, site.bad = {server(7)}, {server(each) for each in range(1, 8)}
    site.pass_time(2 * WINDOW)
    assert sum(map(site.ejected, site.bad)) == 2
    assert not site.ejected(server(7)), "who takes no connections is not suspected"


def test_an_ejection_ends_where_nobody_else_serves_any_more() -> None:
    site = Site()
    site.pass_time(2400)
    site.pass_time(10)
    assert site.ejected(server(1))
    site.out = {server(2), server(3), server(4)}
    site.pass_time(WINDOW)
    assert not site.ejected(server(1))
    site.pass_time(60)
    assert not site.ejected(server(1))


def test_of_two_servers_none_is_ejected() -> None:
    site = Site(2)
    site.pass_time(60)
    assert site.lasted == []


def test_servers_that_are_not_checked_and_sorry_servers_are_not_judged() -> None:
    site = Site(4, ", {address: 10.0.0.5, check: none}")
    site.bad = {server(5), server(99)}
    site.pass_time(60)
    assert site.lasted == []


def test_who_is_not_declared_any_more_is_forgotten() -> None:
    site = Site()
    site.pass_time(4)
    assert site.watch._suspects
    site.declaration = declared(0)
    site.pass_time(2)
    assert not site.watch._suspects
    assert not site.ejected(server(1))
