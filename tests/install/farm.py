"""A balancer that was installed from the package, under traffic that must notice nothing.

The balancer is a machine of the site. Its three servers are namespaces on the site's segment, with
the lab's web and echo servers; the clients are addresses of the operator's host. One service each
for every method that the balancer's kernel has:

    farm = Farm(site)
    farm.install(package)
    farm.declare()
    with farm.traffic() as traffic:
        farm.balancer.run("systemctl restart kernlbd")
        traffic.goes_on()

Clients of nat are answered through the balancer, by the servers' routes; others straight.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from kernlb.lab import backend
from kernlb.lab.load import LoadClient
from kernlb.lab.namespaces import inside, processes, switch_checksum_offload_off
from kernlb.lab.servers import nginx_command, nginx_configuration
from kernlb.lab.topology import Topology
from tests.install import download
from tests.install.traffic import Flow, Traffic
from tests.machines.machine import Result
from tests.machines.site import BRIDGE, GATEWAY, Site

SERVERS = {f"server{n}": GATEWAY + 100 + n for n in (1, 2, 3)}
VIPS = "192.0.2.0/24"
CLIENTS, NAT_CLIENTS = "198.51.100.", "203.0.113."
MANY = 10  # addresses of either kind
SETTINGS = "xdp: {interfaces: [host0], connections: 65536, connections6: 16384}\n"
SERVICES = "/etc/kernlb/services.d"
# As docs/forwarding.md has it for a balancer with one arm.
SYSCTLS = "ip_forward=1 conf.all.send_redirects=0 conf.host0.send_redirects=0"
PACKAGE = "/root/kernlb.deb"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y"


@dataclass(frozen=True, slots=True)
class Method:
    """One way of forwarding, at its own VIP."""

    datapath: str
    forwarding: str
    vip: IPv4Address

    @property
    def name(self) -> str:
        return f"{self.datapath}-{self.forwarding}"

    @property
    def clients(self) -> tuple[IPv4Address, ...]:
        network = NAT_CLIENTS if self.forwarding == "nat" else CLIENTS
        return tuple(IPv4Address(f"{network}{n}") for n in range(2, 2 + MANY))


METHODS = (
    Method("xdp", "dsr", IPv4Address("192.0.2.1")),
    Method("xdp", "nat", IPv4Address("192.0.2.2")),
    Method("xdp", "fullnat", IPv4Address("192.0.2.3")),
    Method("ipvs", "nat", IPv4Address("192.0.2.4")),
    Method("ipvs", "dsr", IPv4Address("192.0.2.5")),
)


class Farm:
    """Puts a machine called balancer on ``site``; ``stop`` ends what the site does not."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.balancer = site.add("balancer")
        self.methods = [m for m in METHODS if m.datapath == "xdp" or self.balancer.has_ipvs]
        self._folder = Path(tempfile.mkdtemp(prefix="kernlb-farm", dir="/var/tmp"))
        self._prepare_clients()
        for name, address in SERVERS.items():
            self._add_server(name, address)
        argv = [f"{name}={self._namespace(name)}" for name in SERVERS]
        site.run(["python3", "-I", "-S", backend.__file__, *argv])
        self.balancer.run(f"sysctl -qw {' '.join(f'net.ipv4.{each}' for each in SYSCTLS.split())}")
        self.load = LoadClient(self._start, Topology())

    # -- what an operator does

    def install(self, package: Path, *options: str, check: bool = True) -> Result:
        """Install, upgrade or downgrade to ``package`` by apt."""
        self.balancer.put(package, PACKAGE)
        return self.apt("install", *options, PACKAGE, check=check)

    def apt(self, *words: str, check: bool = True) -> Result:
        return self.balancer.run(f"{APT} {' '.join(words)} 2>&1", timeout=240, check=check)

    def declare(self) -> None:
        """Settings, and two services for each method: web on port 80, echo on port 7."""
        for name, document in self.documents().items():
            self.write(f"{SERVICES}/{name}.yaml", json.dumps(document, indent=1))
        self.write("/etc/kernlb/kernlb.yaml", SETTINGS)
        self.balancer.run("systemctl restart kernlbd")  # it takes interfaces at a reload too
        self.serving()

    def documents(self) -> dict[str, dict[str, Any]]:
        return {
            f"{kind}-{method.name}": {
                "address": str(method.vip),
                "port": port,
                "scheduler": "rr",
                "datapath": method.datapath,
                "forwarding": method.forwarding,
                "vip": {"interface": "host0"},
                "check": {"type": "tcp", "interval": "1s"},
                "servers": [{"address": str(address)} for address in SERVERS.values()],
            }
            for method in self.methods
            for kind, port in (("web", 80), ("echo", 7))
        }

    def write(self, path: str, text: str) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self._folder) as file:
            file.write(text)
            file.flush()
            self.balancer.put(Path(file.name), path)

    def serving(self) -> None:
        """Wait until kernlbd says that every service has all its servers."""
        self.balancer.run("kernlb wait ready --timeout 60")
        names = " ".join(self.documents())
        self.balancer.run(f"for name in {names}; do kernlb wait healthy $name || exit; done")

    def pid(self) -> str:
        """Of kernlbd, 0 if it does not run."""
        return self.balancer.run("systemctl show --property MainPID --value kernlbd").out.strip()

    def words(self) -> str:
        """What systemd and kernlbd say of kernlbd, for messages of failed tests."""
        lines = "systemctl status --no-pager --lines 0 kernlbd; kernlb status; "
        return self.balancer.run(f"{lines}journalctl -u kernlbd -n 30", check=False).out

    def program(self) -> str:
        """The tag of the XDP program on the balancer's interface; the kernel's hash of it."""
        shown = self.balancer.run("ip -d link show host0").out
        found = re.search(r"prog/xdp .* tag (\w+)", shown)
        return found[1] if found else ""

    # -- clients

    @contextmanager
    def traffic(self) -> Iterator[Traffic]:
        """Requests, open connections and a download, on every method; nothing of it may fail."""
        slow = self.balancer.kind == "emulated"
        rate, sessions = (30.0, 4) if slow else (150.0, 20)
        flows = [Flow(m.name, m.vip, m.clients) for m in self.methods]
        traffic = Traffic(self.site, self.load, flows, rate, sessions)
        try:
            yield traffic
            traffic.end()
        finally:
            traffic.close()

    def asked(self, method: Method) -> set[str | None]:
        """How three requests at once ended: None is an answer."""
        answers = self.load.http(
            method.vip, count=3, concurrency=3, sources=method.clients, timeout=3
        )
        return {answer.error for answer in answers}

    def stop(self) -> None:
        self.load.close()
        names = [self._namespace(name) for name in SERVERS]
        for pid in processes(names):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=20)
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the network

    def _prepare_clients(self) -> None:
        run = self.site.run
        for network, n in itertools.product((CLIENTS, NAT_CLIENTS), range(2, 2 + MANY)):
            run(["ip", "address", "add", f"{network}{n}/32", "dev", "lo"])
        run(["ip", "route", "add", VIPS, "via", str(self.balancer.address)])

    def _add_server(self, name: str, address: IPv4Address) -> None:
        namespace, within = self._namespace(name), ["ip", "-n", self._namespace(name)]
        subprocess.run(["ip", "netns", "add", namespace], check=True, timeout=20)
        link = f"link add {name} type veth peer name eth0 netns {namespace}"
        self.site.run(["ip", *link.split()])
        self.site.run(["ip", "link", "set", name, "master", BRIDGE, "up"])
        sysctls = "conf.all.arp_ignore=1 conf.all.arp_announce=2 conf.all.rp_filter=0"
        keys = [f"net.ipv4.{each}" for each in sysctls.split()]
        inside(namespace, lambda: subprocess.run(["sysctl", "-qw", *keys], check=True))
        lines = [
            "link set lo up",
            "link set eth0 up",
            f"address add {address}/24 dev eth0",
            f"route add {CLIENTS}0/24 via {GATEWAY}",
            f"route add {NAT_CLIENTS}0/24 via {self.balancer.address}",
            *(f"address add {m.vip}/32 dev lo" for m in self.methods if m.forwarding == "dsr"),
        ]
        for line in lines:
            subprocess.run([*within, *line.split()], check=True, timeout=20)
        inside(namespace, lambda: switch_checksum_offload_off("eth0"))
        www = self._folder / "www"
        www.mkdir(exist_ok=True)
        (www / "1mb").write_bytes(download.BODY)
        configuration = nginx_configuration(self._folder, name)
        (self._folder / f"{name}.nginx.conf").write_text(configuration)
        command = nginx_command(self._folder, name)
        inside(namespace, lambda: subprocess.run(command, check=True, timeout=20))

    def _namespace(self, name: str) -> str:
        return f"{self.site.namespace}-{name}"

    def _start(self, argv: list[str], stdin: int, stdout: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self.site.within, *argv], stdin=stdin, stdout=stdout)
