"""A hop from values: what the kernel said, and what a frame then needs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernlb.datapath.xdp.hops import (
    NOARP,
    PERMANENT,
    PROBE,
    REACHABLE,
    STALE,
    Hop,
    Link,
    Neighbour,
    NextHop,
    NoRoute,
    Outcome,
    Route,
    Unresolved,
    choose_source,
    decide,
)
from kernlb.model import IPAddress

SERVER, GATEWAY, OWN = map(ip_address, ("10.0.0.2", "10.0.0.254", "10.0.0.1"))
SERVER6, GATEWAY6 = map(ip_address, ("fd00::2", "fe80::1"))
INCOMPLETE, FAILED = 0x01, 0x20
MAC, VLAN_MAC, THEIRS = (bytes([2, 0, 0, 0, 0, last]) for last in (1, 2, 3))
ETH0 = Link(2, "eth0", MAC, 1500)
VLAN = Link(3, "eth0.7", VLAN_MAC, 1496, "vlan", parent=2, vlan=7)


def outcome(
    *links: Link,
    server: IPAddress = SERVER,
    route: Route | NoRoute | None = None,
    state: int = REACHABLE,
    mac: bytes = THEIRS,
    source: IPAddress | None = None,
) -> Outcome:
    """Of ``server`` by the last of ``links``, where a neighbour in ``state`` is."""
    if route is None:
        route = Route(links[-1].index, source=OWN)
    neighbours = {}
    if isinstance(route, Route):
        to = NextHop(route.ifindex, route.gateway or server)
        neighbours[to] = Neighbour(to, state, mac)
    return decide(server, route, {each.index: each for each in links}, neighbours, source)


def reason(given: Outcome) -> str:
    assert isinstance(given, Unresolved), given
    return given.reason


def known(given: Outcome) -> Hop:
    assert isinstance(given, Hop), given
    return given


def test_a_server_on_the_link() -> None:
    assert outcome(ETH0) == Hop(2, MAC, THEIRS, 1500, 0, OWN)


@pytest.mark.parametrize("gateway", [GATEWAY, GATEWAY6])
def test_a_server_behind_a_gateway_of_either_family(gateway: IPAddress) -> None:
    assert known(outcome(ETH0, route=Route(2, gateway))).destination_mac == THEIRS


def test_a_vlan_device_is_its_parent_and_a_tag() -> None:
    assert outcome(ETH0, VLAN) == Hop(2, VLAN_MAC, THEIRS, 1496, 7, OWN)


@pytest.mark.parametrize("state", [REACHABLE, STALE, 0x08, PROBE, PERMANENT, NOARP])
def test_an_address_that_the_kernel_would_use_is_used(state: int) -> None:
    assert known(outcome(ETH0, state=state)).destination_mac == THEIRS


@pytest.mark.parametrize("state", [0, INCOMPLETE, FAILED])
def test_the_last_known_address_of_a_dead_neighbour_is_not_used(state: int) -> None:
    """What is known beside it serves the program's own lookup."""
    assert outcome(ETH0, state=state) == Unresolved(
        "no answer from neighbour 10.0.0.2 on eth0", ifindex=2, mtu=1500, source=OWN
    )


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([replace(ETH0, up=False)], "eth0 is down"),
        ([replace(ETH0, carrier=False)], "eth0 has no carrier"),
        ([replace(ETH0, arp=False)], "eth0 has no Ethernet neighbours"),
        ([replace(ETH0, mac=b"")], "eth0 has no Ethernet neighbours"),
        ([VLAN], "the interface below eth0.7 is not in this namespace"),
        ([replace(ETH0, up=False), VLAN], "eth0 is down"),
        ([ETH0, replace(VLAN, up=False)], "eth0.7 is down"),
        (
            [ETH0, VLAN, replace(VLAN, index=4, name="eth0.7.8", parent=3, vlan=8)],
            "eth0.7.8 puts two VLAN tags on a frame, and only one can be written",
        ),
        (
            [ETH0, replace(VLAN, vlan_protocol=0x88A8)],
            "eth0.7 is not 802.1Q (protocol 0x88a8)",
        ),
    ],
)
def test_a_device_that_cannot_is_a_reason(links: list[Link], expected: str) -> None:
    assert reason(outcome(*links)) == expected


