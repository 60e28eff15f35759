"""From tables and events of the probes to what people and programs read."""

from __future__ import annotations

from typing import Any

import pytest

from kernlb.datapath.xdp.layout import Reason
from kernlb.trace import findings
from kernlb.trace.findings import NOT_SERVED, Counted, Drops, OwnDrops

HTTP = int.from_bytes((80).to_bytes(2, "big"), "little")  # as a table has it
CLIENT, VIP, SERVER = (
    [*octets, *[0] * 12] for octets in ((198, 51, 100, 7), (192, 0, 2, 10), (10, 0, 0, 2))
)


def drop_key(**fields: Any) -> dict[str, Any]:
    key = {"location": "ip_rcv_finish_core", "reason": 10, "type": 0x0800, "protocol": 6}
    return {**key, "dest": VIP, "port": HTTP, **fields}


def event(kind: int, **fields: Any) -> dict[str, Any]:
    it: dict[str, Any] = {"kind": kind, "time": 2 * 10**9, "lifetime": 0, "client": CLIENT}
    it |= {"vip": VIP, "server": SERVER, "client_port": HTTP, "vip_port": HTTP}
    it |= {"server_port": HTTP, "family": 2, "server_family": 2, "protocol": 6, "state": 1}
    return {**it, "mark": 0, "packets": 5, "scheduler": "rr", **fields}


def drops(*rows: tuple[dict[str, Any], int]) -> dict[str, Any]:
    values = [(key, {"packets": number, "source": CLIENT}) for key, number in rows]
    return {"drops": values, "xdp_troubles": []}


def test_drops_are_told_once_by_what_is_new() -> None:
    seen = Drops({10: "SKB_DROP_REASON_IP_RPFILTER"}, str)
    (first,) = seen.new(drops((drop_key(), 3)))
    assert first == {
        "kind": "drop",
        "where": "kernel",
        "packets": 3,
        "reason": "IP_RPFILTER",
        "detail": "at ip_rcv_finish_core",
        "protocol": "tcp",
        "to": "192.0.2.10:80",
        "from": "198.51.100.7",
    }
    assert seen.new(drops((drop_key(), 3))) == []
    (second,) = seen.new(drops((drop_key(), 5)))
    assert second["packets"] == 2


def test_places_in_one_function_are_counted_together() -> None:
    seen = Drops({}, str)
    (first,) = seen.new(drops((drop_key(), 3), (drop_key(), 4)))
    assert first["packets"] == 7
    (second,) = seen.new(drops((drop_key(), 3), (drop_key(), 5)))
    assert second["packets"] == 1


def test_a_reason_that_has_no_name_here_keeps_its_number() -> None:
    (found,) = Drops({}, str).new(drops((drop_key(reason=4711), 1)))
    assert found["reason"] == "4711"


def test_an_ipv6_packet_without_ports_is_told_by_its_address() -> None:
    key = drop_key(type=0x86DD, protocol=58, port=0, dest=[0x20, 1, 0xD, 0xB8, *[0] * 11, 1])
    (found,) = Drops({}, str).new(drops((key, 1)))
    assert (found["protocol"], found["to"]) == ("icmpv6", "2001:db8::1")


@pytest.mark.parametrize(
    ("trouble", "reason", "detail"),
    [
        ({"kind": 0, "what": 3}, "xdp_exception", "the verdict tx was not carried out, eth3"),
        ({"kind": 1, "what": -100}, "xdp_redirect_err", "network is down, eth3"),
        ({"kind": 2, "what": -6}, "xdp_devmap_xmit", "no such device or address, eth3"),
        ({"kind": 2, "what": 0}, "xdp_devmap_xmit", "the device took fewer than it got, eth3"),
    ],
)
def test_what_drivers_lose_of_xdp_is_told(
    trouble: dict[str, int], reason: str, detail: str
) -> None:
    tables = {"drops": [], "xdp_troubles": [({**trouble, "ifindex": 3}, 2)]}
    (found,) = Drops({}, lambda index: f"eth{index}").new(tables)
    assert (found["reason"], found["detail"], found["packets"]) == (reason, detail, 2)


