"""Where the monitors are measured: a network namespace whose loopback is full of servers.

One C process answers on every address of 127.0.0.0/8, so its processor time is apart from that of
whoever asks. What it was asked is counted by the namespace's kernel.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

PORT = 18099
TICKS = os.sysconf("SC_CLK_TCK")
_HERE = Path(__file__).parent


class Ground:
    """A context manager; ``folder`` is for whatever belongs to it."""

    def __enter__(self) -> Ground:
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.namespace = f"kbh{os.getpid()}"
        server, self.agreeing_ipvs = self.folder / "server", self.folder / "agreeing_ipvs.so"
        compiler = ["cc", "-O2", "-Wall"]
        run(*compiler, "-o", server, _HERE / "server.c")
        run(*compiler, "-shared", "-fPIC", "-o", self.agreeing_ipvs, _HERE / "agreeing_ipvs.c")
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        self.server = self.start(str(server), str(PORT), stdout=subprocess.PIPE)
        assert self.server.stdout is not None and self.server.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.server.kill()
        self.server.wait()
        run("ip", "netns", "del", self.namespace)
        self._folder.cleanup()

    def start(self, *command: str, **options: object) -> subprocess.Popen[bytes]:
        """A process in the namespace; nothing stands between it and the pid."""
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.namespace}", *command],
            **options,  # type: ignore[call-overload]
        )

    def asked(self) -> int:
        """Connections that the servers have been given so far."""
        lines = Path(f"/proc/{self.server.pid}/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(values[names.index("PassiveOpens")])


def address(number: int) -> str:
    """Of a server, from 0."""
    return str(IPv4Address("127.1.0.1") + number)


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """MB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=60)
