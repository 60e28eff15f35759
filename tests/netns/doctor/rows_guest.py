"""What is broken on a balancer with IPVS: in batches, as an emulated guest is slow."""

from __future__ import annotations

import ctypes
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kernlb.control.client import ControlError
from kernlb.lab.namespaces import inside, write_sysctl
from tests.netns.doctor.ground import Broken, Clinic, Look, Row, commands, row, rows, sysctl
from tests.netns.traffic.wait import wait_for

NAT, TUN, DSR, ARM = "192.0.2.10", "192.0.2.11", "192.0.2.12", "10.1.0.100"
NAT6 = "fd00:aa::10"
_LO = {"vip": {"interface": "lo"}}
SERVICES = {
    "nat": {"address": NAT, "port": 80, "servers": [{"address": "10.1.0.11"}], **_LO},
    "nat6": {"address": NAT6, "port": 80, "servers": [{"address": "fd00:b::11"}], **_LO},
    "tun": {
        "address": TUN,
        "port": 80,
        "forwarding": "tunnel",
        "servers": [{"address": "10.1.0.12"}],
        **_LO,
    },
    "dsr": {
        "address": DSR,
        "port": 80,
        "forwarding": "dsr",
        "servers": [{"address": "10.1.0.13"}],
        **_LO,
    },
    "udp": {
        "address": DSR,
        "port": 53,
        "protocol": "udp",
        "forwarding": "dsr",
        "servers": [{"address": "10.1.0.13"}],
        **_LO,
    },
    "arm": {"address": ARM, "port": 80, "servers": [{"address": "10.1.0.11"}], **_LO},
    "mark": {"fwmark": 7, "servers": [{"address": "10.1.0.11", "port": 80}]},
}
SETTINGS = {
    "audit_interval": 3600,
    "defaults": {"scheduler": "rr"},
    "ipvs": {"sysctls": {"expire_nodest_conn": True}},
}
MARKING = """
table ip marking {
  chain prerouting {
    type filter hook prerouting priority -150;
    ip daddr 192.0.2.13 meta mark set 7
  }
}
"""


def ruleset(text: str) -> Broken:
    """Rules in a table named ``bad``, of family inet."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        clinic.lab.exec("balancer", ["nft", "-f", "-"], input=f"table inet bad {{\n{text}\n}}\n")
        try:
            yield
        finally:
            clinic.run("nft delete table inet bad", check=False)

    return broken


INVALID = """
chain input {
  type filter hook input priority 0;
  ip daddr 192.0.2.11 ct state invalid counter drop
}
"""
DROPPING = """
chain input {
  type filter hook input priority 0; policy drop;
  ip daddr { 192.0.2.11, 192.0.2.12, 10.1.0.100 } accept
  meta nfproto ipv6 accept
}
chain forward {
  type filter hook forward priority 0;
  iifname "back" ip saddr 10.1.0.11 tcp sport 80 drop
}
chain output {
  type filter hook output priority 0;
  ip protocol ipencap drop
}
"""
TRACKING = """
table ip tracking {
  chain input {
    type filter hook input priority 10;
    ct state established accept
  }
}
"""
SNAT = """
chain postrouting {
  type nat hook postrouting priority 100;
  oifname "back" ip daddr 10.1.0.11 masquerade
}
"""


def with_file(name: str, text: str) -> Broken:
    """A service by file and reload, whatever the kernel makes of it."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        path = clinic.daemon.services / f"{name}.yaml"
        path.write_text(text)
        _reload(clinic)
        try:
            yield
        finally:
            path.unlink()
            _reload(clinic)

    return broken


def _reload(clinic: Clinic) -> None:
    with suppress(ControlError):  # it says what could not be done, and does the rest
        clinic.daemon.client.reload()


@contextmanager
def conflict(clinic: Clinic) -> Iterator[None]:
    """Somebody has the key before kernlb gets it."""
    clinic.run("ipvsadm -A -t 192.0.2.20:80 -s rr")
    text = "address: 192.0.2.20\nport: 80\nservers:\n- address: 10.1.0.12\n"
    try:
        with with_file("late", text)(clinic):
            yield
    finally:
        clinic.run("ipvsadm -D -t 192.0.2.20:80", check=False)


@contextmanager
def removed(clinic: Clinic) -> Iterator[None]:
    clinic.run(f"ipvsadm -D -t {TUN}:80")
    try:
        yield
    finally:
        clinic.daemon.client.reload()


@contextmanager
def backup(clinic: Clinic) -> Iterator[None]:
    clinic.sysctl("net.ipv4.vs.backup_only", "1")
    clinic.run("ipvsadm --start-daemon backup --mcast-interface back")
    try:
        yield
    finally:
        clinic.run("ipvsadm --stop-daemon backup", check=False)
        clinic.sysctl("net.ipv4.vs.backup_only", "0")


