"""What is broken on a balancer with XDP, on this kernel."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernlb.datapath.xdp.attaching import attach, detach
from kernlb.datapath.xdp.libbpf import Mode
from kernlb.lab.commands import PASS_OBJECT
from kernlb.lab.namespaces import inside
from tests.netns.doctor.ground import Broken, Clinic, Look, commands, row, rows, sysctl
from tests.netns.traffic.wait import wait_for

ROOT = Path(__file__).parents[3]
WEB, NEAR, FAR = "192.0.2.10", "10.0.0.100", "10.1.0.100"  # VIPs: routed, of front, of back

LO = {"vip": {"interface": "lo"}}
SERVICES = {
    "web": {
        "address": WEB,
        "port": 80,
        "forwarding": "dsr",
        "vip": {"interface": "lo"},
        "servers": [{"address": f"10.1.0.1{n}"} for n in (1, 2, 3)],
    },
    "dns": {
        "address": WEB,
        "port": 53,
        "protocol": "udp",
        "forwarding": "dsr",
        "vip": {"interface": "lo"},
        "check": "none",
        "servers": [{"address": "10.1.0.12"}],
    },
    "near": {
        "address": NEAR,
        "port": 80,
        "forwarding": "tunnel",
        "vip": {"interface": "lo", "announce": "front"},
        "servers": [{"address": f"10.1.0.1{n}"} for n in (1, 2)],
    },
    "far": {
        "address": FAR,
        "port": 8080,
        "forwarding": "nat",
        "vip": {"interface": "lo", "announce": "back"},
        "servers": [{"address": "10.1.0.11"}],
    },
}
SETTINGS = {
    "audit_interval": 3600,
    "defaults": {"datapath": "xdp"},
    "xdp": {
        "interfaces": ["front", "back"],
        **dict.fromkeys(("connections", "connections6"), 4096),
        "services": 64,
        "servers": 128,
        "slots": 65536,
    },
}
GONE = ("xdp-unresolved", "neighbour-unresolved", "service-serves-nobody")


@contextmanager
def martians(clinic: Clinic) -> Iterator[None]:
    """A packet comes in by front with a source that is reached by back."""
    clinic.run("ip addr add 10.1.0.77/32 dev front", "client")
    clinic.sysctl("net.ipv4.conf.front.rp_filter", "1")
    try:
        clinic.run("ping -c1 -W1 -I 10.1.0.77 10.0.0.1", "client", check=False)
        yield
    finally:
        clinic.sysctl("net.ipv4.conf.front.rp_filter", "0")
        clinic.run("ip addr del 10.1.0.77/32 dev front", "client")


@contextmanager
def duplicate6(clinic: Clinic) -> Iterator[None]:
    """The client has the address already, and the balancer looks for duplicates."""
    clinic.run("ip addr add fd00:f::99/64 dev front nodad", "client")
    for key, value in (("all.accept_dad", "1"), ("front.accept_dad", "1")):
        clinic.sysctl(f"net.ipv6.conf.{key}", value)
    try:
        clinic.run("ip addr add fd00:f::99/64 dev front")
        wait_for(
            lambda: "dadfailed" in clinic.run("ip -6 addr show dev front"), 10, "it is noticed"
        )
        yield
    finally:
        clinic.run("ip addr del fd00:f::99/64 dev front")
        clinic.run("ip addr del fd00:f::99/64 dev front", "client")
        for key in ("all.accept_dad", "front.accept_dad"):
            clinic.sysctl(f"net.ipv6.conf.{key}", "0")


def listening(address: str, port: int) -> Broken:
    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        door = inside(clinic.namespace, lambda: socket.create_server((address, port)))
        with door:
            yield

    return broken


@contextmanager
def server_gone(clinic: Clinic) -> Iterator[None]:
    """Server 3 leaves the link, and what is known of it is forgotten."""
    clinic.run("ip link set server3 down", "switch")
    clinic.run("ip neigh flush to 10.1.0.13 dev back", check=False)
    clinic.run("ip neigh replace 10.1.0.13 dev back nud none", check=False)
    try:
        yield
    finally:
        clinic.run("ip link set server3 up", "switch")
        clinic.run("ip neigh flush to 10.1.0.13 dev back", check=False)
        wait_for(lambda: not clinic.daemon.client.status().xdp.unresolved, 20, "it is back")


@contextmanager
def resolved_after(clinic: Clinic) -> Iterator[None]:
    try:
        yield
    finally:
        wait_for(lambda: not clinic.daemon.client.status().xdp.unresolved, 20, "all is resolved")


@contextmanager
def cable_out(clinic: Clinic) -> Iterator[None]:
    """Of back: no server is reached, so that all probes fail at once."""
    clinic.run("ip link set balancer-b down", "switch")
    try:
        wait_for(lambda: clinic.daemon.client.status().health.partition_held, 30, "all fail")
        yield
    finally:
        clinic.run("ip link set balancer-b up", "switch")
        wait_for(lambda: _is_well(clinic), 40, "all is well again")


def _is_well(clinic: Clinic) -> bool:
    status = clinic.daemon.client.status()
    return not status.xdp.unresolved and not status.health.partition_held and status.serving == 7


@contextmanager
def no_hop(clinic: Clinic) -> Iterator[None]:
    """A route into nothing, and the daemon has seen it."""
    route = "blackhole 10.1.0.11/32"
    with routed(f"ip route add {route}", f"ip route del {route}")(clinic):
        wait_for(lambda: clinic.daemon.client.status().xdp.unresolved, 30, "it is seen")
        yield


@contextmanager
def many_servers(clinic: Clinic) -> Iterator[None]:
    """As many as the table almost cannot hold."""
    servers = [{"address": "10.1.0.11", "port": 9000 + n} for n in range(110)]
    document = {"address": WEB, "port": 9000, "forwarding": "nat", "servers": servers, **LO}
    clinic.daemon.client.add_service("many", document)
    try:
        yield
    finally:
        clinic.daemon.client.remove_service("many")
        wait_for(lambda: _servers(clinic) < 32, 60, "they are forgotten")


def _servers(clinic: Clinic) -> int:
    (table,) = [t for t in clinic.daemon.client.status().xdp.tables if t.name == "servers"]
    return table.used


def routed(do: str, undo: str) -> Broken:
    """As `commands`, and XDP knows its way again after it."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        with resolved_after(clinic), commands(do, undo)(clinic):
            yield

    return broken


