"""Pictures for the documentation, of real traffic in a lab on this machine's own kernel (XDP).

    python -m kernlb.lab.pictures top docs/img/top.svg

Three services on three servers, under load that rises and falls; one of their checks finds a
server silent. What is drawn is what ``kernlb top`` shows then, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernlb.lab.network import Lab, LabError

COLUMNS = "120"
RATES = (10, 25, 45, 70, 60, 35, 20, 40, 55, 30)  # requests a second, one after the other
STEP = 4.0  # seconds of each
PATIENCE = 60.0
SETTINGS = {
    "metrics_listen": False,
    "overview_interval": 1,
    "xdp": {"interfaces": ["front", "back"]},
}
CHECK = {"type": "http", "interval": 1, "timeout": 0.5, "fall": 2}
SERVICES: dict[str, dict[str, Any]] = {
    "web": {"scheduler": "wrr", "forwarding": "dsr", "weights": (1, 2, 3), "check": CHECK},
    "shop": {
        "scheduler": "mh", "forwarding": "tunnel", "weights": (1, 1, 1),
        "check": {**CHECK, "port": 8080},
    },
    "mail": {"scheduler": "lc", "forwarding": "nat", "weights": (1, 1), "check": "tcp"},
}  # fmt: skip
SILENT = (
    "table inet silent { chain in { type filter hook input priority 0; tcp dport 8080 drop; }; }"
)


class PictureError(Exception):
    """The picture cannot be drawn; says why."""


class Balancer:
    """kernlbd on a lab's balancer, and the installed command line that talks to it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._socket = folder / "control.sock"
        self._pins = Path(f"/sys/fs/bpf/{lab.topology.name}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """With the services above; JSON is YAML too."""
        services = self._folder / "etc/services.d"
        services.mkdir(parents=True)
        (self._folder / "etc/kernlb.yaml").write_text(json.dumps(SETTINGS))
        for number, (name, settings) in enumerate(SERVICES.items()):
            (services / f"{name}.yaml").write_text(json.dumps(self._document(number, settings)))
        options = ["--config-dir", str(self._folder / "etc"), "--socket", str(self._socket)]
        options += ["--state-dir", str(self._folder / "state"), "--pins", str(self._pins)]
        argv = [sys.executable, "-m", "kernlb.daemon", "--log-level", "error", *options]
        daemon = self._lab.popen("balancer", argv)
        try:
            self.kernlb("wait", "ready", "--timeout", f"{PATIENCE:g}")
            yield
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE)
            self.kernlb("xdp", "unload", "--pins", str(self._pins))

    def _document(self, number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        topology = self._lab.topology
        servers = [
            {"address": str(host.v4), "weight": weight}
            for host, weight in zip(topology.servers, settings["weights"], strict=False)
        ]
        document = {key: value for key, value in settings.items() if key != "weights"}
        where = {"address": str(topology.vips(4)[number]), "port": 80, "datapath": "xdp"}
        return {**where, **document, "vip": {"interface": "front"}, "servers": servers}

    def kernlb(self, *words: str) -> None:
        """Raises PictureError with what it says."""
        argv = [sys.executable, "-m", "kernlb.cli", "--socket", str(self._socket), *words]
        environment = {**os.environ, "COLUMNS": COLUMNS}
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if done.returncode:
            raise PictureError(f"kernlb {' '.join(words)}: {done.stdout}{done.stderr}")


def top(lab: Lab, balancer: Balancer, path: Path) -> None:
    """A minute of traffic, and then the screen."""
    web, shop, mail = lab.topology.vips(4)[:3]
    steady = [lab.load.stream(shop, rate=12), lab.load.stream(mail, rate=5)]
    held = lab.load.open(web, port=80, count=9)
    for number, rate in enumerate(RATES):
        stream = lab.load.stream(web, rate=rate)
        if number == len(RATES) - 2:
            lab.exec("server3", ["nft", SILENT])
            balancer.kernlb("wait", "server", "shop", str(lab.topology.servers[2].v4), "down")
        time.sleep(STEP)
        if number == len(RATES) - 1:
            words = ["--once", "--expand", "--sort", "trouble"]
            balancer.kernlb("top", *words, "--svg", str(path))
        stream.stop()
    for stream in steady:
        stream.stop()
    lab.load.close_sessions(held)


PICTURES: dict[str, Callable[[Lab, Balancer, Path], None]] = {"top": top}


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2 or argv[0] not in PICTURES:
        print(f"usage: python -m kernlb.lab.pictures {'|'.join(PICTURES)} FILE", file=sys.stderr)
        return 2
    name, path = argv[0], Path(argv[1]).resolve()
    lab = Lab(f"pictures{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory(prefix="kernlb-pictures.") as folder, lab:
            balancer = Balancer(lab, Path(folder))
            with balancer.running():
                PICTURES[name](lab, balancer, path)
    except (PictureError, LabError) as failure:
        print(f"cannot draw {path}: {failure}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