@contextmanager
def by_default(clinic: Clinic) -> Iterator[None]:
    """A mistyped network, and a default route."""
    clinic.run("ip route add default via 10.1.0.254")
    text = f"address: {NAT}\nport: 81\nservers:\n- address: 11.1.0.11\n"
    try:
        with with_file("typo", text)(clinic):
            yield
    finally:
        clinic.run("ip route del default via 10.1.0.254", check=False)


_STA_UNSYNC, _ADJ_STATUS, _ADJ_MAXERROR = 0x40, 0x10, 0x04


def mark_clock(*, synchronised: bool) -> None:
    """As a time daemon does it; of the guest."""

    class Timex(ctypes.Structure):
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        )

    wanted = Timex(modes=_ADJ_STATUS | _ADJ_MAXERROR, status=0 if synchronised else _STA_UNSYNC)
    assert ctypes.CDLL(None).adjtimex(ctypes.byref(wanted)) >= 0


@contextmanager
def unsynchronised(clinic: Clinic) -> Iterator[None]:
    mark_clock(synchronised=False)
    try:
        yield
    finally:
        mark_clock(synchronised=True)


@contextmanager
def jumped(clinic: Clinic) -> Iterator[None]:
    """An hour on, and back."""
    subprocess.run(["date", "-s", "+1 hour"], check=True, capture_output=True)
    mark_clock(synchronised=True)  # setting it has marked it
    try:
        yield
    finally:
        subprocess.run(["date", "-s", "-1 hour"], check=True, capture_output=True)
        mark_clock(synchronised=True)


@contextmanager
def crowded(clinic: Clinic) -> Iterator[None]:
    """1100 clients of a table with 256 buckets; it is counted until they are forgotten."""
    datagrams(clinic, DSR, 1100)
    yield


def datagrams(clinic: Clinic, to: str, number: int) -> None:
    """From as many ports of the client, to port 53."""

    def send() -> None:
        for port in range(20000, 20000 + number):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind(("10.0.0.2", port))
                client.sendto(b"?", (to, 53))

    inside(clinic.lab.topology.namespace("client"), send)


