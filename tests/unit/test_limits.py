"""What one datapath cannot carry is refused alike in documents and by the stand-in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kernlb.config import ConfigError, Defaults, parse_service
from kernlb.datapath import Refusal
from kernlb.datapath.fake import EVERYTHING_OF_XDP, FakeDatapath
from kernlb.declaration import Declaration
from kernlb.model import DatapathKind, Forwarding
from kernlb.plan import AddServer, AddService, Op

A = {"address": "10.0.0.1"}
WEB: dict[str, Any] = {"address": "192.0.2.10", "port": 80, "datapath": "xdp", "servers": [A]}


def parse(document: dict[str, Any], defaults: Defaults | None = None) -> Declaration:
    text = json.dumps(document).encode()
    return parse_service(text, name="web", source="web.json", defaults=defaults)


def fault_of(document: dict[str, Any], defaults: Defaults | None = None) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(document, defaults)
    [fault] = caught.value.faults
    return fault.key, fault.message


BEYOND_XDP = [
    (
        {"scheduler": "dh"},
        "scheduler",
        "dh is not in datapath xdp (it has rr, wrr, lc, wlc, sh, mh",
    ),
    ({"scheduler": "twos"}, "scheduler", "twos is not in datapath xdp"),
    (
        {"protocol": "udp", "persistence": {"engine": "sip"}},
        "persistence.engine",
        "sip does not go with datapath xdp",
    ),
    (
        {"forwarding": "tunnel", "tunnel": {"type": "gre", "checksum": True}},
        "tunnel.checksum",
        "does not go with datapath xdp",
    ),
    (
        {"servers": [A | {"forwarding": "tunnel", "tunnel": {"type": "gre", "checksum": True}}]},
        "servers[0].tunnel.checksum",
        "does not go with datapath xdp",
    ),
    (
        {"servers": [{"address": "127.0.0.1"}]},
        "servers[0].address",
        "127.0.0.1 is a loopback address: datapath xdp cannot reach it",
    ),
    (
        {"protocol": "sctp", "forwarding": "fullnat"},
        "forwarding",
        "fullnat does not go with sctp",
    ),
    (
        {"protocol": "sctp", "servers": [A | {"port": 8080}]},
        "servers[0].port",
        "must be the service's: the checksum of sctp covers the ports",
    ),
    (
        {"sorry_server": {"address": "::1"}, "address": "2001:db8::10", "servers": []},
        "sorry_server.address",
        "::1 is a loopback address",
    ),
]


@pytest.mark.parametrize(("changed", "key", "why"), BEYOND_XDP, ids=lambda value: str(value)[:40])
def test_a_document_that_xdp_cannot_carry_is_refused_where_it_says_so(
    changed: dict[str, Any], key: str, why: str
) -> None:
    found, message = fault_of(WEB | changed)
    assert (found, message[: len(why)]) == (key, why)
    host = Defaults(datapath=DatapathKind.XDP)
    assert fault_of({k: v for k, v in (WEB | changed).items() if k != "datapath"}, host)[0] == key


@pytest.mark.parametrize(
    "changed", [each[0] for each in BEYOND_XDP], ids=lambda each: str(each)[:40]
)
def test_the_stand_in_for_xdp_refuses_the_same(changed: dict[str, Any]) -> None:
    fullnat_to_nat = {"forwarding": "nat"} if changed.get("forwarding") == "fullnat" else {}
    web = parse(WEB | changed | fullnat_to_nat | {"datapath": "ipvs"})
    fake = FakeDatapath(features=EVERYTHING_OF_XDP)
    servers = [*web.servers, *web.sorry_servers]
    if fullnat_to_nat:
        servers = [replace(each, forwarding=Forwarding.FULLNAT) for each in servers]
    ops: list[Op] = [
        AddService(web.service),
        *(AddServer(web.service.key, each) for each in servers),
    ]
    failures = fake.apply(ops)
    assert failures and failures[0].refusal is Refusal.UNSUPPORTED
    assert "xdp" in str(failures[0]) or "sctp" in str(failures[0])


def test_a_mark_is_nothing_that_xdp_could_see() -> None:
    key, message = fault_of({"fwmark": 7, "datapath": "xdp"})
    assert (key, message.partition(":")[0]) == ("fwmark", "does not go with datapath xdp")


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"forwarding": "fullnat"}, "forwarding"),
        ({"servers": [A | {"forwarding": "fullnat"}]}, "servers[0].forwarding"),
        (
            {"sorry_server": {"address": "10.0.0.9", "forwarding": "fullnat"}},
            "sorry_server.forwarding",
        ),
    ],
)
def test_fullnat_goes_with_xdp_only(changed: dict[str, Any], key: str) -> None:
    assert parse(WEB | changed)
    found = fault_of(WEB | changed | {"datapath": "ipvs"})
    assert found == (key, "fullnat goes with datapath xdp only")


def test_a_fault_of_the_service_is_told_once_for_all_servers() -> None:
    servers = [{"address": f"10.0.0.{n}"} for n in range(1, 100)]
    document = WEB | {"datapath": "ipvs", "forwarding": "fullnat", "servers": servers}
    assert fault_of(document)[0] == "forwarding"


def test_fullnat_may_change_the_port_and_may_not_mix_families() -> None:
    web = parse(WEB | {"forwarding": "fullnat", "servers": [A | {"port": 8080}]})
    assert (web.servers[0].forwarding, web.servers[0].port) == (Forwarding.FULLNAT, 8080)
    key, message = fault_of(
        WEB | {"forwarding": "fullnat", "servers": [{"address": "2001:db8::1"}]}
    )
    assert (key, "only forwarding tunnel mixes" in message) == ("servers[0].address", True)


@pytest.mark.parametrize("port", [0, "any"])
def test_every_port_needs_persistence_in_ipvs_only(port: int | str) -> None:
    web = parse(WEB | {"port": port})
    assert (web.service.key.port, web.servers[0].port) == (0, 0)  # type: ignore[union-attr]
    assert fault_of(WEB | {"port": port, "datapath": "ipvs"})[0] == "port"
    assert parse(WEB | {"port": port, "datapath": "ipvs", "persistence": 300})


def test_a_server_keeps_the_clients_port_where_the_service_is_on_every_port() -> None:
    key, message = fault_of(WEB | {"port": "any", "servers": [A | {"port": 8080}]})
    assert (key, message.partition(":")[0]) == ("servers[0].port", "must be left out")


def test_tunnels_of_xdp_mix_families_both_ways() -> None:
    for vip, server in (("192.0.2.10", "2001:db8::1"), ("2001:db8::10", "10.0.0.1")):
        document = WEB | {"address": vip, "forwarding": "tunnel", "servers": [{"address": server}]}
        assert parse(document).servers
