"""What only IPVS has, and what only another program's eyes can tell of it."""

from __future__ import annotations

import errno
import socket
import subprocess
import time
from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest

from kernlb.datapath import ServiceStats
from kernlb.datapath.ipvs import IPVSDatapath, SyncDaemon, SyncRole, Timeouts, requests
from kernlb.datapath.ipvs.features import Probe
from kernlb.datapath.ipvs.netlink import Netlink
from kernlb.datapath.ipvs.replies import NO_PREFIX
from kernlb.model import (
    AddressKey,
    Family,
    FwmarkKey,
    L4Protocol,
    Persistence,
    Scheduler,
    ServiceKey,
    ServiceState,
    VirtualService,
)
from kernlb.plan import AddServer, AddService, EditServer, EditService, RemoveServer, RemoveService
from tests.netns.contract import ipvsadm
from tests.netns.contract.world import (
    WEB,
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

pytestmark = pytest.mark.ipvs


# ipvsadm says the same.


def test_ipvsadm_agrees_on_two_hundred_random_services(ipvs: IPVSDatapath) -> None:
    random = Random(11)
    features = ipvs.features()
    states = random_states(random, 60, features)
    settle(ipvs, *(op for state in states.values() for op in adding(state)))
    for _ in range(4):
        read = ipvs.read(states)
        assert all(same(state, read.get(key)) for key, state in states.items())
        assert ipvsadm.saved() == ipvsadm.expected(states.values())
        assert ipvsadm.thresholds() == ipvsadm.expected_thresholds(states.values())
        for key in random.sample(sorted(states, key=str), 50):
            after = random_state(random, key, features)
            settle(ipvs, *changing(states[key], after))
            states[key] = after


def test_what_ipvsadm_made_is_read(ipvs: IPVSDatapath) -> None:
    ipvsadm.run("-A", "-t", "192.0.2.10:80", "-s", "wrr", "-p", "300", "-M", "255.255.255.0")
    ipvsadm.run("-a", "-t", "192.0.2.10:80", "-r", "10.0.0.2:80", "-m", "-w", "7")
    service = VirtualService(WEB, Scheduler.WRR, persistence=Persistence(300, 24))
    assert held(ipvs, WEB) == ServiceState(service, (replace(A, weight=7),))


def test_a_foreign_service_stays_as_it_was(ipvs: IPVSDatapath) -> None:
    ipvsadm.run("-A", "-u", "192.0.2.99:53", "-s", "sh", "-b", "sh-port,flag-3", "-o")
    ipvsadm.run("-a", "-u", "192.0.2.99:53", "-r", "10.0.0.9:53", "-g", "-w", "7", "-x", "9")
    before = ipvsadm.run("-Sn")
    settle(ipvs, *adding(ServiceState(VirtualService(WEB, Scheduler.MH), (A, B))))
    settle(ipvs, EditService(VirtualService(WEB), VirtualService(WEB, Scheduler.RR)))
    settle(ipvs, EditServer(WEB, A, replace(A, weight=3)), RemoveServer(WEB, B))
    settle(ipvs, RemoveService(VirtualService(WEB)))
    assert ipvsadm.run("-Sn") == before


def test_a_netmask_with_holes_is_seen_as_a_difference(ipvs: IPVSDatapath) -> None:
    ipvsadm.run("-A", "-t", "192.0.2.10:80", "-s", "rr", "-p", "60", "-M", "255.0.255.0")
    (service,) = ipvs.services()
    assert service.persistence == Persistence(60, NO_PREFIX)


def test_drift_shows_in_the_fingerprint(ipvs: IPVSDatapath) -> None:
    settle(ipvs, *adding(ServiceState(VirtualService(WEB), (A, B))))
    before = ipvs.fingerprint(WEB)
    ipvsadm.run("-e", "-t", "192.0.2.10:80", "-r", "10.0.0.2:80", "-m", "-w", "2")
    drifted = ipvs.fingerprint(WEB)
    ipvsadm.run("-e", "-t", "192.0.2.10:80", "-r", "10.0.0.2:80", "-m", "-w", "1")
    assert drifted != before
    assert ipvs.fingerprint(WEB) == before


# Traffic.


def counted(ipvs: IPVSDatapath, key: ServiceKey, packets: int) -> ServiceStats:
    """The kernel sums up what its CPUs counted every two seconds (ip_vs_est.c)."""
    deadline = time.monotonic() + 20
    while (stats := ipvs.stats([key])[key]).counters.packets_in != packets:
        assert time.monotonic() < deadline, f"still {stats.counters.packets_in} packets"
        time.sleep(0.1)
    return stats


def test_traffic_counts_in_statistics_and_not_in_fingerprints(ipvs: IPVSDatapath) -> None:
    key = AddressKey(L4Protocol.UDP, ip_address("127.0.0.77"), 4000)
    server = replace(A, address=ip_address("127.0.0.1"), port=4001)
    settle(ipvs, *adding(ServiceState(VirtualService(key, Scheduler.RR), (server,))))
    before = ipvs.fingerprint(key)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as backend,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        backend.bind(("127.0.0.1", 4001))
        backend.settimeout(5)
        for _ in range(3):
            client.sendto(b"x", ("127.0.0.77", 4000))
            backend.recv(16)
    stats = counted(ipvs, key, packets=3)
    assert stats.counters.connections == 1
    assert stats.servers[server.key].inactive == 1
    assert ipvs.fingerprint(key) == before
    ipvs.zero(key)
    assert counted(ipvs, key, packets=0).counters.packets_in == 0


# The socket.


def test_refusals_are_all_heard_with_the_smallest_buffer() -> None:
    """Each lost error is asked for again, in smaller windows."""
    netlink = Netlink()
    netlink._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    datapath = IPVSDatapath(netlink)
    ops = [AddServer(WEB, replace(A, port=port)) for port in range(1, 700)]
    assert [failure.op for failure in datapath.apply(ops)] == ops
    datapath.close()


def test_a_large_service_is_read_whole(ipvs: IPVSDatapath) -> None:
    servers = tuple(replace(A, port=port) for port in range(1, 1501))
    settle(ipvs, *adding(ServiceState(VirtualService(WEB), servers)))
    assert same(ServiceState(VirtualService(WEB), servers), held(ipvs, WEB))
    assert len(ipvs.stats([WEB])[WEB].servers) == 1500


# Probing.


def test_what_a_killed_probe_left_is_hidden_and_then_removed(ipvs: IPVSDatapath) -> None:
    probe = Probe(Netlink())
    leftover = probe._service(Family.IPV4, None)
    leftover.__enter__()
    assert "-A -f" in ipvsadm.run("-Sn")
    assert ipvs.services() == []
    IPVSDatapath().close()
    assert ipvsadm.run("-Sn") == ""


def test_one_scheduler_is_asked_for_without_trying_the_others(ipvs: IPVSDatapath) -> None:
    assert ipvs.supports_scheduler(Scheduler.RR)
    assert ipvsadm.run("-Sn") == ""
    assert ipvs.connection_table_size >= 256


def test_a_service_without_a_scheduler_is_a_difference_to_be_edited(ipvs: IPVSDatapath) -> None:
    """What a daemon killed within an apply may leave of a new mh service."""
    wanted = VirtualService(WEB, Scheduler.MH)
    assert ipvs._netlink.exchange([requests.new_idle_service(wanted)]) == {}
    settle(ipvs, AddServer(WEB, A))
    (found,) = ipvs.services()
    assert str(found.scheduler) == "none"
    settle(ipvs, EditService(found, wanted))
    assert held(ipvs, WEB) == ServiceState(wanted, (A,))


# Settings of the whole.


def test_timeouts_are_set_one_by_one(ipvs: IPVSDatapath) -> None:
    before = ipvs.timeouts()
    ipvs.set_timeouts(Timeouts(udp=77))
    assert ipvs.timeouts() == replace(before, udp=77)
    ipvs.set_timeouts(before)
    assert ipvs.timeouts() == before


def test_an_impossible_timeout_is_refused_in_words(ipvs: IPVSDatapath) -> None:
    with pytest.raises(OSError, match="cannot set") as refused:
        ipvs.set_timeouts(Timeouts(tcp=2**31))
    assert refused.value.errno == errno.EINVAL


def test_connection_sync_is_started_changed_and_stopped(ipvs: IPVSDatapath) -> None:
    subprocess.run(["ip", "link", "add", "sync0", "type", "dummy"], check=True)
    subprocess.run(["ip", "link", "set", "sync0", "up"], check=True)
    subprocess.run(["ip", "addr", "add", "10.77.0.1/24", "dev", "sync0"], check=True)
    try:
        for sync_id in (5, 5, 6):
            ipvs.start_sync(SyncDaemon(SyncRole.MASTER, "sync0", sync_id))
            (daemon,) = ipvs.sync_daemons()
            assert (daemon.role, daemon.sync_id) == (SyncRole.MASTER, sync_id)
        ipvs.start_sync(SyncDaemon(SyncRole.BACKUP, "sync0", 7, port=9000))
        assert {daemon.role for daemon in ipvs.sync_daemons()} == set(SyncRole)
    finally:
        for role in (*SyncRole, *SyncRole):
            ipvs.stop_sync(role)
        subprocess.run(["ip", "link", "del", "sync0"], check=True)
    assert ipvs.sync_daemons() == []


def test_flushing_removes_everything(ipvs: IPVSDatapath) -> None:
    mark = FwmarkKey(Family.IPV6, 9)
    settle(ipvs, AddService(VirtualService(WEB)), AddService(VirtualService(mark)))
    ipvs.flush()
    assert ipvs.services() == []
