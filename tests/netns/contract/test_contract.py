"""The contract of ``kernlb.datapath.Datapath``, held to by the fake, IPVS and XDP alike.

What one of them cannot carry (``kernlb.limits``, ``Features``) it must refuse, with the reason.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest

from kernlb import limits
from kernlb.datapath import Datapath, Refusal
from kernlb.datapath.ipvs.replies import foreign
from kernlb.model import (
    AddressKey,
    DatapathKind,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServiceKey,
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
from tests.netns.contract.world import (
    A6,
    WEB,
    WEB6,
    A,
    B,
    adding,
    changing,
    held,
    random_state,
    random_states,
    same,
    settle,
)

VIPS = {Family.IPV4: ip_address("192.0.2.10"), Family.IPV6: ip_address("2001:db8::10")}


def check_service(datapath: Datapath, service: VirtualService) -> None:
    if limit := limits.of_service(datapath.kind, service):
        (failure,) = datapath.apply([AddService(service)])
        assert (failure.refusal, str(limit) in failure.detail) == (Refusal.UNSUPPORTED, True)
        assert held(datapath, service.key) is None
        return
    settle(datapath, AddService(service))
    assert held(datapath, service.key) == ServiceState(service)
    assert datapath.services() == [service]


def check_server(datapath: Datapath, server: RealServer, key: ServiceKey = WEB) -> None:
    state = ServiceState(VirtualService(key), (server,))
    if limits.of_service(datapath.kind, state.service):
        check_service(datapath, state.service)
        (failure,) = datapath.apply([AddServer(key, server)])
        assert failure.refusal is Refusal.ABSENT
    elif limit := limits.of_server(datapath.kind, key, server):
        settle(datapath, AddService(state.service))
        (failure,) = datapath.apply([AddServer(key, server)])
        assert (failure.refusal, str(limit) in failure.detail) == (Refusal.UNSUPPORTED, True)
        assert held(datapath, key) == ServiceState(state.service)
    else:
        settle(datapath, *adding(state))
        assert held(datapath, key) == state


# What is written is read.


@pytest.mark.parametrize("protocol", L4Protocol)
@pytest.mark.parametrize("family", Family)
def test_each_protocol_and_family(datapath: Datapath, protocol: L4Protocol, family: Family) -> None:
    check_service(datapath, VirtualService(AddressKey(protocol, VIPS[family], 65535)))


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("mark", [1, 2**32 - 1])
def test_firewall_marks(datapath: Datapath, family: Family, mark: int) -> None:
    check_service(datapath, VirtualService(FwmarkKey(family, mark)))


@pytest.mark.parametrize("scheduler", Scheduler)
def test_each_scheduler_that_the_kernel_has(datapath: Datapath, scheduler: Scheduler) -> None:
    service = VirtualService(WEB, scheduler)
    if scheduler in datapath.features().schedulers:
        check_service(datapath, service)
    else:
        (failure,) = datapath.apply([AddService(service)])
        assert failure.refusal is Refusal.UNSUPPORTED


@pytest.mark.parametrize(
    "flags",
    [
        {SchedulerFlag.SH_FALLBACK},
        {SchedulerFlag.SH_PORT},
        {SchedulerFlag.SH_PORT, SchedulerFlag.SH_FALLBACK},
        {SchedulerFlag.MH_FALLBACK},
        {SchedulerFlag.MH_PORT},
        {SchedulerFlag.MH_PORT, SchedulerFlag.MH_FALLBACK},
    ],
)
def test_scheduler_flags(datapath: Datapath, flags: set[SchedulerFlag]) -> None:
    scheduler = next(iter(flags)).scheduler
    check_service(datapath, VirtualService(WEB, scheduler, frozenset(flags)))


@pytest.mark.parametrize(
    ("key", "prefix"), [(WEB, 1), (WEB, 24), (WEB, 32), (WEB6, 1), (WEB6, 64), (WEB6, 128)], ids=str
)
def test_persistence(datapath: Datapath, key: ServiceKey, prefix: int) -> None:
    check_service(datapath, VirtualService(key, persistence=Persistence(300, prefix)))


def test_persistence_engine(datapath: Datapath) -> None:
    sip = AddressKey(L4Protocol.UDP, VIPS[Family.IPV4], 5060)
    check_service(datapath, VirtualService(sip, persistence=Persistence(60, 32, "sip")))


def test_every_port_of_an_address(datapath: Datapath) -> None:
    everything = AddressKey(L4Protocol.TCP, VIPS[Family.IPV4], 0)
    check_service(datapath, VirtualService(everything, persistence=Persistence(60, 32)))


def test_one_packet_scheduling(datapath: Datapath) -> None:
    dns = AddressKey(L4Protocol.UDP, VIPS[Family.IPV6], 53)
    check_service(datapath, VirtualService(dns, one_packet=True))


@pytest.mark.parametrize("weight", [0, 1, 65535])
def test_weights(datapath: Datapath, weight: int) -> None:
    check_server(datapath, replace(A, weight=weight))


@pytest.mark.parametrize(("upper", "lower"), [(100, 0), (100, 50), (7, 7), (2**31 - 1, 0)])
def test_thresholds(datapath: Datapath, upper: int, lower: int) -> None:
    check_server(datapath, replace(A, upper_threshold=upper, lower_threshold=lower))


@pytest.mark.parametrize("forwarding", [Forwarding.NAT, Forwarding.DSR, Forwarding.FULLNAT])
@pytest.mark.parametrize(("key", "server"), [(WEB, A), (WEB6, A6)], ids=["ipv4", "ipv6"])
def test_forwarding_methods(
    datapath: Datapath, forwarding: Forwarding, key: ServiceKey, server: RealServer
) -> None:
    check_server(datapath, replace(server, forwarding=forwarding), key)


TUNNELS = [
    Tunnel(),
    Tunnel(TunnelType.IPIP, checksum=True),
    Tunnel(TunnelType.GUE, 6080),
    Tunnel(TunnelType.GUE, 65535, checksum=True),
    Tunnel(TunnelType.GRE),
    Tunnel(TunnelType.GRE, checksum=True),
]


@pytest.mark.parametrize("tunnel", TUNNELS, ids=str)
@pytest.mark.parametrize("key", [WEB, WEB6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("server", [A, A6], ids=["to-ipv4", "to-ipv6"])
def test_tunnels_within_and_across_families(
    datapath: Datapath, tunnel: Tunnel, key: ServiceKey, server: RealServer
) -> None:
    check_server(datapath, replace(server, forwarding=Forwarding.TUNNEL, tunnel=tunnel), key)


@pytest.mark.parametrize("forwarding", [Forwarding.NAT, Forwarding.DSR, Forwarding.FULLNAT])
@pytest.mark.parametrize("port", [80, 81])
def test_servers_of_sctp(datapath: Datapath, forwarding: Forwarding, port: int) -> None:
    key = replace(WEB, protocol=L4Protocol.SCTP)
    check_server(datapath, replace(A, forwarding=forwarding, port=port), key)


def test_servers_of_a_firewall_mark_keep_the_port_of_the_packet(datapath: Datapath) -> None:
    check_server(datapath, replace(A, port=0), FwmarkKey(Family.IPV4, 7))


# Edits change what they say and nothing else.


@pytest.mark.parametrize("seed", range(8))
def test_any_state_of_a_service_turns_into_any_other(datapath: Datapath, seed: int) -> None:
    random = Random(seed)
    features = datapath.features()
    state = random_state(random, WEB, features)
    settle(datapath, *adding(state))
    for _ in range(12):
        after = random_state(random, WEB, features)
        if random.random() < 0.5:  # change settings of the same servers
            after = ServiceState(
                after.service,
                tuple(
                    replace(new, address=old.address, port=old.port)
                    for old, new in zip(state.servers, after.servers, strict=False)
                    if old.address.version == new.address.version
                ),
            )
        settle(datapath, *changing(state, after))
        assert same(after, held(datapath, WEB))
        state = after


def test_what_is_not_asked_for_is_cleared(datapath: Datapath) -> None:
    flags = frozenset({SchedulerFlag.SH_PORT, SchedulerFlag.SH_FALLBACK})
    engine = "sip" if datapath.kind is DatapathKind.IPVS else None
    full = VirtualService(WEB, Scheduler.SH, flags, Persistence(60, 24, engine), one_packet=True)
    bare = VirtualService(WEB, Scheduler.SH)
    settle(datapath, AddService(full), EditService(full, bare))
    assert held(datapath, WEB) == ServiceState(bare)


def test_other_services_and_servers_stay_as_they_are(datapath: Datapath) -> None:
    states = random_states(Random(1), 20, datapath.features())
    settle(datapath, *(op for state in states.values() for op in adding(state)))
    before = datapath.read(states)
    settle(datapath, *adding(ServiceState(VirtualService(WEB), (A, B))))
    settle(datapath, EditServer(WEB, A, replace(A, weight=9)), RemoveServer(WEB, B))
    settle(datapath, RemoveService(VirtualService(WEB)))
    assert datapath.read(states) == before


# Idempotence.


def test_adding_twice_equals_adding_once(datapath: Datapath) -> None:
    state = ServiceState(VirtualService(WEB), (A, B))
    settle(datapath, *adding(state))
    settle(datapath, *adding(state))
    assert same(state, held(datapath, WEB))


def test_adding_what_is_there_makes_it_as_asked(datapath: Datapath) -> None:
    settle(datapath, *adding(ServiceState(VirtualService(WEB, Scheduler.RR), (A, B))))
    other = ServiceState(
        VirtualService(WEB, Scheduler.MH, persistence=Persistence(60, 24)),
        (replace(A, weight=5), replace(B, forwarding=Forwarding.DSR)),
    )
    settle(datapath, *adding(other))
    assert same(other, held(datapath, WEB))


def test_removing_the_absent_succeeds(datapath: Datapath) -> None:
    settle(datapath, RemoveServer(WEB, A), RemoveService(VirtualService(WEB)))
    settle(datapath, AddService(VirtualService(WEB)), RemoveServer(WEB, A))
    settle(datapath, *[RemoveService(VirtualService(WEB))] * 2)
    assert held(datapath, WEB) is None


@pytest.mark.parametrize(
    ("ops", "left"),
    [
        ([AddServer(WEB, replace(A, weight=3)), EditServer(WEB, A, replace(A, weight=4))], (4,)),
        ([EditServer(WEB, A, replace(A, weight=4)), AddServer(WEB, replace(A, weight=3))], (3,)),
        ([AddServer(WEB, replace(A, weight=3)), RemoveServer(WEB, A)], ()),
        ([RemoveServer(WEB, A), AddServer(WEB, replace(A, weight=3))], (3,)),
        ([AddServer(WEB, replace(A, weight=3)), AddServer(WEB, replace(A, weight=2))], (2,)),
        ([AddServer(WEB, replace(A, weight=3)), RemoveService(VirtualService(WEB))], None),
        ([AddService(VirtualService(WEB)), RemoveService(VirtualService(WEB))], None),
    ],
)
def test_ops_on_what_exists_take_effect_in_order(
    datapath: Datapath, ops: list[Op], left: tuple[int, ...] | None
) -> None:
    settle(datapath, *adding(ServiceState(VirtualService(WEB), (A,))))
    settle(datapath, *ops)
    state = held(datapath, WEB)
    assert (state and tuple(server.weight for server in state.servers)) == left


# Refusals.


@pytest.mark.parametrize(
    "op",
    [
        AddServer(WEB, A),
        EditServer(WEB, A, replace(A, weight=2)),
        EditService(VirtualService(WEB), VirtualService(WEB, Scheduler.RR)),
    ],
)
def test_nothing_can_be_done_to_an_absent_service(datapath: Datapath, op: Op) -> None:
    (failure,) = datapath.apply([op])
    assert (failure.op, failure.refusal) == (op, Refusal.ABSENT)
    assert "the service is not there" in failure.detail


def test_an_absent_server_cannot_be_edited(datapath: Datapath) -> None:
    settle(datapath, AddService(VirtualService(WEB)))
    (failure,) = datapath.apply([EditServer(WEB, A, replace(A, weight=2))])
    assert failure.refusal is Refusal.ABSENT
    assert "the server is not there" in failure.detail


def test_an_unknown_scheduler_is_unsupported_and_named(datapath: Datapath) -> None:
    service = VirtualService(WEB, foreign(Scheduler, "foo"))
    added, server = datapath.apply(adding(ServiceState(service, (A,))))
    assert added.refusal is Refusal.UNSUPPORTED
    if datapath.kind is DatapathKind.IPVS:
        assert 'scheduler "foo" is unknown to this kernel' in added.detail
    else:
        assert "scheduler foo is not in datapath xdp" in added.detail
    assert server.refusal is Refusal.ABSENT
    assert held(datapath, WEB) is None


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (replace(A, upper_threshold=1, lower_threshold=2), "lower threshold"),
        (A6, "needs forwarding method tunnel"),
        (replace(A6, forwarding=Forwarding.DSR), "needs forwarding method tunnel"),
        (
            replace(A, forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelType.GUE)),
            "a GUE tunnel needs a port",
        ),
        (replace(A, address=ip_address("224.0.0.1")), "not the address of one host"),
        (replace(A, address=ip_address("0.0.0.0")), "not the address of one host"),
    ],
)
def test_contradictions_are_invalid_and_named(
    datapath: Datapath, server: RealServer, why: str
) -> None:
    settle(datapath, AddService(VirtualService(WEB)))
    (failure,) = datapath.apply([AddServer(WEB, server)])
    assert failure.refusal is Refusal.INVALID
    assert why in failure.detail
    assert held(datapath, WEB) == ServiceState(VirtualService(WEB))


def test_failures_among_thousands_are_those_of_the_right_ops(datapath: Datapath) -> None:
    random = Random(3)
    ops: list[Op] = [AddService(VirtualService(WEB))]
    for number in range(2500):
        address = ip_address(f"10.{number // 250}.1.{number % 250 + 1}")
        wrong = 100 if random.random() < 0.05 else 0
        ops.append(AddServer(WEB, replace(A, address=address, lower_threshold=wrong)))
        if random.random() < 0.02:
            ops.append(EditServer(WEB, B, B))
    wrong_ops = [
        op
        for op in ops
        if isinstance(op, EditServer) or (isinstance(op, AddServer) and op.server.lower_threshold)
    ]
    failures = datapath.apply(ops)
    assert [failure.op for failure in failures] == wrong_ops
    state = held(datapath, WEB)
    assert state is not None
    assert len(state.servers) == len(ops) - 1 - len(wrong_ops)


# A new service with a scheduler whose table is dear to build.


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_new_mh_service_arrives_with_its_servers(datapath: Datapath, count: int) -> None:
    service = VirtualService(WEB, Scheduler.MH, frozenset({SchedulerFlag.MH_FALLBACK}))
    servers = tuple(replace(A, port=port) for port in range(1, count + 1))
    settle(datapath, *adding(ServiceState(service, servers)))
    assert same(ServiceState(service, servers), held(datapath, WEB))


def test_mh_services_that_come_before_all_servers_end_up_scheduled(datapath: Datapath) -> None:
    keys = [replace(WEB, port=port) for port in range(1, 6)]
    services = [VirtualService(key, Scheduler.MH) for key in keys]
    ops = [AddService(service) for service in services]
    settle(datapath, *ops, *(AddServer(key, s) for s in (A, B) for key in keys))
    for service in services:
        assert same(ServiceState(service, (A, B)), held(datapath, service.key))


# Fingerprints and lists.


def test_fingerprints_change_exactly_when_the_configuration_does(datapath: Datapath) -> None:
    random = Random(4)
    features = datapath.features()
    state = random_state(random, WEB, features)
    settle(datapath, *adding(state))
    before = held(datapath, WEB)
    for _ in range(20):
        mark = datapath.fingerprint(WEB)
        after = replace(state, servers=state.servers[1:]) if random.random() < 0.3 else state
        if random.random() < 0.6:
            after = random_state(random, WEB, features)
        settle(datapath, *changing(state, after))
        now = held(datapath, WEB)
        assert before is not None
        assert (datapath.fingerprint(WEB) == mark) == same(before, now)
        state, before = after, now


def test_a_server_removed_and_added_again_leaves_the_fingerprint(datapath: Datapath) -> None:
    settle(datapath, *adding(ServiceState(VirtualService(WEB), (A, B))))
    mark = datapath.fingerprint(WEB)
    settle(datapath, RemoveServer(WEB, A), AddServer(WEB, A))
    assert datapath.fingerprint(WEB) == mark


def test_an_absent_service_has_no_fingerprint_state_or_stats(datapath: Datapath) -> None:
    assert datapath.fingerprint(WEB) is None
    assert datapath.read([WEB]) == {}
    assert datapath.stats([WEB]) == {}


def test_every_service_is_listed(datapath: Datapath) -> None:
    states = random_states(Random(5), 150, datapath.features())
    settle(datapath, *(op for state in states.values() for op in adding(state)))
    listed = {service.key: service for service in datapath.services()}
    assert listed == {key: state.service for key, state in states.items()}


def test_statistics_name_every_server(datapath: Datapath) -> None:
    settle(datapath, *adding(ServiceState(VirtualService(WEB), (A, B))))
    stats = datapath.stats([WEB])
    assert stats.keys() == {WEB}
    assert stats[WEB].servers.keys() == {A.key, B.key}


def test_probing_features_leaves_no_trace(datapath: Datapath) -> None:
    settle(datapath, *adding(ServiceState(VirtualService(WEB), (A,))))
    mark = datapath.fingerprint(WEB)
    features = datapath.features()
    assert {Scheduler.RR, Scheduler.WLC} <= features.schedulers
    assert [service.key for service in datapath.services()] == [WEB]
    assert datapath.fingerprint(WEB) == mark