@contextmanager
def detached(clinic: Clinic) -> Iterator[None]:
    inside(clinic.namespace, lambda: detach(clinic.pins, "front"))
    try:
        yield
    finally:
        inside(clinic.namespace, lambda: attach(clinic.pins, "front"))


@contextmanager
def somebody_elses(clinic: Clinic) -> Iterator[None]:
    with detached(clinic):
        clinic.run(f"ip link set front xdpdrv object {ROOT / PASS_OBJECT} program pass")
        try:
            yield
        finally:
            clinic.run("ip link set front xdp off")


@contextmanager
def generic(clinic: Clinic) -> Iterator[None]:
    inside(clinic.namespace, lambda: attach(clinic.pins, "front", Mode.GENERIC))
    try:
        yield
    finally:
        inside(clinic.namespace, lambda: attach(clinic.pins, "front"))


WEB_FILE = f"""\
address: {WEB}
port: 80
datapath: xdp
forwarding: dsr
vip: {{interface: lo}}
servers:
- address: 10.1.0.11
"""


def files(settings: str, document: str = WEB_FILE, do: str = "", undo: str = "") -> Broken:
    """Nobody answers, and the files say so much."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[Look]:
        with commands(do, undo)(clinic):
            yield clinic.file_look({"web": document} if document else {}, settings)

    return broken


@contextmanager
def stale(clinic: Clinic) -> Iterator[Look]:
    look = clinic.file_look({"web": WEB_FILE}, "xdp: {interfaces: [front, back]}")
    assert look.socket is not None
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(look.socket))
    look.socket.chmod(0o660)
    yield look


@contextmanager
def bad_file(clinic: Clinic) -> Iterator[None]:
    path = clinic.daemon.services / "bad.yaml"
    path.write_text("address: 192.0.2.19\nport: eighty\n")
    clinic.daemon.client.reload()
    try:
        yield
    finally:
        path.unlink()
        clinic.daemon.client.reload()


@contextmanager
def disabled(clinic: Clinic) -> Iterator[None]:
    clinic.daemon.client.disable_server("far", "10.1.0.11:8080")
    try:
        yield
    finally:
        clinic.daemon.client.enable_server("far", "10.1.0.11:8080")


@contextmanager
def few_descriptors(clinic: Clinic) -> Iterator[None]:
    pid = clinic.daemon.client.status().pid
    used = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={used + 40}:"], check=True)
    try:
        yield
    finally:
        subprocess.run(["prlimit", "--pid", str(pid), "--nofile=1024:"], check=True)


def small_disk(options: str) -> Broken:
    @contextmanager
    def broken(clinic: Clinic) -> Iterator[Look]:
        state = clinic.folder / f"disk-{options.replace(',', '-').replace('=', '')}"
        state.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", state], check=True)
        try:
            yield Look(state=state)
        finally:
            subprocess.run(["umount", state], check=True)

    return broken


@contextmanager
def writable(clinic: Clinic) -> Iterator[None]:
    clinic.daemon.services.chmod(0o777)
    try:
        yield
    finally:
        clinic.daemon.services.chmod(0o755)


@contextmanager
def open_socket(clinic: Clinic) -> Iterator[None]:
    before = clinic.daemon.socket.stat().st_mode
    clinic.daemon.socket.chmod(0o666)
    try:
        yield
    finally:
        clinic.daemon.socket.chmod(before & 0o777)


@contextmanager
def keepalived(clinic: Clinic) -> Iterator[None]:
    """The real one, with nothing to do."""
    settings = clinic.folder / "keepalived.conf"
    settings.write_text("global_defs {\n}\n")
    argv = ["keepalived", "-n", "-P", "-l", "-f", str(settings)]
    argv += ["-p", str(clinic.folder / "k.pid"), "-r", str(clinic.folder / "v.pid")]
    process = clinic.lab.popen(
        "balancer", argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        name = Path(f"/proc/{process.pid}/comm")
        wait_for(lambda: name.read_text().strip() == "keepalived", 10, "keepalived runs")
        yield
    finally:
        process.terminate()
        process.wait(20)


def restarted(**settings: object) -> Broken:
    """The daemon, with other settings for a while."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        daemon = clinic.daemon
        daemon.stop()
        daemon.settle(settings)
        daemon.start(*daemon.options)
        try:
            yield
        finally:
            daemon.stop()
            daemon.settle({})
            daemon.start(*daemon.options)
            wait_for(lambda: _is_well(clinic), 40, "all is well again")

    return broken


