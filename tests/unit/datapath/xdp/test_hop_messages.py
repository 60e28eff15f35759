"""Rtnetlink read from bytes: messages built by pyroute2, an encoder that is not ours."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from kernlb.datapath.xdp import hop_requests
from kernlb.datapath.xdp.hop_replies import ERROR, MalformedError, Message, event, route, split
from kernlb.datapath.xdp.hop_requests import PROTOCOL
from kernlb.datapath.xdp.hops import (
    AddressesChanged,
    Link,
    LinkGone,
    Neighbour,
    NeighbourGone,
    NextHop,
    NoRoute,
    Question,
    Route,
    RoutesChanged,
)
from kernlb.model import Family

SERVER, SERVER6 = ip_address("10.0.0.2"), ip_address("fd00::2")
NEW_LINK, DEL_LINK, NEW_ADDR, NEW_ROUTE, DEL_ROUTE, NEW_NEIGH, DEL_NEIGH, NEW_RULE = (
    *(16, 17, 20, 24, 25, 28, 29),
    32,
)
MAC = "02:00:00:00:00:01"
EVERYTHING = (
    RoutesChanged(Family.IPV4, 0, 2**32 - 1),
    RoutesChanged(Family.IPV6, 0, 2**128 - 1),
)


def message(kind: int, value: nlmsg) -> Message:
    """What :func:`split` makes of an encoded message."""
    value["header"]["type"] = kind
    value.encode()
    (only,) = split(bytes(value.data))
    assert only.type == kind
    return only


def link(**settings: object) -> Message:
    value = ifinfmsg()
    value.update({"family": 0, "ifi_type": 1, "index": 3, "flags": 0x11043})
    value["attrs"] = [("IFLA_IFNAME", "eth0.7"), ("IFLA_ADDRESS", MAC), ("IFLA_MTU", 1496)]
    attributes = settings.pop("attrs", [])
    assert isinstance(attributes, list)
    value["attrs"] += attributes
    value.update(settings)
    return message(NEW_LINK, value)


def vlan(*more: tuple[str, object], protocol: int = 0x8100) -> Message:
    data = {"attrs": [("IFLA_VLAN_ID", 7), ("IFLA_VLAN_PROTOCOL", protocol)]}
    info = {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]}
    return link(attrs=[("IFLA_LINK", 2), ("IFLA_LINKINFO", info), *more])


def neighbour(address: str, *more: tuple[str, object], **settings: object) -> nlmsg:
    value = ndmsg()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    value.update({"family": family, "ifindex": 2, "state": 2, "flags": 0, **settings})
    value["attrs"] = [("NDA_DST", address), ("NDA_LLADDR", MAC), *more]
    return value


def answer(*attributes: tuple[str, object], kind: int = 1, family: int = 2) -> Message:
    value = rtmsg()
    value.update({"family": family, "dst_len": 32 if family == 2 else 128, "type": kind})
    value["attrs"] = list(attributes)
    return message(NEW_ROUTE, value)


def refusal(number: int) -> Message:
    return Message(ERROR, 1, struct.pack("=i", -number))


def test_a_device() -> None:
    expected = Link(3, "eth0.7", bytes.fromhex(MAC.replace(":", "")), 1496)
    assert event(link()) == (expected,)


def test_a_vlan_device() -> None:
    (device,) = event(vlan())
    assert isinstance(device, Link)
    assert (device.kind, device.parent, device.vlan) == ("vlan", 2, 7)
    assert device.vlan_protocol == 0x8100


def test_a_vlan_device_of_a_providers() -> None:
    (device,) = event(vlan(protocol=0x88A8))
    assert isinstance(device, Link)
    assert device.vlan_protocol == 0x88A8


def test_a_vlan_device_on_one_of_another_namespace_has_no_parent() -> None:
    (device,) = event(vlan(("IFLA_LINK_NETNSID", 1)))
    assert isinstance(device, Link)
    assert device.parent == 0


def test_a_bond() -> None:
    data = {"attrs": [("IFLA_BOND_MODE", 6)]}
    info = {"attrs": [("IFLA_INFO_KIND", "bond"), ("IFLA_INFO_DATA", data)]}
    (device,) = event(link(attrs=[("IFLA_LINKINFO", info)]))
    assert isinstance(device, Link)
    assert (device.kind, device.bond_mode) == ("bond", 6)


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({"flags": 0x11042}, "up", False),
        ({"flags": 0x1003}, "carrier", False),
        ({"flags": 0x110C3}, "arp", False),
        ({"ifi_type": 65534}, "arp", False),
        ({"ifi_type": 65534}, "mac", b""),
    ],
)
def test_what_a_device_cannot(settings: dict[str, object], field: str, value: object) -> None:
    (device,) = event(link(**settings))
    assert getattr(device, field) == value


def test_a_bridges_word_on_its_port_is_no_event() -> None:
    assert event(link(family=7)) == ()


def test_a_device_that_goes() -> None:
    assert event(link()._replace(type=DEL_LINK)) == (LinkGone(3),)


@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_a_neighbour(address: object) -> None:
    to = NextHop(2, ip_address(str(address)))
    mac = bytes.fromhex(MAC.replace(":", ""))
    assert event(message(NEW_NEIGH, neighbour(str(address)))) == (Neighbour(to, 2, mac),)
    assert event(message(DEL_NEIGH, neighbour(str(address)))) == (NeighbourGone(to),)


def test_who_looks_after_a_neighbour() -> None:
    marks = (("NDA_PROTOCOL", PROTOCOL), ("NDA_FLAGS_EXT", 1))
    (entry,) = event(message(NEW_NEIGH, neighbour(str(SERVER), *marks, flags=0x10)))
    assert isinstance(entry, Neighbour)
    assert (entry.ours, entry.managed, entry.learned) == (True, True, True)
    (entry,) = event(message(NEW_NEIGH, neighbour(str(SERVER), ("NDA_PROTOCOL", 3))))
    assert isinstance(entry, Neighbour)
    assert (entry.ours, entry.managed, entry.learned) == (False, False, False)


def test_an_entry_of_a_bridges_table_is_no_event() -> None:
    assert event(message(NEW_NEIGH, neighbour(str(SERVER), family=7))) == ()


@pytest.mark.parametrize(
    ("destination", "length", "family", "first", "last"),
    [
        ("10.9.0.0", 16, Family.IPV4, "10.9.0.0", "10.9.255.255"),
        ("10.9.0.7", 32, Family.IPV4, "10.9.0.7", "10.9.0.7"),
        (None, 0, Family.IPV4, "0.0.0.0", "255.255.255.255"),
        ("fd00::", 64, Family.IPV6, "fd00::", "fd00::ffff:ffff:ffff:ffff"),
        (None, 0, Family.IPV6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_a_route_concerns_its_range(
    destination: str | None, length: int, family: Family, first: str, last: str
) -> None:
    value = rtmsg()
    number = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    value.update({"family": number, "dst_len": length, "type": 1})
    value["attrs"] = [("RTA_DST", destination)] if destination else []
    expected = (RoutesChanged(family, int(ip_address(first)), int(ip_address(last))),)
    assert event(message(DEL_ROUTE, value)) == expected


def test_a_rule_concerns_everything() -> None:
    assert event(Message(NEW_RULE, 0, bytes(12))) == EVERYTHING


def test_an_address_concerns_its_device() -> None:
    body = struct.pack("=BBBBI", 2, 24, 0, 0, 5)
    assert event(Message(NEW_ADDR, 0, body)) == (AddressesChanged(5),)


def test_an_answer_in_full() -> None:
    found = answer(
        ("RTA_OIF", 4),
        ("RTA_GATEWAY", "10.0.0.254"),
        ("RTA_PREFSRC", "10.0.0.1"),
        ("RTA_METRICS", {"attrs": [("RTAX_MTU", 1400)]}),
    )
    gateway, source = ip_address("10.0.0.254"), ip_address("10.0.0.1")
    assert route(Question(SERVER), found) == Route(4, gateway, source, 1400)


def test_an_answer_on_the_link() -> None:
    assert route(Question(SERVER), answer(("RTA_OIF", 4))) == Route(4)


def test_an_answer_by_a_gateway_of_the_other_family() -> None:
    via = {"family": socket.AF_INET6, "addr": "fe80::1"}
    found = answer(("RTA_OIF", 4), ("RTA_VIA", via))
    assert route(Question(SERVER), found) == Route(4, ip_address("fe80::1"))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (2, "10.0.0.2 is this host itself, and XDP cannot deliver to it"),
        (3, "10.0.0.2 is a broadcast address"),
        (5, "10.0.0.2 is a multicast address"),
        (6, "a route discards what goes to 10.0.0.2"),
        (7, "a route declares 10.0.0.2 unreachable"),
        (8, "a route or rule prohibits 10.0.0.2"),
        (200, "the route to 10.0.0.2 is none"),
    ],
)
def test_an_answer_that_is_no_way(kind: int, reason: str) -> None:
    assert route(Question(SERVER), answer(("RTA_OIF", 4), kind=kind)) == NoRoute(reason)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENETUNREACH, "no route to 10.0.0.2"),
        (errno.EACCES, "a route or rule prohibits 10.0.0.2"),
        (errno.EPERM, "cannot look up the route to 10.0.0.2: EPERM"),
    ],
)
def test_an_error_for_an_answer(number: int, reason: str) -> None:
    assert route(Question(SERVER), refusal(number)) == NoRoute(reason)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("address", [SERVER, SERVER6])
def test_what_is_asked_is_what_pyroute2_reads(address: object, new: bool) -> None:
    to = NextHop(5, ip_address(str(address)))
    value = ndmsg(hop_requests.keep(to, new, 9))
    value.decode()
    assert value["header"]["sequence_number"] == 9
    assert bool(value["header"]["flags"] & 0x200) is new  # NLM_F_EXCL
    assert (value["ifindex"], value["flags"], value["state"]) == (5, 0x11, 0)
    assert value.get_attr("NDA_DST") == str(address)
    assert (value.get_attr("NDA_PROTOCOL"), value.get_attr("NDA_FLAGS_EXT")) == (PROTOCOL, 1)
    value = ndmsg(hop_requests.release(to, 9))
    value.decode()
    assert (value["flags"], value.get_attr("NDA_FLAGS_EXT")) == (1, None)


def test_a_question_is_what_pyroute2_reads() -> None:
    source = ip_address("10.0.0.1")
    value = rtmsg(hop_requests.get_route(Question(SERVER, source), 3))
    value.decode()
    assert (value["dst_len"], value["src_len"]) == (32, 32)
    assert (value.get_attr("RTA_DST"), value.get_attr("RTA_SRC")) == (str(SERVER), str(source))


@given(st.binary(max_size=200), st.sampled_from([*range(16, 36), 104, 105]))
def test_any_bytes_end_in_events_or_one_error(body: bytes, kind: int) -> None:
    for read in (lambda: list(split(body)), lambda: event(Message(kind, 1, body))):
        try:
            read()
        except MalformedError as error:
            assert str(error)


def test_a_prefix_longer_than_an_address_is_an_error() -> None:
    with pytest.raises(MalformedError, match="an ipv4 prefix of 33 bits"):
        event(Message(NEW_ROUTE, 0, bytes([2, 33]) + bytes(10)))


@given(st.binary(max_size=200))
def test_any_answer_ends_in_a_value_or_one_error(body: bytes) -> None:
    try:
        assert isinstance(route(Question(SERVER), Message(24, 1, body)), Route | NoRoute)
    except MalformedError as error:
        assert str(error)
