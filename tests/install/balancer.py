"""One installed machine that is all of it: a balancer by XDP, and its server in a namespace there.

Clients are the operator's host. Checks of four kinds ask the server, one of them by a program.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.machines.machine import Machine, Result
from tests.machines.site import Site

VIP = "10.77.0.100"
SERVER = "10.78.0.2"
METRICS = 9105

# Beside what systemd and ssh need: a link to a namespace with a web server in it. veth pairs hand
# XDP's frames on only where the other end is set to receive them, and want whole checksums.
GROUND = """set -e
ip netns add server
ip link add back type veth peer eth0 netns server
ip address add 10.78.0.1/24 dev back
ip link set back up
ip -n server address add 10.78.0.2/24 dev eth0
ip -n server link set lo up
ip -n server link set eth0 up
ip -n server route add default via 10.78.0.1
ip netns exec server python3 /root/as_cable.py eth0
sysctl -qw net.ipv4.ip_forward=1
mkdir -p /srv/server && echo served >/srv/server/index.html
cat >/etc/systemd/system/server.service <<END
[Service]
NetworkNamespacePath=/run/netns/server
ExecStart=python3 -m http.server -d /srv/server 80
END
systemctl daemon-reload
systemctl start server
"""
AS_CABLE = """import array, fcntl, socket, struct, sys
for command, value in ((0x2C, 1), (0x17, 0)):  # ETHTOOL_SGRO, ETHTOOL_STXCSUM
    said = array.array("I", [command, value])
    ifreq = struct.pack("16sP", sys.argv[1].encode(), said.buffer_info()[0]) + bytes(16)
    with socket.socket() as door:
        fcntl.ioctl(door, 0x8946, ifreq)  # SIOCETHTOOL
"""
CRITICAL = "test -e /srv/server/index.html || exit 2"  # 1 would be a warning, and pass
SETTINGS = {
    "metrics_listen": f"0.0.0.0:{METRICS}",
    "audit_interval": "5s",
    "defaults": {"datapath": "xdp", "vip_interface": "host0"},
    "xdp": {
        "interfaces": ["host0", "back"],
        "connections": 65536,
        "connections6": 8192,
        "services": 64,
        "servers": 1024,
        "slots": 65536,
    },
}
WEB = {
    "address": VIP,
    "port": 80,
    "scheduler": "rr",
    "forwarding": "nat",
    "servers": [{"address": SERVER}],
    "check": {
        "all": [
            "tcp",
            {"type": "http", "path": "/"},
            "icmp",
            {"type": "exec", "command": ["/bin/sh", "-c", CRITICAL]},
        ],
        "interval": "2s",
        "timeout": "1500ms",
    },
}


class Balancer:
    """Installed from the package, with one service; its unit is what the tests are about."""

    def __init__(self, site: Site, package: Path) -> None:
        self.site = site
        self.machine: Machine = site.add("unit")
        self._write("as_cable.py", AS_CABLE, "/root/as_cable.py")
        self._write("ground.sh", GROUND, "/root/ground.sh")
        self.machine.put(package, "/root/kernlb.deb")
        self.run("apt-get -qq install -y /root/kernlb.deb curl 2>&1", timeout=600)
        self.run("sh /root/ground.sh")
        self._write("kernlb.yaml", json.dumps(SETTINGS), "/etc/kernlb/kernlb.yaml")
        self.declare("web", WEB)
        self.run("systemctl restart kernlbd && kernlb wait healthy web --timeout 60s", timeout=300)

    def run(self, command: str, *, timeout: float = 120, check: bool = True) -> Result:
        return self.machine.run(command, timeout=timeout, check=check)

    def declare(self, name: str, document: dict[str, Any] | str) -> None:
        """Put a file there, as an editor or Ansible would; nothing is reloaded."""
        text = document if isinstance(document, str) else json.dumps(document)
        self._write(f"{name}.yaml", text, f"/etc/kernlb/services.d/{name}.yaml")

    def ask(self) -> str:
        """What a client gets at the VIP: the body, or curl's exit code."""
        url = f"http://{VIP}/"
        done = self.site.run(["curl", "-s", "--max-time", "5", url], check=False)
        return done.stdout.strip() or f"curl ended with {done.returncode}"

    def show(self, key: str) -> str:
        """A property of the unit."""
        return self.run(f"systemctl show -P {key} kernlbd").out.strip()

    def journal(self, *words: str) -> list[dict[str, Any]]:
        """Records of the unit, as journald keeps them."""
        said = self.run(f"journalctl -u kernlbd --no-pager -o json {' '.join(words)}").out
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    def _write(self, name: str, text: str, target: str) -> None:
        source = self.site.folder / name
        source.write_text(text)
        self.machine.put(source, target)
