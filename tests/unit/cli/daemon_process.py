"""A real kernlbd that holds services in memory (the fake datapath), as a process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from kernlb.control.client import Client, DaemonUnreachableError

PATIENCE = 30.0  # seconds


class DaemonProcess:
    """With its directories under ``base``; reads its counters each second."""

    def __init__(self, base: Path) -> None:
        self.socket = base / "s"
        self.client = Client(str(self.socket))
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None
        (base / "config" / "services.d").mkdir(parents=True)
        settings = "metrics_listen: false\noverview_interval: 1\n"
        (base / "config" / "kernlb.yaml").write_text(settings)

    def start(self) -> None:
        options = ["--datapath", "fake", "--log-level", "error", "--socket", self.socket]
        options += ["--config-dir", self._base / "config", "--state-dir", self._base / "state"]
        self._process = subprocess.Popen([sys.executable, "-m", "kernlb.daemon", *options])
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(PATIENCE) == 0
            self._process = None

    def declare(self, name: str, servers: int = 3, **settings: Any) -> None:
        """A service, new or another, with as many servers: 10.1.0.11 and so on."""
        document = {
            "address": "192.0.2.10",
            "port": 80,
            "scheduler": "wrr",
            "servers": [
                {"address": f"10.1.0.{10 + number}", "weight": number}
                for number in range(1, servers + 1)
            ],
            **settings,
        }
        self.client.add_service(name, msgspec.to_builtins(document), replace=True)

    def remove_all(self) -> None:
        for service in self.client.services():
            self.client.remove_service(service.name)

    def _answers(self) -> bool:
        try:
            self.client.version()
        except DaemonUnreachableError:
            return False
        return True
