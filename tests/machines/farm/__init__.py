"""A web farm on machines: a balancer, three servers, and one service for each forwarding method.

    with Site("emulated") as site:
        farm = Farm(site)
        farm.play()
        farm.asked(METHODS[0])  # {"ipvs-nat": {"server1": 4, "server2": 4, "server3": 4}}

All is set up by the Ansible roles (play.yml). Clients are addresses of the operator's host: those
of nat are answered through the balancer (the servers have a route), the others straight.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.machines.emulated import together
from tests.machines.farm.packages import Packages
from tests.machines.image import ROOT
from tests.machines.site import Site

HERE = Path(__file__).parent
BALANCER, SERVERS = "balancer", ("server1", "server2", "server3")
CLIENT, NAT_CLIENTS = "198.51.100.2", "203.0.113.0/24"
# One each: a server cannot tell two VIPs apart, and a client's port may come again for the other.
NAT_CLIENT = {"ipvs": "203.0.113.2", "xdp": "203.0.113.3"}
VIPS = "192.0.2.0/24"
# It forwards nat's answers; servers are not told of a shorter way, which nat could not go.
SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv4.conf.host0.send_redirects": 0,
}
# Connections stay, and a module is one write.
ANSIBLE = {
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_FORKS": "4",
    "ANSIBLE_TIMEOUT": "120",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_HOST_KEY_CHECKING": "0",
    "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    "ANSIBLE_LOCALHOST_WARNING": "0",
}


@dataclass(frozen=True, slots=True)
class Method:
    """One way of forwarding, and the service that shows it."""

    datapath: str
    forwarding: str
    vip: str

    @property
    def name(self) -> str:
        return f"{self.datapath}-{self.forwarding}"

    @property
    def client(self) -> str:
        return NAT_CLIENT[self.datapath] if self.forwarding == "nat" else CLIENT


METHODS = (
    Method("ipvs", "nat", "192.0.2.1"),
    Method("ipvs", "tunnel", "192.0.2.2"),
    Method("ipvs", "dsr", "192.0.2.3"),
    Method("xdp", "dsr", "192.0.2.4"),
    Method("xdp", "tunnel", "192.0.2.5"),
    Method("xdp", "nat", "192.0.2.6"),
    Method("xdp", "fullnat", "192.0.2.7"),
)


@dataclass(frozen=True, slots=True)
class Played:
    """What Ansible said: its text, and of each host how many tasks changed something or failed."""

    text: str
    code: int
    changed: dict[str, int]


class Farm:
    """Machines are added to ``site``: the balancer, then the servers. Nothing is installed yet."""

    def __init__(self, site: Site, packages: Packages) -> None:
        self.site, self.packages = site, packages
        with together():
            self.balancer, *self.servers = [site.add(name) for name in (BALANCER, *SERVERS)]
        self.methods = tuple(m for m in METHODS if m.datapath == "xdp" or self.balancer.has_ipvs)
        for line in (
            f"address add {CLIENT}/32 dev lo",
            *(f"address add {client}/32 dev lo" for client in NAT_CLIENT.values()),
            f"route add {VIPS} via {self.balancer.address}",
        ):
            site.run(["ip", *line.split()])
        collection = site.folder / "collections" / "ansible_collections" / "kernlb" / "balancer"
        collection.parent.mkdir(parents=True)
        collection.symlink_to(ROOT / "ansible")
        self.inventory = site.folder / "farm.json"
        self.inventory.write_text(json.dumps(self._inventory(), indent=1))

    def play(self, *options: str, timeout: float = 3600, check: bool = True) -> Played:
        """Run play.yml by ansible-playbook on the operator's host."""
        environ = ANSIBLE | {
            "ANSIBLE_SSH_ARGS": f"-F {self.site.ssh_config}",
            "ANSIBLE_COLLECTIONS_PATH": str(self.site.folder / "collections"),
        }
        argv = ["ansible-playbook", "-i", str(self.inventory), str(HERE / "play.yml"), *options]
        done = self.site.run(argv, timeout=timeout, check=check, environ=environ)
        recap = re.findall(r"^(\S+)\s*: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE)
        return Played(done.stdout + done.stderr, done.returncode, {h: int(n) for h, n in recap})

    def asked(self, *methods: Method, times: int = 12) -> dict[str, Counter[str]]:
        """Ask the service of each method ``times`` times, each in a connection of its own.

        By method's name: how often which server answered. A request without an answer is counted
        under the words of its error.
        """
        done = self.site.run([*_asking(times, 0, methods)], timeout=60 + 40 * times)
        return _answers(done.stdout, methods)

    @contextmanager
    def under_requests(self, pause: float = 0.25) -> Iterator[dict[str, Counter[str]]]:
        """Ask all services on and on; what they answered is there after the end."""
        asking = self.site.start(
            _asking(0, pause, self.methods), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        answers: dict[str, Counter[str]] = {}
        try:
            yield answers
            printed, _ = asking.communicate(timeout=90)
            answers.update(_answers(printed, self.methods))
        finally:
            asking.kill()
            asking.wait(20)

    def services(self) -> dict[str, object]:
        """The documents of all services, by name."""
        return {method.name: self._service(method) for method in self.methods}

    def status(self) -> str:
        """What the balancer says of itself and its kernel, for messages of failed tests."""
        lines = (
            "kernlb status; kernlb doctor; ip -br address; journalctl -u kernlbd -n 30 --no-pager"
        )
        return self.balancer.run(lines, check=False).out

    def _inventory(self) -> dict[str, object]:
        tunnel_vips = [m.vip for m in self.methods if m.forwarding in ("tunnel", "dsr")]
        return {
            "balancers": {
                "hosts": {BALANCER: {}},
                "vars": {
                    "kernlb_settings": {"xdp": {"interfaces": ["host0"], "connections": 65536}},
                    "kernlb_sysctls": SYSCTLS,
                    "kernlb_services": self.services(),
                    "kernlb_deb": str(self.packages.now),
                },
            },
            "servers": {
                "hosts": {name: {} for name in SERVERS},
                "vars": {
                    "kernlb_deb": str(self.packages.now),
                    "farm_balancer": str(self.balancer.address),
                    "farm_nat_clients": NAT_CLIENTS,
                    "kernlb_realserver_method": "tunnel",
                    "kernlb_realserver_vips": tunnel_vips,
                    "kernlb_realserver_interface": "host0",
                },
            },
        }

    def _service(self, method: Method) -> dict[str, object]:
        return {
            "address": method.vip,
            "port": 80,
            "scheduler": "rr",
            "datapath": method.datapath,
            "forwarding": method.forwarding,
            "vip": {"interface": "host0"},
            "check": {"type": "tcp", "interval": "5s", "timeout": "4s"},
            "servers": [{"address": str(server.address)} for server in self.servers],
        }


def _asking(times: int, pause: float, methods: Sequence[Method]) -> list[str]:
    services = [f"{method.client}={method.vip}" for method in methods]
    return [sys.executable, "-IS", str(HERE / "asking.py"), str(times), str(pause), *services]


def _answers(printed: str, methods: Sequence[Method]) -> dict[str, Counter[str]]:
    by_vip = json.loads(printed)
    return {method.name: Counter(by_vip[method.vip]) for method in methods}