def filling(share: float) -> Broken:
    """The host's limit is lowered until the balancer's entries are ``share`` of it."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        key = "net.netfilter.nf_conntrack_max"
        before = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True).stdout
        clinic.lab.exec("balancer", ["nft", "-f", "-"], input=TRACKING)
        clinic.sysctl("net.netfilter.nf_conntrack_udp_timeout", "600")
        datagrams(clinic, "10.0.0.1", 200)
        count = int(clinic.run("sysctl -n net.netfilter.nf_conntrack_count"))
        assert count >= 200, "connections are tracked here"
        write_sysctl(key, str(int(count / share)))
        try:
            yield
        finally:
            write_sysctl(key, before.strip())
            clinic.run("nft delete table ip tracking")

    return broken


VS = "net.ipv4.vs."
v6_off = sysctl("net.ipv6.conf.all.forwarding", "0", "1")
dropping = sysctl(f"{VS}drop_packet", "3", "0")
no_expiry = sysctl(f"{VS}expire_nodest_conn", "0", "1")
redirecting = sysctl("net.ipv4.conf.back.send_redirects", "1", "0")
foreign = commands("ipvsadm -A -t 192.0.2.77:99 -s rr", "ipvsadm -D -t 192.0.2.77:99")
NUMBERS = rows(
    row(
        "ip6-forward-off",
        "forwarding is 0",
        v6_off,
        fix=True,
    ),
    row(
        "interface-forwarding-off",
        "net.ipv4.conf.back.forwarding is 0, and nat server",
        sysctl("net.ipv4.conf.back.forwarding", "0", "1"),
        fix=True,
    ),
    row("expire-nodest-off", "is 0", no_expiry, fix=True),
    row(
        "ipvs-sysctl-differs",
        "kernlb.yaml says 1",
        no_expiry,
        fix=True,
    ),
    row("conn-reuse-off", "is 0", sysctl(f"{VS}conn_reuse_mode", "0", "1"), fix=True),
    row("ipvs-drops-on-purpose", "drop_packet is 3", dropping, fix=True),
    row("pmtu-disc-off", "pmtu_disc is 0", sysctl(f"{VS}pmtu_disc", "0", "1")),
    row(
        "send-redirects",
        "both on back",
        redirecting,
        fix=True,
    ),
    row("ct-invalid-drop", "service tun: ", ruleset(INVALID)),
    row("clock-unsynchronised", "STA_UNSYNC", unsynchronised),
)
OBJECTS = rows(
    row(
        "ip-forward-off",
        "net.ipv4.ip_forward is 0",
        sysctl("net.ipv4.ip_forward", "0", "1"),
        fix=True,
    ),
    row("filter-drops-requests", f"tcp/{NAT}:80 is dropped by: policy drop", ruleset(DROPPING)),
    row("filter-drops-replies", "an answer of 10.1.0.11:80", commands("true", "true")),
    row("filter-drops-forwarded", "what is sent to 10.1.0.12:80", commands("true", "true")),
    row("nat-by-default-route", "11.1.0.11 via 10.1.0.254", by_default),
    row(
        "service-foreign",
        "tcp/192.0.2.77:99",
        foreign,
    ),
    row("service-conflict", "service late", conflict, "vip-missing", "service-serves-nobody"),
    row("service-not-in-kernel", f"tcp/{TUN}:80 is declared", removed),
    row("ipvs-backup-only", "runs as backup", backup),
    row("clock-jumped", "it was set by about +3", jumped, "audit-late"),
)
FILTERS = rows(
    row("fwmark-never-set", "sets mark 7", commands("nft delete table ip marking", "true")),
    row("snat-without-conntrack", "matches packets to 10.1.0.11:80", ruleset(SNAT)),
    row("conntrack-filling", "entries are in use", filling(0.85)),
)
FULL = rows(row("conntrack-full", "entries are in use", filling(1.0)))
BATCHES: dict[str, tuple[Row, ...]] = {
    "numbers": NUMBERS,
    "objects": OBJECTS,
    "filters": FILTERS,
    "full": FULL,
}


DEVICES_FILE = "xdp: {interfaces: [kb6, kv9]}\n"
_DEVICES_UP = "; ".join(
    (
        "ip link add kb6 type bond mode balance-alb",
        "ip link set kb6 up",
        "ip link add link back name kv9 type vlan id 9",
        "ip link set kv9 up",
        "ip link add kb2 type bond mode balance-xor xmit_hash_policy layer2",
        "ip link add kd2 type veth peer name kd3",
        "ip link set kd2 master kb2",
        "ip link set kd2 up",
        "ip link set kd3 up",
        "ip link set kb2 up",
        "ip addr add 10.9.0.1/24 dev kb2",
        "ip neigh add 10.9.0.2 dev kb2 lladdr 02:00:00:00:09:02",
        "ip route add 10.8.0.0/24 via 10.9.0.2",
    )
)
_DEVICES_DOWN = "ip link del kb6; ip link del kv9; ip link del kb2; ip link del kd2"
DEVICES = (
    ("xdp-bond-mode", "kb6 is in mode balance-alb"),
    ("bond-alb", "kb6 is in mode balance-alb"),
    ("bond-hash-layer2", "all servers are behind 10.9.0.2"),
    ("xdp-on-vlan", "kv9 is a vlan device on back"),
    ("bpf-unprivileged", "unprivileged_bpf_disabled is 0"),
    ("scheduler-missing", "has no ip_vs_twos"),
)
SHARED_GATEWAY = "address: 192.0.2.10\nport: 80\nscheduler: twos\nservers:\n- address: 10.8.0.11\n"


@contextmanager
def devices(clinic: Clinic) -> Iterator[Look]:
    """A host of bonds and VLANs, as files would have it."""
    key = "kernel.unprivileged_bpf_disabled"
    before = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True).stdout.strip()
    write_sysctl(key, "0")
    try:
        with commands(_DEVICES_UP, _DEVICES_DOWN)(clinic):
            yield clinic.file_look({"web": SHARED_GATEWAY}, DEVICES_FILE)
    finally:
        write_sysctl(key, before)


@contextmanager
def drifting(clinic: Clinic) -> Iterator[None]:
    """Somebody takes a server out, time and again; audits put it back."""
    daemon = clinic.daemon
    daemon.stop()
    daemon.settle({"audit_interval": 1})
    daemon.start(*daemon.options)
    for times in range(1, 4):
        wait_for(lambda: has_server(clinic), 30, "the server is there")
        clinic.run("ipvsadm -d -t 192.0.2.12:80 -r 10.1.0.13:80")
        wait_for(lambda n=times: daemon.client.status().drift_repaired >= n, 30, "it is repaired")
    yield


def has_server(clinic: Clinic) -> bool:
    return "10.1.0.13:80" in clinic.run("ipvsadm -Ln -t 192.0.2.12:80")


@contextmanager
def neighbourly(clinic: Clinic) -> Iterator[Look]:
    """In the host's own namespace, where the limit is."""
    run = [
        "ip netns attach kd-root 1",
        "ip link add kdd type dummy",
        "ip addr add 10.77.0.1/16 dev kdd",
        "ip link set kdd up",
        *(
            f"ip neigh add 10.77.1.{n} dev kdd lladdr 02:00:00:00:77:{n:02x} nud stale"
            for n in range(1, 61)
        ),
    ]
    key = "net.ipv4.neigh.default.gc_thresh3"
    before = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True).stdout.strip()
    for line in run:
        subprocess.run(line.split(), check=True)
    write_sysctl(key, "64")
    try:
        look = clinic.file_look({})
        yield Look(config=look.config, socket=look.socket, namespace="kd-root")
    finally:
        write_sysctl(key, before)
        for line in ("ip link del kdd", "ip netns del kd-root"):
            subprocess.run(line.split(), check=False)
