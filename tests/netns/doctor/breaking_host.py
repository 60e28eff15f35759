"""How a balancer with XDP is broken, and put right again."""

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
from tests.netns.doctor.ground import Broken, Clinic, Look, commands
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
    "health": {"lateness_limit": "3s"},  # a machine that many share is late at times, truly
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
