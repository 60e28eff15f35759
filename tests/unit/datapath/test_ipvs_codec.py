"""Values to bytes and back: against recorded bytes, against each other, against hostile ones."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernlb.datapath import Counters
from kernlb.datapath.ipvs import abi, replies, requests
from kernlb.datapath.ipvs.abi import Cmd, Dest, Svc
from kernlb.datapath.ipvs.attributes import MalformedReplyError, Run, pack, split, walk
from kernlb.datapath.ipvs.replies import NO_PREFIX
from kernlb.datapath.ipvs.settings import (
    SyncDaemon,
    SyncRole,
    Timeouts,
    daemons,
    information,
    new_daemon,
    set_timeouts,
    timeouts,
)
from kernlb.model import (
    AddressKey,
    Family,
    Forwarding,
    FwmarkKey,
    L4Protocol,
    Persistence,
    RealServer,
    Scheduler,
    SchedulerFlag,
    ServerKey,
    Tunnel,
    TunnelType,
    VirtualService,
)
from tests.unit.datapath import recorded, samples
from tests.unit.datapath.kernel_bytes import (
    attributes,
    done,
    message,
    server_answer,
    service_answer,
)

WEB = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)
MARK = FwmarkKey(Family.IPV6, 7)
NAT = RealServer(ip_address("10.0.0.2"), 80, 5)
GUE = RealServer(
    ip_address("10.0.0.3"),
    8080,
    65535,
    Forwarding.TUNNEL,
    Tunnel(TunnelType.GUE, 6080, checksum=True),
    upper_threshold=100,
    lower_threshold=50,
)
GRE = RealServer(ip_address("10.9.9.9"), 0, 0, Forwarding.TUNNEL, Tunnel(TunnelType.GRE))


def messages(datagram: bytes) -> list[Run]:
    return [run for run in split(datagram) if run.type != abi.NLMSG_DONE]


def read_service(answer: bytes) -> VirtualService:
    (service,) = replies.services(split(answer))
    return service


# What a real kernel sent.


def test_recorded_services_are_read_with_all_their_settings() -> None:
    assert list(replies.services(messages(recorded.SERVICES))) == [
        VirtualService(WEB, Scheduler.WRR, persistence=Persistence(300, 24, "sip")),
        VirtualService(
            MARK,
            Scheduler.SH,
            frozenset({SchedulerFlag.SH_PORT, SchedulerFlag.SH_FALLBACK}),
            one_packet=True,
        ),
    ]


def test_recorded_servers_are_read_with_all_their_settings() -> None:
    assert list(replies.servers(messages(recorded.SERVERS))) == [GUE, NAT]
    assert list(replies.servers(messages(recorded.MIXED_SERVER))) == [GRE]


def test_recorded_statistics_are_read() -> None:
    service = messages(recorded.SERVICES)[0]
    assert replies.service_counters(service) == Counters()
    stats = dict(replies.server_stats(messages(recorded.SERVERS)))
    assert stats.keys() == {NAT.key, GUE.key}


def test_recorded_settings_are_read() -> None:
    (info,) = split(recorded.INFO)
    assert information(info).version == "1.2.1"
    assert information(info).connection_table_size == 4096
    (config,) = split(recorded.CONFIG)
    assert timeouts(config) == Timeouts(tcp=900, tcp_fin=120, udp=300)
    group = ip_address("224.0.0.81")
    master, backup = daemons(messages(recorded.DAEMONS))
    assert master == SyncDaemon(SyncRole.MASTER, "d0", 5, 1472, group, 8848, 1)
    assert backup == SyncDaemon(SyncRole.BACKUP, "d0", 6, 1472, group + 1, 9999, 3)


def test_recorded_refusals_name_their_request_and_errno() -> None:
    runs = split(recorded.REFUSALS)
    assert [(run.sequence, replies.errno_of(run)) for run in runs] == [(16, 3), (17, 3)]


# What ipvsadm sends for the same wish.


def test_a_service_is_sent_with_the_attributes_that_ipvsadm_sends() -> None:
    service = VirtualService(
        WEB, Scheduler.SH, frozenset({SchedulerFlag.SH_PORT}), Persistence(300, 24)
    )
    sent = attributes(requests.new_service(service)[1], Cmd.SERVICE)
    assert sent == attributes(recorded.IPVSADM_ADD_SERVICE[4:], Cmd.SERVICE)


def test_an_ipv6_service_is_sent_with_the_attributes_that_ipvsadm_sends() -> None:
    key = AddressKey(L4Protocol.TCP, ip_address("2001:db8::1"), 80)
    sent = attributes(requests.new_service(VirtualService(key, Scheduler.RR))[1], Cmd.SERVICE)
    assert sent == attributes(recorded.IPVSADM_ADD_SERVICE_IPV6[4:], Cmd.SERVICE)


def test_a_server_is_sent_with_the_attributes_that_ipvsadm_sends() -> None:
    tunnel = Tunnel(TunnelType.GUE, 6080, checksum=True)
    server = RealServer(ip_address("10.0.0.3"), 80, 7, Forwarding.TUNNEL, tunnel, 100, 50)
    sent = attributes(requests.server(server), Cmd.DEST)
    assert sent == attributes(recorded.IPVSADM_ADD_SERVER[4:], Cmd.DEST)


def test_a_server_is_named_as_ipvsadm_names_it() -> None:
    sent = attributes(requests.server_key(*GUE.key), Cmd.DEST)
    assert sent.items() <= attributes(recorded.IPVSADM_REMOVE_SERVER[4:], Cmd.DEST).items()


# One is the other's reverse.


@given(samples.services())
def test_a_service_is_read_as_it_was_written(service: VirtualService) -> None:
    assert read_service(service_answer(requests.new_service(service))) == service


@given(st.lists(samples.servers(), max_size=20))
def test_servers_are_read_as_they_were_written(servers: list[RealServer]) -> None:
    datagram = b"".join(server_answer(requests.server(server)) for server in servers) + done()
    assert list(replies.servers(messages(datagram))) == servers


@given(samples.servers(), samples.servers())
def test_fingerprints_are_equal_exactly_when_servers_are(a: RealServer, b: RealServer) -> None:
    service = split(service_answer(requests.new_service(VirtualService(WEB))))[0]
    one, other = (
        replies.fingerprint(service, split(server_answer(requests.server(server))))
        for server in (a, b)
    )
    assert (one == other) == (a == b)


def test_fingerprints_ignore_traffic_and_the_order_of_servers() -> None:
    service = split(service_answer(requests.new_service(VirtualService(WEB))))[0]
    nat, gue = requests.server(NAT), requests.server(GUE)
    quiet = server_answer(nat) + server_answer(gue)
    busy = server_answer(gue, 7, 8, 9) + server_answer(nat, 1, 2, 3)
    assert replies.fingerprint(service, split(quiet)) == replies.fingerprint(service, split(busy))


def test_connections_and_counters_belong_to_their_server() -> None:
    datagram = server_answer(requests.server(NAT), 3, 4, 500) + server_answer(requests.server(GUE))
    stats = dict(replies.server_stats(split(datagram)))
    assert (stats[NAT.key].active, stats[NAT.key].inactive) == (3, 4)
    assert stats[NAT.key].counters.packets_in == 500
    assert stats[ServerKey(GUE.address, GUE.port)].active == 0


def test_timeouts_that_are_zero_are_not_sent() -> None:
    _command, body = set_timeouts(Timeouts(udp=30))
    assert walk(body, 0, len(body)).keys() == {Cmd.TIMEOUT_UDP}


def test_a_sync_daemon_is_read_as_it_was_written() -> None:
    daemon = SyncDaemon(SyncRole.BACKUP, "eth0", 7, 1400, ip_address("ff02::51"), 9000, 4)
    _command, body = new_daemon(daemon)
    assert list(daemons(split(message(9, body)))) == [daemon]


# What kernlb has no word for.


def test_an_unknown_scheduler_is_shown_by_its_name_and_equals_no_known_one() -> None:
    service = read_service(service_answer(requests.new_idle_service(VirtualService(WEB))))
    assert str(service.scheduler) == "none"
    assert service.scheduler not in list(Scheduler)
    with pytest.raises(ValueError, match="none"):
        Scheduler("none")


def test_an_unknown_forwarding_method_is_read_and_equals_no_known_one() -> None:
    sent = bytearray(server_answer(requests.server(NAT)))
    at = sent.find(pack(Dest.FWD_METHOD, bytes(4)))
    sent[at + 4] = 4
    (server,) = replies.servers(split(bytes(sent)))
    assert str(server.forwarding) == "method-4"
    assert server.forwarding not in list(Forwarding)


def test_remote_checksum_offload_is_a_tunnel_type_of_its_own() -> None:
    sent = bytearray(server_answer(requests.server(GUE)))
    at = sent.find(pack(Dest.TUN_FLAGS, bytes((1, 0))))
    sent[at + 4] = 2
    (server,) = replies.servers(split(bytes(sent)))
    assert server.tunnel is not None
    assert server.tunnel.type not in list(TunnelType)


def test_a_netmask_with_holes_is_a_prefix_that_nobody_asks_for() -> None:
    service = VirtualService(WEB, persistence=Persistence(60, 24))
    sent = bytearray(service_answer(requests.new_service(service)))
    at = sent.find(pack(Svc.NETMASK, bytes((255, 255, 255, 0))))
    sent[at + 4 : at + 8] = bytes((255, 0, 255, 0))
    persistence = read_service(bytes(sent)).persistence
    assert persistence is not None
    assert persistence.prefix == NO_PREFIX


def test_a_foreign_protocol_is_called_by_its_number_and_can_be_named_to_the_kernel() -> None:
    sent = bytearray(service_answer(requests.new_service(VirtualService(WEB))))
    at = sent.find(pack(Svc.PROTOCOL, bytes((6, 0))))
    sent[at + 4] = 50
    key = read_service(bytes(sent)).key
    assert str(key) == "50/192.0.2.10:80"
    named = attributes(requests.service_key(key), Cmd.SERVICE)
    assert named[Svc.PROTOCOL] == bytes((50, 0))


def test_a_kernel_without_tunnel_attributes_is_read_too() -> None:
    body = b"".join(
        pack(kind, value)
        for kind, value in attributes(requests.server(NAT), Cmd.DEST).items()
        if kind not in (Dest.TUN_TYPE, Dest.TUN_PORT, Dest.TUN_FLAGS)
    )
    assert list(replies.servers(split(message(5, pack(Cmd.DEST, body))))) == [NAT]


# Hostile bytes.

WHOLE = (recorded.SERVICES, recorded.SERVERS, recorded.INFO, recorded.DAEMONS, recorded.REFUSALS)


def read_everything(datagram: bytes) -> None:
    for run in split(datagram):
        for read in (
            lambda run: list(replies.services([run])),
            lambda run: list(replies.servers([run])),
            lambda run: list(replies.server_stats([run])),
            lambda run: list(daemons([run])),
            lambda run: replies.fingerprint(run, [run]),
            replies.service_counters,
            replies.errno_of,
            information,
            timeouts,
        ):
            try:
                read(run)
            except MalformedReplyError:
                continue


@given(st.sampled_from(WHOLE), st.data())
@settings(max_examples=300, deadline=None)
def test_truncated_and_garbled_answers_raise_one_error(whole: bytes, data: st.DataObject) -> None:
    datagram = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8)
    ):
        if at < len(datagram):
            datagram[at] = byte
    try:
        read_everything(bytes(datagram))
    except MalformedReplyError as error:
        assert "cannot read the answer of IPVS" in str(error)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_bytes_raise_one_error(datagram: bytes) -> None:
    try:
        read_everything(datagram)
    except MalformedReplyError as error:
        assert "cannot read the answer of IPVS" in str(error)