def test_own_drops_are_those_that_were_neither_forwarded_nor_passed() -> None:
    before = {each.name.lower(): 1 for each in Reason}
    own = OwnDrops(before)
    assert own.new(before) == []
    after = own.new(dict.fromkeys(before, 3))
    assert {each["reason"] for each in after} == set(NOT_SERVED)
    assert not {"forwarded", "reply", "not_ours", "no_service", "icmp_unmatched"} & set(NOT_SERVED)
    assert {"refused", "malformed", "no_neighbour", "table_full"} <= set(NOT_SERVED)
    assert {each["packets"] for each in after} == {2}


def test_a_decision_names_scheduler_and_server() -> None:
    found = findings.of_event(event(1), 100.0)
    assert found["time"] == 102.0 and found["kind"] == "schedule"
    assert (found["client"], found["vip"]) == ("198.51.100.7:80", "192.0.2.10:80")
    assert (found["server"], found["scheduler"]) == ("10.0.0.2:80", "rr")


def test_no_server_is_an_empty_one() -> None:
    assert findings.of_event(event(0), 0.0)["server"] == ""


def test_the_end_of_a_connection_says_how_long_and_in_which_state() -> None:
    found = findings.of_event(event(3, lifetime=1_500_000_000), 0.0)
    assert (found["kind"], found["seconds"], found["state"]) == ("end", 1.5, "established")
    assert "seconds" not in findings.of_event(event(3), 0.0)  # it began before we looked


def test_choices_are_sorted_by_service_and_share() -> None:
    def key(last: int, chosen: int = 1) -> dict[str, Any]:
        server = [10, 0, 0, last, *[0] * 12] if chosen else [0] * 16
        it: dict[str, Any] = {"vip": VIP, "server": server, "vip_port": HTTP, "mark": 0}
        it |= {"server_port": HTTP if chosen else 0, "family": 2, "server_family": 2}
        return {**it, "protocol": 6, "chosen": chosen}

    found = findings.choices([(key(3), 2), (key(2), 5), (key(0, chosen=0), 1)])
    assert [(each["server"], each["times"]) for each in found] == [
        ("10.0.0.2:80", 5),
        ("10.0.0.3:80", 2),
        ("", 1),
    ]


def test_latency_is_the_middle_of_the_slot_that_a_share_falls_into() -> None:
    def key(slot: int) -> dict[str, Any]:
        return {"server": SERVER, "port": HTTP, "family": 2, "protocol": 6, "slot": slot}

    # slot 40: 1024 to 1279 us; slot 54: 12 288 to 14 335 us
    (found,) = findings.latencies([(key(40), 9), (key(54), 1)], [(key(0), 12)])
    assert (found["answered"], found["unanswered"]) == (10, 2)
    assert found["median"] == found["p90"] == 1.152 and found["worst"] == 13.312


def test_a_server_that_never_answered_has_no_latency() -> None:
    key = {"server": SERVER, "port": HTTP, "family": 2, "protocol": 6, "slot": 0}
    (found,) = findings.latencies([], [(key, 3)])
    assert found["unanswered"] == 3 and "median" not in found


def test_counted_connections_are_those_since_the_last_look() -> None:
    web = ("web", "10.0.0.2:80")
    counted = Counted({web: (10, 1, 1)})
    assert counted.new({web: (10, 1, 1)}) == []
    (found,) = counted.new({web: (13, 2, 5)})
    assert (found["connections"], found["active"], found["inactive"]) == (3, 2, 5)
    assert counted.new({web: (0, 0, 0)}) == []  # the counters were made anew
    assert counted.new({web: (2, 1, 0)})[0]["connections"] == 2
