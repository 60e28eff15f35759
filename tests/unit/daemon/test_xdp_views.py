"""What the program found out, in the words of the control protocol."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from kernlb.daemon.xdp_views import explanation_view, reason_name
from kernlb.datapath.xdp import layout, records
from kernlb.datapath.xdp.asking import Answer
from kernlb.datapath.xdp.explain import Sent, Verdict
from kernlb.datapath.xdp.layout import ChosenBy, Explanation, Reason, State
from kernlb.model import (
    AddressKey,
    Forwarding,
    L4Protocol,
    RealServer,
    Scheduler,
    ServerKey,
    Tunnel,
    TunnelType,
    VirtualService,
)

CLIENT = ServerKey(ip_address("198.51.100.7"), 40000)
VIP = ServerKey(ip_address("192.0.2.10"), 80)
KEY = AddressKey(L4Protocol.TCP, VIP.address, VIP.port)
GUE = Tunnel(TunnelType.GUE, 6080)
SERVER = RealServer(ip_address("2001:db8::1"), 80, 1, Forwarding.TUNNEL, GUE)
NOTHING = Explanation(0, layout.NONE, layout.NONE, 0, layout.NONE, 0, 0, 0)


def view(server: RealServer | None = SERVER, **found: Any) -> Any:
    service = VirtualService(KEY, Scheduler.MH)
    record = None
    if server is not None:
        record = records.server_record(server, records.identity_of(server.key), KEY, 0, 1)
    verdict = found.pop("verdict", Verdict.SEND)
    sent = Sent("02:00:00:00:02:01", 7) if verdict is Verdict.SEND else None
    answer = Answer(
        verdict, NOTHING._replace(**found), records.service_record(service), record, sent, "eth1"
    )
    return explanation_view(answer, L4Protocol.TCP, CLIENT, VIP, "eth0")


def test_a_packet_that_is_sent_has_a_server_a_reason_and_a_way() -> None:
    told = view(reason=Reason.FORWARDED, chosen_by=ChosenBy.SCHEDULER, by_fib=1)
    assert (told.verdict, told.reason, told.meaning) == (
        "send",
        "forwarded",
        "forwarded to the server",
    )
    assert (told.key, told.scheduler, told.chosen_by) == ("tcp/192.0.2.10:80", "mh", "scheduler")
    assert (told.server, told.forwarding, told.tunnel) == (
        "[2001:db8::1]:80",
        "tunnel",
        "gue:6080",
    )
    assert (told.interface, told.out, told.next_hop, told.vlan, told.by_fib) == (
        "eth0",
        "eth1",
        "02:00:00:00:02:01",
        7,
        True,
    )


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (RealServer(ip_address("10.0.0.1"), 8080), ("10.0.0.1:8080", "nat", "")),
        (
            RealServer(ip_address("10.0.0.1"), 80, 1, Forwarding.FULLNAT),
            ("10.0.0.1:80", "fullnat", ""),
        ),
        (
            RealServer(ip_address("10.0.0.1"), 80, 1, Forwarding.TUNNEL, Tunnel()),
            ("10.0.0.1:80", "tunnel", "ipip"),
        ),
        (RealServer(ip_address("10.0.0.1"), 80, 1, Forwarding.DSR), ("10.0.0.1:80", "dsr", "")),
    ],
)
def test_every_method_is_named(server: RealServer, words: tuple[str, str, str]) -> None:
    told = view(server, chosen_by=ChosenBy.SCHEDULER)
    assert (told.server, told.forwarding, told.tunnel) == words


def test_a_state_is_told_of_a_connection_alone() -> None:
    found = view(chosen_by=ChosenBy.CONNECTION, conn=5, state=State.SYN_RECV)
    assert (found.chosen_by, found.state) == ("connection", "syn_recv")
    assert view(chosen_by=ChosenBy.SCHEDULER, state=State.SYN_RECV).state == ""


def test_what_is_not_sent_has_no_way_out() -> None:
    told = view(None, verdict=Verdict.DROP, reason=Reason.NO_SERVER, ifindex=3)
    assert (told.verdict, told.server, told.chosen_by) == ("drop", "", "")
    assert (told.out, told.next_hop, told.vlan) == ("", "", 0)


def test_a_reason_of_a_newer_program_has_a_number() -> None:
    assert view(reason=99).reason == reason_name(99) == "reason_99"
    assert view(reason=99).meaning == "unknown to this kernlb"