def test_an_interface_that_is_not_there_is_a_reason() -> None:
    assert reason(outcome(ETH0, route=Route(9))) == "there is no interface 9"


def test_what_the_kernel_refuses_is_its_reason() -> None:
    assert outcome(ETH0, route=NoRoute("no route to it"), source=OWN) == Unresolved(
        "no route to it", source=OWN
    )


@pytest.mark.parametrize("kind", ["bridge", "team", "macvlan"])
def test_a_device_that_does_not_send_for_xdp_is_told(kind: str) -> None:
    hop = known(outcome(replace(ETH0, name="x0", kind=kind)))
    assert (hop.ifindex, hop.note) == (2, f"x0 ({kind}) cannot transmit for XDP")


@pytest.mark.parametrize(("mode", "sends"), [(m, m not in (3, 5, 6)) for m in range(7)])
def test_a_bond_sends_in_some_modes(mode: int, sends: bool) -> None:
    bond = replace(ETH0, name="bond0", kind="bond", bond_mode=mode)
    expected = "" if sends else f"bond0 (bond mode {mode}) cannot transmit for XDP"
    assert known(outcome(bond)).note == expected
    tagged = replace(VLAN, name="bond0.7")
    assert known(outcome(bond, tagged)).note == expected


@pytest.mark.parametrize(
    ("link", "route", "mtu"),
    [(1500, 0, 1500), (1500, 1400, 1400), (1500, 9000, 1500), (9000, 8000, 8000)],
)
def test_the_mtu_is_the_smaller_of_route_and_device(link: int, route: int, mtu: int) -> None:
    assert known(outcome(replace(ETH0, mtu=link), route=Route(2, mtu=route))).mtu == mtu


def test_ipv6_may_have_an_mtu_of_its_own() -> None:
    link = replace(ETH0, mtu6=1280)
    assert known(outcome(link, server=SERVER6)).mtu == 1280
    assert known(outcome(link)).mtu == 1500


def test_the_operators_source_comes_before_the_routes() -> None:
    chosen = ip_address("10.0.0.99")
    assert known(outcome(ETH0, source=chosen)).source == chosen


@pytest.mark.parametrize(
    ("entry", "another", "ours"),
    [
        (Neighbour(NextHop(2, SERVER), REACHABLE), False, False),
        (Neighbour(NextHop(2, SERVER), PERMANENT), True, False),
        (Neighbour(NextHop(2, SERVER), NOARP), True, False),
        (Neighbour(NextHop(2, SERVER), REACHABLE, learned=True), True, False),
        (Neighbour(NextHop(2, SERVER), REACHABLE, managed=True), True, False),
        (Neighbour(NextHop(2, SERVER), FAILED, managed=True, ours=True), False, True),
        (Neighbour(NextHop(2, SERVER), STALE, managed=False, ours=True), False, False),
        (Neighbour(NextHop(2, SERVER), PERMANENT, managed=True, ours=True), True, False),
    ],
)
def test_who_looks_after_a_neighbour(entry: Neighbour, another: bool, ours: bool) -> None:
    assert (entry.keeper_is_another, entry.kept_by_us) == (another, ours)


ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)


def test_a_source_is_of_the_servers_family() -> None:
    sources = [OWN, SERVER6]
    assert choose_source(GATEWAY6, sources) == SERVER6
    assert choose_source(GATEWAY, sources) == OWN
    assert choose_source(GATEWAY, [SERVER6]) is None
    assert choose_source(GATEWAY, []) is None


@given(st.lists(ADDRESSES, min_size=2, max_size=8, unique=True), ADDRESSES)
def test_a_source_that_goes_moves_only_its_own_servers(
    sources: list[IPv4Address], server: IPv4Address
) -> None:
    chosen = choose_source(server, sources)
    assert choose_source(server, sources[::-1]) == chosen
    for gone in sources:
        if gone != chosen:
            assert choose_source(server, [each for each in sources if each != gone]) == chosen


def test_sources_share_the_servers() -> None:
    sources = [ip_address(f"10.0.0.{n}") for n in range(1, 5)]
    chosen = [choose_source(IPv4Address(0x0A010000 + n), sources) for n in range(4000)]
    assert all(800 < chosen.count(source) < 1200 for source in sources)