def frozen(seconds: float) -> Broken:
    """An audit is done each second, and a probe of each server; then nothing for ``seconds``."""

    @contextmanager
    def broken(clinic: Clinic) -> Iterator[None]:
        with restarted(audit_interval=1)(clinic):
            wait_for(lambda: clinic.daemon.client.status().last_audit, 30, "an audit is done")
            clinic.daemon.freeze(seconds)
            yield

    return broken


def front(family: str, key: str) -> Broken:
    return sysctl(f"net.{family}.conf.front.{key}", "1", "0")


few_ports = sysctl("net.ipv4.ip_local_port_range", "40000 40100", "32768 60999")
XDP = "xdp: {interfaces: [front, back]}"
IPVS_FILE = WEB_FILE.replace("xdp", "ipvs")
LARGER = {**SETTINGS["xdp"], "connections": 8192}
ROWS = rows(
    row(
        "proxy-arp",
        "front.proxy_arp is 1",
        front("ipv4", "proxy_arp"),
        fix=True,
    ),
    row(
        "proxy-ndp",
        "front.proxy_ndp is 1",
        front("ipv6", "proxy_ndp"),
        fix=True,
    ),
    row(
        "arp-ignore-on-balancer",
        f"{NEAR} of service near is on lo and asked for on front",
        front("ipv4", "arp_ignore"),
        fix=True,
    ),
    row(
        "interface-noarp",
        "front",
        commands("ip link set front arp off", "ip link set front arp on"),
    ),
    row("rp-filter-drops", "front.rp_filter is 1", martians, fix=True),
    row(
        "vip-missing",
        f"{WEB}: no interface has it",
        commands(f"ip addr del {WEB}/32 dev lo", f"ip addr add {WEB}/32 dev lo"),
        fix=True,
    ),
    row(
        "vip-elsewhere",
        "it is on front, and services dns, web want it on lo",
        commands(
            f"ip addr del {WEB}/32 dev lo; ip addr add {WEB}/32 dev front",
            f"ip addr del {WEB}/32 dev front; ip addr add {WEB}/32 dev lo",
        ),
        fix=True,
    ),
    row(
        "vip-network-on-lo",
        "all of 192.0.2.0/24 is taken for this host",
        commands(
            f"ip addr del {WEB}/32 dev lo; ip addr add {WEB}/24 dev lo",
            f"ip addr del {WEB}/24 dev lo; ip addr add {WEB}/32 dev lo",
        ),
        fix=True,
    ),
    row(
        "vip-prefix",
        f"{NEAR}/24 on front, beside 10.0.0.1/24",
        commands(f"ip addr add {NEAR}/24 dev front", f"ip addr del {NEAR}/24 dev front"),
    ),
    row(
        "vip-claimed",
        f"on front answers ARP for {NEAR}",
        commands(f"ip addr add {NEAR}/32 dev front", f"ip addr del {NEAR}/32 dev front", "client"),
    ),
    row(
        "vip-answered-by-server",
        "real server 10.1.0.11",
        commands(f"ip addr add {FAR}/32 dev back", f"ip addr del {FAR}/32 dev back", "server1"),
    ),
    row("address-duplicate", "fd00:f::99/64 on front", duplicate6),
    row(
        "vip-interface-down",
        f"front has no carrier; {NEAR} of service near",
        commands("ip link set balancer-f down", "ip link set balancer-f up", "switch"),
        "xdp-interface-down",
    ),
    row(
        "xdp-interface-down",
        "front has no carrier",
        commands("ip link set balancer-f down", "ip link set balancer-f up", "switch"),
        "vip-interface-down",
    ),
    row("vip-listener", f"listens on tcp/{WEB}:80", listening(WEB, 80)),
    row("port-listener", "listens on tcp/0.0.0.0:8080", listening("0.0.0.0", 8080)),
    row(
        "source-is-vip",
        f"has source {WEB}",
        routed(
            f"ip route replace 10.1.0.0/24 dev back src {WEB}",
            "ip route replace 10.1.0.0/24 dev back src 10.1.0.1",
        ),
        "xdp-unresolved",
    ),
    row(
        "server-no-route",
        "ip route get 10.1.0.11: blackhole",
        routed("ip route add blackhole 10.1.0.11/32", "ip route del blackhole 10.1.0.11/32"),
        "xdp-unresolved",
    ),
    row(
        "dsr-behind-gateway",
        "its route is 10.1.0.13 via 10.1.0.254 dev back",
        routed("ip route add 10.1.0.13 via 10.1.0.254", "ip route del 10.1.0.13"),
        "xdp-unresolved",
    ),
    row(
        "server-is-balancer",
        "10.1.0.13/32 on lo",
        routed("ip addr add 10.1.0.13/32 dev lo", "ip addr del 10.1.0.13/32 dev lo"),
        "xdp-unresolved",
    ),
    row("neighbour-unresolved", "10.1.0.13 does not answer on back", server_gone, *GONE),
    row("xdp-unresolved", f"of tcp/{WEB}:80: a route discards", no_hop, "server-no-route"),
    row(
        "server-no-carrier",
        "back has no carrier",
        cable_out,
        *GONE,
        *("vip-interface-down", "xdp-interface-down", "probes-all-failing"),
    ),
    row(
        "probes-all-failing",
        "almost everything failed at once",
        cable_out,
        *GONE,
        *("vip-interface-down", "xdp-interface-down", "server-no-carrier"),
    ),
    row(
        "tunnel-mtu",
        "back takes 1500 bytes; a packet of 1500 in its tunnel has 1520",
        commands("ip link set back mtu 1500", "ip link set back mtu 1600"),
    ),
    row("xdp-no-interface", "service web is of datapath xdp", files(""), "daemon-silent"),
    row(
        "xdp-interface-absent",
        "xdp.interfaces names eth9",
        files("xdp: {interfaces: [front, back, eth9]}"),
        "daemon-silent",
    ),
    row("xdp-missing", "front has no XDP program", detached),
    row("xdp-foreign", "which is not kernlb's", somebody_elses),
    row("xdp-generic", "front is attached in generic mode", generic),
    row(
        "xdp-no-native",
        "driver bridge of br9",
        files(
            "xdp: {interfaces: [front, back, br9]}",
            do="ip link add br9 type bridge; ip link set br9 up",
            undo="ip link del br9",
        ),
        *("daemon-silent", "xdp-missing", "xdp-interface-down"),
    ),
    row(
        "xdp-on-port",
        "front is a port of bridge br9",
        commands("ip link add br9 type bridge; ip link set front master br9", "ip link del br9"),
    ),
    row(
        "xdp-veth-checksum",
        "tx-checksumming on",
        commands("ethtool -K front tx on", "ethtool -K front tx off"),
        fix=True,
    ),
    row(
        "xdp-one-queue",
        "front receives by 1 queue",
        commands("ethtool -L front rx 1", "ethtool -L front rx 2"),
        fix=True,
    ),
    row("xdp-table-full", "117 of 128 entries are in use", many_servers),
    row(
        "xdp-warned",
        "conns4 stays at 4096 entries",
        restarted(xdp={**SETTINGS["xdp"], "connections": 8192}),
    ),
    row("daemon-silent", "no such socket", files(XDP)),
    row("socket-stale", "nobody listens on it", stale, "daemon-silent", fix=True),
    row("file-fault", "bad.yaml", bad_file),
    row("service-serves-nobody", "service far: none of its 1 servers serves", disabled),
    row("ipvs-missing", "has no ip_vs", files(XDP, IPVS_FILE), "daemon-silent"),
    row("descriptors-few", "descriptors open, has", few_descriptors),
    row(
        "ports-few",
        "40000 40100",
        few_ports,
        fix=True,
    ),
    row("state-disk-full", "0 MiB left", small_disk("size=64k,mode=755")),
    row("state-read-only", "mounted read-only", small_disk("size=64m,mode=755,ro")),
    row("files-writable-by-all", "its mode is 0777", writable, fix=True),
    row("socket-open-to-all", "its mode is 0666", open_socket, fix=True),
    row("other-manager", "keepalived: it runs here", keepalived),
    row("audit-late", "the last whole one ended", frozen(14), "probes-late"),
    row("probes-late", "probes", frozen(4)),
)

# Provoked by tests of their own, beside the table.
BESIDE = ("bpffs-missing", "kernel-old", "services-folder-missing", "xdp-veth-peer")
