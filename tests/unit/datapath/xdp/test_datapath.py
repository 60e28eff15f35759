"""The datapath over plain memory: what packets would find at every step of the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from random import Random
from typing import Any

import pytest

from kernlb.datapath import Refusal
from kernlb.datapath.xdp import layout, publishing, reading
from kernlb.datapath.xdp.datapath import XDPDatapath
from kernlb.datapath.xdp.filter import cell
from kernlb.datapath.xdp.hops import Hop, Unresolved
from kernlb.datapath.xdp.inventory import Inventory
from kernlb.datapath.xdp.layout import Mark, ServerFlag, ServiceFlag
from kernlb.datapath.xdp.maps import Maps
from kernlb.datapath.xdp.memory import Sizes
from kernlb.datapath.xdp.slots import REST
from kernlb.datapath.xdp.sweeping import Swept
from kernlb.model import (
    AddressKey,
    Forwarding,
    L4Protocol,
    RealServer,
    Scheduler,
    ServiceState,
    Tunnel,
    TunnelType,
    VirtualService,
)
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    RemoveServer,
    RemoveService,
)
from tests.netns.contract.world import A6, WEB, A, B, adding, changing, random_state, same
from tests.unit.datapath.xdp.plain import SMALL, Plain, PlainMap

C = replace(A, address=ip_address("10.0.0.4"))


@pytest.fixture
def plain() -> Plain:
    return Plain()


def start(plain: Plain) -> XDPDatapath:
    return XDPDatapath(plain.loaded, plain.clock)


def settle(datapath: XDPDatapath, *ops: Op) -> None:
    assert [str(each) for each in datapath.apply(ops)] == []


def web(scheduler: Scheduler = Scheduler.WLC, *servers: RealServer) -> list[Op]:
    return adding(ServiceState(VirtualService(WEB, scheduler), servers))


def number_of(datapath: XDPDatapath, key: AddressKey = WEB) -> int:
    number = reading.number_of(datapath.maps, key)
    assert number is not None
    return number


def members(datapath: XDPDatapath, key: AddressKey = WEB) -> list[int]:
    return datapath.maps.ids(datapath.maps.service(number_of(datapath, key)).members)


def table(datapath: XDPDatapath, key: AddressKey = WEB) -> list[int]:
    return datapath.maps.ids(datapath.maps.service(number_of(datapath, key)).table)


def check_consistent(datapath: XDPDatapath) -> None:
    """What packets can reach is whole, and nothing else is alive."""
    maps = datapath.maps
    reached = set[int]()
    for number in reading.numbers(maps).values():
        service = maps.service(number)
        ids = maps.ids(service.members)
        assert set(maps.ids(service.table)) <= set(ids)
        assert not reached & set(ids)
        reached |= set(ids)
        for each in ids:
            server = maps.server(each)
            assert server.flags & ServerFlag.ALIVE
            assert server.service == number
            assert server.generation
            if server.forwarding >= layout.Forward.NAT:
                address = layout.address_of(server.addr, server.family)
                assert maps.filter[cell(address)] & Mark.SERVER
    alive = {n for n in range(maps.sizes.servers) if maps.server(n).flags & ServerFlag.ALIVE}
    assert alive == reached


@pytest.mark.parametrize("seed", range(6))
def test_any_state_becomes_any_other_and_reads_as_written(plain: Plain, seed: int) -> None:
    random, datapath = Random(seed), start(plain)
    state = ServiceState(VirtualService(WEB, Scheduler.RR))
    settle(datapath, *adding(state))
    for _ in range(15):
        after = random_state(random, WEB, datapath.features())
        settle(datapath, *changing(state, after))
        assert same(after, datapath.read([WEB]).get(WEB))
        check_consistent(datapath)
        if random.random() < 0.4:
            datapath = start(plain)
            assert same(after, datapath.read([WEB]).get(WEB))
        datapath.sweep_begins()
        datapath.sweep_ended(Swept())
        plain.now += REST
        state = after


class Killed(BaseException):
    pass


STORES: dict[Any, tuple[str, ...]] = {
    Maps: ("write_ids", "publish"),
    Inventory: ("write_server", "retire_servers", "add_vip", "remove_vip"),
    PlainMap: ("update", "delete"),
    publishing: ("write_edit", "_write_fields"),
}


@pytest.mark.parametrize("scheduler", [Scheduler.WRR, Scheduler.SH, Scheduler.MH])
@pytest.mark.parametrize("stop", range(30))
def test_a_kill_between_any_two_stores_leaves_what_the_next_start_puts_right(
    plain: Plain, monkeypatch: pytest.MonkeyPatch, scheduler: Scheduler, stop: int
) -> None:
    datapath = start(plain)
    settle(datapath, *web(scheduler, A, B))
    killing: list[Op] = [
        AddServer(WEB, C),
        EditServer(WEB, A, replace(A, weight=7)),
        RemoveServer(WEB, B),
        *adding(ServiceState(VirtualService(replace(WEB, port=81), scheduler), (A,))),
        RemoveService(VirtualService(replace(WEB, port=81))),
    ]
    left = stop

    def interrupted(store: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return store(*args, **named)

        return act

    with monkeypatch.context() as patch, suppress(Killed):
        for kind, names in STORES.items():
            for name in names:
                patch.setattr(kind, name, interrupted(getattr(kind, name)))
        datapath.apply(killing)
    again = start(plain)
    check_consistent(again)
    settle(again, *killing)
    wanted = ServiceState(VirtualService(WEB, scheduler), (replace(A, weight=7), C))
    assert same(wanted, again.read([WEB])[WEB])
    assert [each.key for each in again.services()] == [WEB]
    check_consistent(again)
    if scheduler is not Scheduler.WRR:
        assert set(table(again)) == set(members(again))


def test_a_new_server_is_whole_before_packets_find_it(plain: Plain) -> None:
    datapath = start(plain)
    hop = Hop(7, b"\1" * 6, b"\2" * 6, 1500, 5, ip_address("10.0.0.1"))
    datapath.set_hop(A.address, hop)
    tunnelled = replace(A, forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelType.GUE, 6080))
    settle(datapath, *web(Scheduler.RR, tunnelled))
    server = datapath.maps.server(members(datapath)[0])
    assert server.flags == ServerFlag.ALIVE | ServerFlag.HOP_KNOWN
    assert (server.hop_ifindex, server.hop_src, server.hop_dst) == (7, b"\1" * 6, b"\2" * 6)
    assert (server.vlan, server.mtu) == (b"\0\5", 1500 - 20 - 8 - 4)
    assert server.source[:4] == ip_address("10.0.0.1").packed
    words = memoryview(server.source[:4] + server.addr[:4]).cast("H").tolist()
    assert server.outer_sum == sum(words)


def test_the_hop_of_an_address_is_that_of_all_servers_there(plain: Plain) -> None:
    datapath = start(plain)
    other = replace(WEB, port=443)
    settle(datapath, *web(Scheduler.RR, A, B), *adding(ServiceState(VirtualService(other), (A,))))
    datapath.set_hop(A.address, Hop(3, b"\1" * 6, b"\2" * 6, 1500))
    known = [
        datapath.maps.server(n).hop_ifindex for n in (*members(datapath), *members(datapath, other))
    ]
    assert known == [3, 0, 3]
    datapath.set_hop(A.address, Unresolved("gone", 4, 1400))
    server = datapath.maps.server(members(datapath)[0])
    assert (server.flags, server.hop_ifindex, server.mtu) == (ServerFlag.ALIVE, 4, 1400)
    datapath.forget_hop(A.address)
    assert datapath.maps.server(members(datapath)[0]).mtu == 0
    assert sorted(map(str, datapath.endpoints())) == sorted(
        map(str, [(WEB, A.key), (WEB, B.key), (other, A.key)])
    )


def test_another_method_brings_another_hop(plain: Plain) -> None:
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A))
    datapath.set_hop(A.address, Hop(3, b"\1" * 6, b"\2" * 6, 1500, 0, ip_address("10.0.0.1")))
    through = replace(A, forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelType.GRE))
    settle(datapath, EditServer(WEB, A, through))
    server = datapath.maps.server(members(datapath)[0])
    assert (server.mtu, server.tunnel) == (1500 - 24, layout.Encapsulation.GRE)
    assert server.flags & ServerFlag.HOP_KNOWN
    assert not datapath.maps.filter[cell(A.address)] & Mark.SERVER
    settle(datapath, EditServer(WEB, through, A))
    server = datapath.maps.server(members(datapath)[0])
    assert (server.mtu, server.port, server.tunnel) == (1500, b"\0\x50", 0)
    assert datapath.maps.filter[cell(A.address)] & Mark.SERVER


def test_the_last_of_an_address_takes_its_marks_and_its_protocols_along(plain: Plain) -> None:
    datapath = start(plain)
    dns = replace(WEB, protocol=L4Protocol.UDP, port=0)
    settle(datapath, *web(), AddService(VirtualService(dns)))
    ids, vip = plain.maps["service_ids"], cell(WEB.address)
    (entry,) = [v for k, v in ids.items() if layout.SERVICE_ID.unpack(k).protocol == 0]
    assert layout.U32.unpack(entry)[0] == layout.VipProtocol.TCP | layout.VipProtocol.UDP
    assert datapath.maps.filter[vip] == Mark.VIP | Mark.ANY_PORT
    settle(datapath, RemoveService(VirtualService(dns)))
    assert datapath.maps.filter[vip] == Mark.VIP
    settle(datapath, RemoveService(VirtualService(WEB)))
    assert not any(datapath.maps.filter)
    assert list(ids.items()) == []


def test_an_id_is_another_server_only_after_a_whole_sweep_and_with_another_generation() -> None:
    plain = Plain(replace(SMALL, servers=1))
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A))
    before = datapath.maps.server(0)
    datapath.maps.loads[:8] = b"\1\0\0\0\2\0\0\0"
    settle(datapath, RemoveServer(WEB, A))
    (failure,) = datapath.apply([AddServer(WEB, B)])
    assert failure.refusal is Refusal.NO_MEMORY
    assert "servers full: raise xdp.servers" in failure.detail
    datapath.sweep_begins()
    datapath.sweep_ended(Swept())
    settle(datapath, AddServer(WEB, B))
    assert datapath.maps.server(0).generation == before.generation + 1
    assert datapath.stats([WEB])[WEB].servers[B.key].active == 0


def test_a_restart_does_not_forget_what_rests() -> None:
    plain = Plain(replace(SMALL, servers=1))
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A))
    settle(datapath, RemoveServer(WEB, A))
    assert start(plain).apply([AddServer(WEB, B)])[0].refusal is Refusal.NO_MEMORY


def test_full_slots_refuse_what_grows_and_carry_out_the_rest() -> None:
    plain = Plain(replace(SMALL, slots=4))
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A, B, C))
    d = replace(A, address=ip_address("10.0.0.5"))
    failures = datapath.apply(
        [AddServer(WEB, d), EditServer(WEB, A, replace(A, weight=5)), RemoveServer(WEB, B)]
    )
    assert [(each.op, each.refusal) for each in failures] == [
        (AddServer(WEB, d), Refusal.NO_MEMORY)
    ]
    assert "slots full: raise xdp.slots" in failures[0].detail
    state = datapath.read([WEB])[WEB]
    assert state.servers == (replace(A, weight=5), C)
    check_consistent(datapath)
    plain.now += REST
    settle(datapath, RemoveServer(WEB, A), RemoveServer(WEB, C))
    plain.now += REST
    settle(datapath, *(AddServer(WEB, each) for each in (A, B, C, d)))


@pytest.mark.parametrize("scheduler", [Scheduler.SH, Scheduler.MH])
def test_a_table_that_does_not_fit_refuses_the_service(scheduler: Scheduler) -> None:
    datapath = start(Plain(replace(SMALL, slots=100)))
    service, server = datapath.apply(web(scheduler, A))
    assert {service.refusal, server.refusal} == {Refusal.NO_MEMORY}
    assert datapath.services() == []
    check_consistent(datapath)
    settle(datapath, *web(Scheduler.RR, A))
    (failure,) = datapath.apply([EditService(VirtualService(WEB), VirtualService(WEB, scheduler))])
    assert failure.refusal is Refusal.NO_MEMORY
    assert datapath.read([WEB])[WEB].service.scheduler is Scheduler.RR


def test_full_services_say_so() -> None:
    datapath = start(Plain(replace(SMALL, services=1)))
    settle(datapath, *web())
    (failure,) = datapath.apply([AddService(VirtualService(replace(WEB, port=81)))])
    assert failure.refusal is Refusal.NO_MEMORY
    assert "services full: raise xdp.services" in failure.detail


def test_a_drained_server_of_mh_keeps_its_slots(plain: Plain) -> None:
    datapath = start(plain)
    settle(datapath, *web(Scheduler.MH, A, B, C))
    before = table(datapath)
    settle(datapath, EditServer(WEB, B, replace(B, weight=0)))
    assert table(datapath) == before


def test_wrr_turns_begin_again_and_rr_goes_on_when_a_server_comes(plain: Plain) -> None:
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A, B, C))
    at = number_of(datapath) * layout.SERVICE.size + layout.SERVICE.offset["cursor"]
    datapath.maps.services[at : at + 8] = layout.U64.pack(2)
    settle(datapath, AddServer(WEB, replace(A, address=ip_address("10.0.0.5"))))
    assert datapath.maps.service(number_of(datapath)).cursor == 2
    settle(datapath, RemoveServer(WEB, A))
    assert datapath.maps.service(number_of(datapath)).cursor == 1
    settle(datapath, EditService(VirtualService(WEB), VirtualService(WEB, Scheduler.WRR)))
    settle(datapath, EditServer(WEB, B, replace(B, weight=4)))
    service = datapath.maps.service(number_of(datapath))
    assert (service.cursor, service.max_weight, service.step) == (1 << 32 | 3, 4, 1)


def test_edits_leave_connections_and_unchanged_things_alone(plain: Plain) -> None:
    datapath = start(plain)
    settle(datapath, *web(Scheduler.MH, A, B))
    before = {name: bytes(each.memory) for name, each in plain.maps.items()}
    settle(datapath, *web(Scheduler.MH, A, B), EditServer(WEB, A, A))
    assert {name: bytes(each.memory) for name, each in plain.maps.items()} == before
    ids = members(datapath)
    settle(datapath, EditServer(WEB, A, replace(A, weight=9, forwarding=Forwarding.DSR)))
    assert members(datapath) == ids


@pytest.mark.parametrize(
    ("connections", "was", "upper", "lower", "overloaded"),
    (
        (5, 0, 5, 0, 1),
        (4, 0, 5, 0, 0),
        (4, 1, 5, 0, 1),  # between the thresholds it stays as it was
        (3, 1, 5, 0, 0),  # below three quarters
        (3, 1, 5, 2, 1),
        (1, 1, 5, 2, 0),
        (9, 1, 0, 0, 0),  # there is none any more
        (9, 0, 10, 0, 0),
    ),
)
def test_new_thresholds_say_at_once_who_is_overloaded(
    plain: Plain, connections: int, was: int, upper: int, lower: int, overloaded: int
) -> None:
    datapath = start(plain)
    before = replace(A, upper_threshold=20)
    settle(datapath, *web(Scheduler.RR, before))
    number = members(datapath)[0]
    layout.LOAD.pack_into(datapath.maps.loads, number, layout.Load(connections - 1, 1, 0, was))
    after = replace(A, upper_threshold=upper, lower_threshold=lower)
    settle(datapath, EditServer(WEB, before, after))
    assert layout.LOAD.unpack(datapath.maps.loads, number).overloaded == overloaded


def test_an_edit_of_the_weight_leaves_an_overload(plain: Plain) -> None:
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A))
    number = members(datapath)[0]
    layout.LOAD.pack_into(datapath.maps.loads, number, layout.Load(0, 0, 0, 1))
    settle(datapath, EditServer(WEB, A, replace(A, weight=7)))
    assert layout.LOAD.unpack(datapath.maps.loads, number).overloaded == 1


def test_counters_are_of_all_cpus_and_rates_between_two_looks(plain: Plain) -> None:
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A))
    each = layout.COUNTERS.pack(layout.Counters(10, 1000, 5, 500, 2))
    plain.maps["service_counters"].update(layout.U32.pack(number_of(datapath)), each * 2)
    first = datapath.stats([WEB])[WEB].counters
    assert (first.packets_in, first.bytes_out, first.connections) == (20, 1000, 4)
    assert first.packets_in_rate == 0
    plain.now += 2
    each = layout.COUNTERS.pack(layout.Counters(30, 1000, 5, 500, 2))
    plain.maps["service_counters"].update(layout.U32.pack(number_of(datapath)), each * 2)
    assert datapath.stats([WEB])[WEB].counters.packets_in_rate == 20
    plain.now += 0.5
    assert datapath.stats([WEB])[WEB].counters.packets_in_rate == 20


def test_totals_of_a_service_outlive_its_servers_and_not_itself(plain: Plain) -> None:
    datapath = start(plain)
    settle(datapath, *web(Scheduler.RR, A))
    number = number_of(datapath)
    counted = layout.COUNTERS.pack(layout.Counters(1, 2, 3, 4, 5)) * 2
    plain.maps["service_counters"].update(layout.U32.pack(number), counted)
    settle(datapath, RemoveServer(WEB, A))
    assert datapath.stats([WEB])[WEB].counters.packets_in == 2
    settle(datapath, RemoveService(VirtualService(WEB)))
    plain.now += REST
    settle(datapath, *web())
    assert datapath.stats([WEB])[WEB].counters.packets_in == 0


def test_sctp_and_every_port_keep_the_packets_own(plain: Plain) -> None:
    datapath = start(plain)
    anything = replace(WEB, port=0)
    settle(
        datapath, *adding(ServiceState(VirtualService(anything), (replace(A, port=0), A6_TUNNEL)))
    )
    assert [datapath.maps.server(n).port for n in members(datapath, anything)] == [b"\0\0"] * 2
    assert datapath.read([anything])[anything].servers[0].port == 0


A6_TUNNEL = replace(A6, forwarding=Forwarding.TUNNEL, tunnel=Tunnel())


def test_the_sizes_that_are_promised_are_no_burden() -> None:
    sizes = Sizes(services=1024, servers=110_000, slots=1 << 18, conns4=16, conns6=16)
    datapath = XDPDatapath(Plain(sizes).loaded)
    first = int(IPv4Address("10.0.0.1"))
    ops: list[Op] = []
    for service in range(1000):
        key = AddressKey(L4Protocol.TCP, IPv4Address(first + service), 80)
        ops.append(AddService(VirtualService(key, Scheduler.RR)))
        ops += [AddServer(key, RealServer(IPv4Address(first + 65536 + n), 80)) for n in range(100)]
    begun = time.perf_counter()
    settle(datapath, *ops)
    assert time.perf_counter() - begun < 100  # not hours: nothing here is quadratic
    assert sum(len(each.servers) for each in datapath.read([op.key for op in ops[::101]]).values())
    assert ServiceFlag.ALIVE & datapath.maps.service(number_of(datapath, ops[0].key)).flags  # type: ignore[arg-type]
