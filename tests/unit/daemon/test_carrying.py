"""Marks, ways and what becomes of them; sysctls that are put back; who answers ARP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from kernlb.config import parse_service
from kernlb.daemon.carrying import Carrying
from kernlb.daemon.events import Events
from kernlb.daemon.replies import Replies
from kernlb.daemon.strays import AT_ONCE, Neighbourhood, Strays
from kernlb.datapath.probing import MARKS, Carrier, Paths
from kernlb.datapath.xdp.hops import Link, Neighbour, NextHop, NoRoute, Question, Route
from kernlb.declaration import Declaration
from kernlb.health.check import Carried, Way
from kernlb.model import DatapathKind, Family, IPAddress

OURS, OURS6 = ip_address("10.0.0.254"), ip_address("fd00::254")
ETH0 = Link(2, "eth0", bytes(6), 1500)


class Kernel:
    """Takes paths, answers questions for routes: all servers are on eth0."""

    def __init__(self) -> None:
        self.paths: Paths | None = None
        self.refuses: dict[str, str] = {}  # server's address -> why
        self.broken = ""
        self.unreachable: set[IPAddress] = set()
        self.appears: Link | None = None  # while the questions are asked, with a route by it
        self.there = [ETH0]

    def carry(self, paths: Paths) -> Mapping[int, str]:
        if self.broken:
            raise OSError(95, self.broken)
        self.paths = dict(paths)
        addresses = {mark: str(path.server.address) for mark, path in paths.items()}
        return {m: self.refuses[a] for m, a in addresses.items() if a in self.refuses}

    def links(self) -> list[Link]:
        return list(self.there)

    def neighbours(self) -> list[Neighbour]:
        return []

    def routes(self, questions: Sequence[Question]) -> list[Route | NoRoute]:
        if self.appears is not None:
            self.there.append(self.appears)
        return [self.route(each.destination) for each in questions]

    def route(self, to: IPAddress) -> Route | NoRoute:
        if to in self.unreachable:
            return NoRoute(f"no route to {to}")
        ifindex = self.appears.index if self.appears is not None else 2
        return Route(ifindex, None, OURS if to.version == 4 else None)

    def close(self) -> None:
        pass


class Host:
    def __init__(self, folder: Path) -> None:
        for conf in ("all", "eth0"):
            place = folder / "sys/net/ipv4/conf" / conf
            place.mkdir(parents=True)
            (place / "accept_local").write_text("0\n")
            (place / "rp_filter").write_text("1\n")
        self.folder = folder
        self.kernel = Kernel()
        self.events = Events(lambda: 0.0)
        self.carrying = self.made()

    def made(self) -> Carrying:
        return Carrying(
            lambda kind: self.carrier(kind),
            lambda: self.kernel,
            lambda interface, family: OURS6 if family is Family.IPV6 else None,
            lambda interface, vips, patience: set(),
            Replies(self.folder, self.events, self.folder / "sys"),
            self.events,
        )

    def carrier(self, kind: DatapathKind) -> Carrier | None:
        return self.kernel if kind is DatapathKind.IPVS else None

    def follow(self, *declarations: Declaration) -> list[Carried]:
        """As the health keeper does it: first carry, then follow."""
        made = [
            carried
            for each in declarations
            for server in each.servers
            if (carried := self.carrying.carry(each, server)) is not None
        ]
        self.carrying.follow({each.name: each for each in declarations})
        return made

    def sysctl(self, name: str, conf: str = "eth0") -> str:
        return (self.folder / "sys/net/ipv4/conf" / conf / name).read_text().strip()

    @property
    def told(self) -> str:
        return "\n".join(each.text for each in self.events)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def service(name: str = "web", vip: str = "192.0.2.10", *servers: str, **more: str) -> Declaration:
    listed = ", ".join(f"{{address: '{each}'}}" for each in servers or ("10.0.0.1", "10.0.0.2"))
    words = {"forwarding": "dsr", "datapath": "ipvs", "check": "{type: tcp, via: vip}", **more}
    text = f"address: '{vip}'\nport: 80\nservers: [{listed}]\n"
    text += "".join(f"{key}: {value}\n" for key, value in words.items())
    return parse_service(text.encode(), name=name, source=f"{name}.yaml")


def way(carried: Carried) -> Way:
    assert carried.look is not None
    return carried.look()


def test_each_server_has_a_mark_and_a_way(host: Host) -> None:
    one, two = host.follow(service())
    assert one.mark != two.mark
    assert {one.mark, two.mark} <= set(MARKS)
    assert way(one) == way(two) == Way(OURS)
    assert host.kernel.paths is not None
    assert host.kernel.paths.keys() == {one.mark, two.mark}


def test_a_mark_stays_with_its_server_and_is_given_to_another_when_it_is_gone(host: Host) -> None:
    one, two = host.follow(service())
    (again,) = host.follow(service("web", "192.0.2.10", "10.0.0.2"))
    assert again.mark == two.mark
    assert way(one).trouble
    _, new = host.follow(service("web", "192.0.2.10", "10.0.0.2", "10.0.0.3"))
    assert new.mark == one.mark


def test_what_is_only_planned_touches_nothing(host: Host) -> None:
    planned = host.carrying.carry(service(), service().servers[0])
    assert planned is not None
    assert host.kernel.paths is None
    assert way(planned).trouble
    assert host.sysctl("accept_local") == "0"


def test_servers_that_are_asked_at_their_own_address_cost_nothing(host: Host) -> None:
    host.carrying.follow({"web": service(check="tcp")})
    assert host.kernel.paths is None
    assert host.told == ""


def test_where_all_marks_are_used_up_the_rest_is_not_asked(host: Host) -> None:
    host.carrying._spare = iter([MARKS[0]])
    one, two = host.follow(service())
    assert way(one) == Way(OURS)
    assert way(two).trouble == "no more than 65536 servers are asked at their VIPs"


def test_a_server_without_a_route_is_not_asked_and_the_others_are(host: Host) -> None:
    host.kernel.unreachable = {ip_address("10.0.0.1")}
    one, two = host.follow(service())
    assert way(one) == Way(None, "no route to 10.0.0.1")
    assert way(two) == Way(OURS)


def test_a_link_that_comes_while_routes_are_asked_is_known(host: Host) -> None:
    host.kernel.appears = Link(2, "eth0", bytes(6), 1500)
    host.kernel.there = []
    one, _ = host.follow(service())
    assert way(one) == Way(OURS)


def test_a_link_that_goes_while_routes_are_asked_leaves_a_way_that_is_asked_for_again(
    host: Host,
) -> None:
    host.kernel.there = []
    one, two = host.follow(service())
    assert way(one) == Way(None, "the link to 10.0.0.1 (interface 2) is not there any more")
    assert way(two).trouble
    assert host.kernel.paths == {}
    host.kernel.there = [ETH0]
    host.carrying._apply(host.carrying._ask())
    assert way(one) == way(two) == Way(OURS)


def test_what_the_kernel_refuses_is_told_and_is_not_the_servers_fault(host: Host) -> None:
    host.kernel.refuses = {"10.0.0.2": "no room"}
    one, two = host.follow(service())
    assert (way(one).trouble, way(two).trouble) == ("", "no room")
    assert "probes at a VIP: no room" in host.told
    host.kernel.broken = "no classifier"
    (_, three) = host.follow(service("web", "192.0.2.10", "10.0.0.1", "10.0.0.3"))
    assert "no classifier" in way(one).trouble
    assert "no classifier" in way(three).trouble


def test_a_datapath_that_is_not_there(host: Host) -> None:
    one, _ = host.follow(service(datapath="xdp", scheduler="rr"))
    assert way(one).trouble == "there is no xdp here"


def test_a_vip_of_the_other_family_is_answered_at_an_address_of_that_family(host: Host) -> None:
    (one,) = host.follow(service("web", "fd00:aa::10", "10.0.0.1", forwarding="tunnel"))
    assert way(one) == Way(OURS6)
    assert host.kernel.paths is not None
    assert host.kernel.paths[one.mark].source == OURS
    assert host.sysctl("accept_local") == "0", "IPv6 needs no sysctl"


def test_settings_of_the_interface_are_put_back_even_after_a_restart(host: Host) -> None:
    host.follow(service())
    assert (host.sysctl("accept_local"), host.sysctl("rp_filter")) == ("1", "2")
    assert "net.ipv4.conf.eth0.rp_filter 1 -> 2 for answers to probes at a VIP" in host.told
    assert (host.sysctl("accept_local", "all"), host.sysctl("rp_filter", "all")) == ("0", "1")
    host.carrying = host.made()
    host.follow()
    assert (host.sysctl("accept_local"), host.sysctl("rp_filter")) == ("0", "1")
    assert host.kernel.paths == {}
    assert not (host.folder / "probing.json").exists()


@pytest.mark.parametrize(
    ("all_", "own", "after"), [("0", "0", "0"), ("2", "1", "1"), ("1", "2", "2"), ("1", "0", "2")]
)
def test_a_filter_that_is_loose_already_stays(host: Host, all_: str, own: str, after: str) -> None:
    """The larger of the two counts."""
    for conf, value in (("all", all_), ("eth0", own)):
        (host.folder / "sys/net/ipv4/conf" / conf / "rp_filter").write_text(value)
    host.follow(service())
    assert host.sysctl("rp_filter") == after


VIP = IPv4Address("192.0.2.10")


def test_who_answers_arp_is_known_by_its_own_mac() -> None:
    macs = {"10.0.0.1": b"\2\0\0\0\0\1", "10.0.0.2": b"\2\0\0\0\0\2"}
    answering = {(VIP, macs["10.0.0.2"]), (VIP, b"\2another")}
    table = [Neighbour(NextHop(2, ip_address(a)), 2, mac) for a, mac in macs.items()]
    strays = Strays(lambda interface, vips, patience: answering, lambda: table)
    places = [Neighbourhood("eth0", ip_address(each), VIP, OURS) for each in macs]  # type: ignore[arg-type]
    strays.look(places)
    assert strays.found == {(ip_address("10.0.0.2"), VIP)}
    answering.clear()
    strays.look(places)
    assert strays.found == set()


def test_many_vips_are_asked_for_by_turns() -> None:
    asked: list[set[IPv4Address]] = []

    def who_has(
        interface: str, vips: Mapping[IPv4Address, IPv4Address], patience: float
    ) -> set[tuple[IPv4Address, bytes]]:
        asked.append(set(vips))
        return set()

    strays = Strays(who_has, list)
    vips = [VIP + number for number in range(AT_ONCE + 10)]
    places = [Neighbourhood("eth0", ip_address("10.0.0.1"), vip, OURS) for vip in vips]  # type: ignore[arg-type]
    strays.look(places)
    strays.look(places)
    assert max(map(len, asked)) == AT_ONCE
    assert set().union(*asked) == set(vips)
