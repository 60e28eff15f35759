"""Lists to the byte where the guest's ipvsadm shows no such numbers: rounding, widths, order."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kernlb.control.protocol import (
    CountersView,
    PersistenceView,
    ServerState,
    ServerStatsView,
    ServerView,
    ServiceStatsView,
    ServiceView,
    SyncState,
    TunnelView,
)
from kernlb.migrate.ipvsadm import rules
from kernlb.migrate.ipvsadm.listing import Listed, Table
from kernlb.migrate.ipvsadm.names import Numbers
from kernlb.migrate.ipvsadm.views import state_of
from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    RealServer,
    ServiceState,
    Tunnel,
    VirtualService,
)
from tests.unit.migrate.ipvsadm.lines import Known


def service(text: str, *servers: str) -> ServiceState:
    key = AddressKey(L4Protocol.TCP, ip_address(text), 80)
    found = [RealServer(ip_address(each), 80, forwarding=Forwarding.DSR) for each in servers]
    return ServiceState(VirtualService(key), tuple(found))


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "        0"),
        (99_999_999, " 99999999"),
        (100_000_000, "  100000K"),
        (999_999_999, "  999999K"),
        (1_000_000_000, "    1000M"),
        (99_999_999_999, "   99999M"),
        (100_000_000_000, "     100G"),
        (10**14 - 1, "   99999G"),
        (10**14, "     100T"),
        (2**64 - 1, "18446744T"),
    ],
)
def test_large_numbers_are_cut_and_not_rounded(number: int, shown: str) -> None:
    counters = CountersView(number, 1, 2, 3, 4, 0, 0, 0, 0, 0)
    stats = ServiceStatsView("web", "", counters, [])
    listed = Listed(service("192.0.2.1"), stats)
    (line,) = Table({"stats"}, Numbers()).service(listed)
    assert line == f"{'TCP  192.0.2.1:80':<33}{shown}{1:>9}{2:>9}{3:>9}{4:>9}"
    (line,) = Table({"stats", "exact"}, Numbers()).service(listed)
    assert line.startswith(f"{'TCP  192.0.2.1:80':<33} {number:>8} ")


def test_rates_of_packets_are_whole_for_servers_and_cut_for_services() -> None:
    rates = CountersView(0, 0, 0, 0, 0, 10**9, 2, 3, 10**9, 5)
    server = ServerStatsView("10.0.0.1:80", 1, 0, 0, 0, rates)
    listed = Listed(service("192.0.2.1", "10.0.0.1"), ServiceStatsView("web", "", rates, [server]))
    of_service, of_server = Table({"rate"}, Numbers()).service(listed)
    assert of_service == f"{'TCP  192.0.2.1:80':<33}    1000M        2        3    1000M        5"
    assert of_server == f"  -> {'10.0.0.1:80':<28} 1000000000        2        3    1000M        5"


def test_long_names_are_cut_and_ipv6_is_not() -> None:
    class Long(Numbers):
        def host(self, address: object) -> str:
            return "a-host-with-a-long-name.example.net"

    head, server = Table((), Long()).service(Listed(service("192.0.2.1", "10.0.0.1")))
    assert head == "TCP  a-host-with-a-long-name.exam wlc"
    assert server == "  -> a-host-with-a-long-name.exam Route   1      0          0         "
    head, server = Table((), Long()).service(Listed(service("2001:db8::1", "2001:db8::2")))
    assert head == "TCP  [a-host-with-a-long-name.example.net]:80 wlc"
    assert server.startswith("  -> [a-host-with-a-long-name.example.net]:80 Route ")


def test_names_are_printed_where_they_are_known() -> None:
    state = service("192.0.2.10", "10.0.0.1")
    assert list(rules.lines(state, Known())) == [
        "-A -t web.example.net:http -s wlc",
        "-a -t web.example.net:http -r one.example.net:http -g -w 1",
    ]
    mark = ServiceState(VirtualService(FwmarkKey(Family.IPV4, 1)), state.servers)
    assert list(rules.lines(mark, Known()))[1] == "-a -f 1 -r one.example.net:80 -g -w 1"


def test_an_address_half_the_numbers_away_comes_first() -> None:
    states = [service(each) for each in ("10.0.0.1", "192.0.2.1", "172.16.0.1", "10.0.0.2")]
    ordered = rules.services_in_order(states)
    assert [str(each.key) for each in ordered] == [
        "tcp/172.16.0.1:80",
        "tcp/192.0.2.1:80",
        "tcp/10.0.0.1:80",
        "tcp/10.0.0.2:80",
    ]
    mixed = service("192.0.2.1", "192.0.2.9", "10.0.0.1", "10.0.0.9")
    assert [str(each.address) for each in rules.in_order(mixed)] == [
        "192.0.2.9",
        "10.0.0.1",
        "10.0.0.9",
    ]


def test_a_large_mark_has_a_sign_unless_it_is_to_be_restored() -> None:
    state = ServiceState(VirtualService(FwmarkKey(Family.IPV6, 2**32 - 1)))
    assert next(rules.lines(state, Numbers())) == "-A -f -1 -6 -s wlc"
    assert next(rules.lines(state, Numbers(), restorable=True)) == "-A -f 4294967295 -6 -s wlc"
    (line,) = Table((), Numbers()).service(Listed(state))
    assert line == "FWM  -1 IPv6 wlc"


def test_a_list_shows_what_is_in_the_kernel_with_the_weight_it_has_there() -> None:
    view = ServiceView(
        "web",
        "tcp/192.0.2.1:80",
        "ipvs",
        "wlc",
        [],
        SyncState.SYNCED,
        [
            ServerView(
                "10.0.0.1", 80, "tunnel", 5, 0, ServerState.DRAINING, True, 0, TunnelView("ipip")
            ),
            ServerView("10.0.0.2", 80, "nat", 5, 0, ServerState.DISABLED),
        ],
        persistence=PersistenceView(60, 24),
    )
    state = state_of(view)
    assert state is not None
    (server,) = state.servers
    assert (server.weight, server.tunnel) == (0, Tunnel())
    assert list(rules.lines(state, Numbers())) == [
        "-A -t 192.0.2.1:80 -s wlc -p 60 -M 255.255.255.0",
        "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -i -w 0 --tun-type ipip",
    ]
