"""A web farm: three Debian machines with nginx, two balancers with kernlbd, clients, an operator.

    operator (the site's host)   web1  web2  web3     Debian in containers, by ssh
            |                      |     |     |
      ------+------------- br0 ----+-----+-----+
            |             |             |
      balancer1      balancer2        client           network namespaces

Each balancer has an address of its own that clients ask (10.77.0.101 and .102) and sends on by XDP,
dsr: servers answer the clients themselves. The balancers' kernlbd are this checkout's; Ansible
calls them on the operator's host, by the path of their sockets.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from kernlb.datapath.xdp.decap import hold_pass
from kernlb.datapath.xdp.loading import unload
from kernlb.lab.namespaces import inside, switch_checksum_offload_off
from tests.install.rolling_clients import BIG
from tests.machines.machine import Machine
from tests.machines.site import BRIDGE, Site
from tests.netns.traffic.daemon import Daemon
from tests.unit.pages import ROOT

SERVERS = ("web1", "web2", "web3")
VIPS = {"balancer1": "10.77.0.101", "balancer2": "10.77.0.102"}
CHECK = {"type": "http", "path": "/health", "body": "fine", "interval": 1, "timeout": 1}
NGINX = """\
server {
    listen 80 default_server backlog=4096;
    root /srv/site;
    add_header X-Server $hostname;
    default_type text/plain;
    error_page 418 = @leaving;
    location / { if (-e /run/web-farm-leaving) { return 418; } }
    location @leaving { keepalive_timeout 0; }
    location = /big { root /srv; limit_rate 200k; }
    location = /health { access_log off; }
}
"""
INSTALL = f"""
set -e
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends nginx-light >/dev/null
cp -r /tmp/first /srv/site
head -c {BIG} /dev/zero > /srv/big
cp /tmp/site.conf /etc/nginx/sites-available/default
for vip in 10.77.0.101 10.77.0.102; do ip address add $vip/32 dev lo; done
sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
systemctl restart nginx
"""


class Clients:
    """The clients' process, started and told to stop."""

    def __init__(self, namespace: str) -> None:
        program = Path(__file__).with_name("rolling_clients.py")
        argv = ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-I", str(program)]
        self._process = subprocess.Popen(
            [*argv, *VIPS.values()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"

    def stop(self) -> dict[str, Any]:
        printed, _ = self._process.communicate(timeout=90)
        told: dict[str, Any] = json.loads(printed)
        return told

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


class Farm:
    """Up while in the `with` block. ``folder`` becomes the operator's working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, Daemon] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _up(self) -> None:
        self.site = self._stack.enter_context(Site("container"))
        name = self.site.namespace
        self.client_namespace = f"{name}-client"
        (self.folder / "site.conf").write_text(NGINX)
        first = self.release("v1")
        machines = [self.site.add(name) for name in SERVERS]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda machine: self._install(machine, first), machines))
        self._host(self.client_namespace, 9)
        inside(self.client_namespace, lambda: switch_checksum_offload_off("eth0"))
        for number, balancer in enumerate(VIPS, 2):
            self._balancer(balancer, f"{name}-{balancer}", number)
        self._operator()

    def machine(self, name: str) -> Machine:
        return self.site.machines[name]

    def release(self, version: str, health: str = "fine") -> Path:
        """What is to be deployed, on the operator's host, and what it says of its health."""
        folder = Path(tempfile.mkdtemp(prefix=f"{version}-", dir=self.folder))
        folder.chmod(0o755)
        (folder / "version").write_text(f"{version}\n")
        (folder / "health").write_text(f"{health}\n")
        return folder

    def ansible(self, *words: str) -> subprocess.CompletedProcess[str]:
        """On the operator's host, in their working directory."""
        return self.site.run(words, cwd=self.folder, timeout=500, check=False, environ=self.environ)

    def servers(self, balancer: str) -> dict[str, str]:
        """State of each server, as a balancer has it."""
        views = self.daemons[balancer].client.service("web").servers
        names = {str(self.machine(name).address): name for name in SERVERS}
        return {names[view.address]: str(view.state) for view in views}

    def _install(self, machine: Machine, site: Path) -> None:
        machine.put(site, "/tmp/first")
        machine.put(self.folder / "site.conf", "/tmp/site.conf")
        machine.run(INSTALL)

    def _host(self, namespace: str, number: int) -> str:
        """A namespace on the bridge, 10.77.0.NUMBER; the name of its cable's far end."""
        far = f"far{number}"
        site = self.site.namespace
        self._run(f"ip netns add {namespace}")
        self._stack.callback(self._run, f"ip netns delete {namespace}")
        self._run(f"ip -n {namespace} link add eth0 type veth peer name {far} netns {site}")
        for line in (
            "link set lo up",
            "link set eth0 up",
            f"address add 10.77.0.{number}/24 dev eth0",
        ):
            self._run(f"ip -n {namespace} {line}")
        self._run(f"ip -n {site} link set {far} master {BRIDGE} up")
        return far

    def _balancer(self, name: str, namespace: str, number: int) -> None:
        far = self._host(namespace, number)
        inside(self.site.namespace, lambda: hold_pass([far]))
        pins = Path(f"/sys/fs/bpf/{namespace}")
        self._stack.callback(unload, pins)
        settings = {
            "defaults": {"datapath": "xdp"},
            "xdp": {
                "interfaces": ["eth0"],
                "connections": 131072,
                "connections6": 1024,
                "timeouts": {"tcpfin": 3, "tcp_time_wait": 3, "tcp_close": 3, "tcp_syn_recv": 5},
            },
        }
        daemon = Daemon(self.folder / name, namespace, settings)
        self._stack.callback(daemon.stop)
        servers = [{"address": str(self.machine(each).address)} for each in SERVERS]
        document = {
            "address": VIPS[name],
            "port": 80,
            "scheduler": "wlc",
            "forwarding": "dsr",
            "vip": {"interface": "eth0"},
            "check": CHECK,
            "servers": servers,
        }
        (daemon.services / "web.yaml").write_text(json.dumps(document))
        daemon.start("--pins", str(pins))
        self.daemons[name] = daemon

    def _operator(self) -> None:
        """Inventory, collection, settings: what the how-to has an operator set up."""
        collections = self.folder / "collections/ansible_collections/kernlb"
        collections.mkdir(parents=True)
        (collections / "balancer").symlink_to(ROOT / "ansible")
        self.environ = {
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "local"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_SSH_ARGS": f"-F {self.site.ssh_config}",
        }
        (self.folder / "ansible").symlink_to(ROOT / "ansible")
        inventory = yaml.safe_load((ROOT / "ansible/inventory/web-farm.yml").read_text())
        inventory["all"] = {"vars": {"ansible_python_interpreter": "/usr/bin/python3"}}
        for name in VIPS:
            inventory["balancers"]["hosts"][name] = {
                "ansible_connection": "local",
                "kernlb_socket": str(self.daemons[name].socket),
            }
        for name in SERVERS:
            address = str(self.machine(name).address)
            inventory["web"]["hosts"][name] = {"ansible_host": address, "ansible_user": "root"}
        self.inventory = inventory
        self.write_inventory()

    def write_inventory(self, **changes: dict[str, Any]) -> None:
        """Anew, with other variables of single servers, or of their group ``web``."""
        inventory = json.loads(json.dumps(self.inventory))
        group = inventory["web"]
        for name, variables in changes.items():
            (group["vars"] if name == "web" else group["hosts"][name]).update(variables)
        (self.folder / "farm.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))

    def _run(self, command: str) -> None:
        done = subprocess.run(command.split(), capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def wait_serving(farm: Farm, expected: Sequence[str], patience: float = 60.0) -> None:
    """Until every balancer has these servers up."""
    deadline = time.monotonic() + patience
    while True:
        found = {name: farm.servers(name) for name in VIPS}
        up = [
            {each for each, state in states.items() if state == "up"} for states in found.values()
        ]
        if all(each == set(expected) for each in up):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
