"""The maps as text: readable, complete, and the same for the same maps."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from struct import pack_into

import pytest

from kernlb.datapath.xdp import layout
from kernlb.datapath.xdp.datapath import XDPDatapath
from kernlb.datapath.xdp.hops import Hop
from kernlb.model import (
    Forwarding,
    L4Protocol,
    Persistence,
    Scheduler,
    ServiceState,
    Tunnel,
    TunnelType,
    VirtualService,
)
from tests.netns.contract.world import WEB, WEB6, A, B, adding
from tests.unit.datapath.xdp.plain import Plain

THROUGH = replace(B, forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelType.GUE, 6080))
DNS = replace(WEB6, protocol=L4Protocol.UDP, port=0)


def made() -> tuple[Plain, XDPDatapath]:
    plain = Plain()
    datapath = XDPDatapath(plain.loaded, plain.clock)
    datapath.set_hop(
        B.address, Hop(3, b"\2" * 6, b"\4" * 6, 1500, 7, source=ip_address("10.0.0.1"))
    )
    wrr = VirtualService(WEB, Scheduler.WRR)
    dns = VirtualService(DNS, Scheduler.SH, persistence=Persistence(60, 64), one_packet=True)
    ops = adding(ServiceState(wrr, (replace(A, weight=3), THROUGH)))
    ops += adding(ServiceState(dns, (replace(THROUGH, weight=2, upper_threshold=9),)))
    assert datapath.apply(ops) == []
    return plain, datapath


def text(datapath: XDPDatapath, name: str) -> list[str]:
    ((found, content),) = datapath.dump([name])
    assert found == name
    return content.splitlines()


def test_services_and_servers_are_told_with_all_that_packets_go_by() -> None:
    plain, datapath = made()
    layout.LOAD.pack_into(plain.maps["loads"].mmap(), 1, layout.Load(5, 6, 2, 1))
    assert text(datapath, "services") == [
        "0 tcp/192.0.2.10:80 wrr alive members 0+2 table 0+0 cursor 1:2 max_weight 3 step 1",
        "1 udp/[2001:db8::10]:0 sh alive,one_packet,persistent members 258+1 table 2+256 "
        "persistence 60s/64",
    ]
    assert text(datapath, "servers") == [
        "0 10.0.0.2:80 service 0 generation 1 alive nat weight 3 active 0 inactive 0 mtu 0",
        "1 10.0.0.3:80 service 0 generation 1 alive,hop_known tunnel weight 1 gue:6080 "
        "active 5 inactive 6 persistent 2 overloaded source 10.0.0.1 "
        "hop 3 04:04:04:04:04:04 02:02:02:02:02:02 vlan 7 mtu 1468",
        "2 10.0.0.3:80 service 1 generation 1 alive,hop_known tunnel weight 2 gue:6080 "
        "thresholds 0..9 active 0 inactive 0 source 10.0.0.1 "
        "hop 3 04:04:04:04:04:04 02:02:02:02:02:02 vlan 7 mtu 1468",
    ]
    assert text(datapath, "members") == [
        "tcp/192.0.2.10:80: 0 1",
        "udp/[2001:db8::10]:0: 2",
    ]
    assert text(datapath, "tables") == ["udp/[2001:db8::10]:0: 2x256"]
    assert text(datapath, "filter") == ["VIP 2", "ANY_PORT 1", "SERVER 1"]


@pytest.mark.parametrize("family", layout.AddressFamily)
def test_connections_of_both_families(family: layout.AddressFamily) -> None:
    plain, datapath = made()
    memory, size = plain.maps[f"conns{family.value}"].mmap(), layout.CONN_SIZES[family]
    conn = layout.Conn(
        word_server=layout.server_ref(2, 9),
        word_tag=1,
        word_state=layout.State.ESTABLISHED,
        word_flags=layout.ConnFlag.USED | layout.ConnFlag.ACTIVE,
        seen=77,
        peer=5,
        sport=b"\x04\x00",
        dport=b"\x00\x50",
        source_port=b"\x04\x01",
        protocol=6,
    )
    memory[3 * size : 3 * size + layout.CONN.size] = layout.CONN.pack(conn)
    ends = {4: ("198.51.100.1", "192.0.2.10"), 6: ("2001:db8::1", "2001:db8::10")}[family.value]
    packed = b"".join(ip_address(each).packed for each in ends)
    start = 3 * size + layout.CONN.size
    memory[start : start + len(packed)] = packed
    source, destination = (f"[{each}]" if ":" in each else each for each in ends)
    assert text(datapath, f"conns{family.value}") == [
        f"3 6 {source}:1024 -> {destination}:80 server 2 generation 9 established used,active "
        "seen 77 peer 5 source_port 1025"
    ]


def test_counters_and_reasons() -> None:
    plain, datapath = made()
    one = layout.COUNTERS.pack(layout.Counters(1, 2, 3, 4, 5))
    plain.maps["server_counters"].update(layout.U32.pack(1), one * 2)
    pack_into("=2Q", plain.maps["reasons"].memory, 16 * layout.Reason.REPLY, 4, 5)
    counters = text(datapath, "server_counters")
    assert counters[1] == (
        "1 tcp/192.0.2.10:80 10.0.0.3:80 connections 10 packets_in 2 packets_out 6 "
        "bytes_in 4 bytes_out 8"
    )
    assert len(counters) == 3
    assert "reply 9" in text(datapath, "reasons")
    assert len(text(datapath, "reasons")) == len(layout.Reason)


def test_fragments_in_the_order_of_their_keys() -> None:
    plain, datapath = made()
    for last in (2, 1):
        ends = ip_address(f"198.51.100.{last}").packed + ip_address("192.0.2.10").packed
        key = layout.FragmentId(ends.ljust(32, b"\0"), b"\0\0\0\x07", 17, 4)
        value = layout.FRAGMENT.pack(layout.Fragment(0, layout.server_ref(1, 1), 9, 0))
        plain.maps["fragments"].update(layout.FRAGMENT_ID.pack(key), value)
    told = "192.0.2.10 id 00000007: server 1 generation 1 to the server seen 9"
    assert text(datapath, "fragments") == [
        f"17 198.51.100.1 -> {told}",
        f"17 198.51.100.2 -> {told}",
    ]


def test_all_but_connections_unless_they_are_named() -> None:
    _, datapath = made()
    names = [name for name, _ in datapath.dump()]
    assert "services" in names
    assert not {"conns4", "conns6"} & set(names)
    assert datapath.dump() == datapath.dump()


def test_a_map_that_is_none_is_refused_with_those_that_are() -> None:
    _, datapath = made()
    with pytest.raises(ValueError, match=r'no map "conns5" to dump \(known: services, .*conns4'):
        datapath.dump(["services", "conns5"])
