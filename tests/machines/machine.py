"""One machine, as an operator has it: a shell over ssh, a way to put files there, a reboot."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Protocol

# A machine knows its own name: there is no name server to ask, and sudo does ask.
HOSTS = "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


class MachineError(AssertionError):
    """A command failed, or a machine did not come up; the message shows what it printed."""


class Machine(Protocol):
    """A booted machine. `run` and `put` are root's."""

    name: str
    address: IPv4Address
    address6: IPv6Address
    kind: str  # container, emulated
    has_ipvs: bool

    def run(self, command: str, *, timeout: float = 120, check: bool = True) -> Result:
        """Run a shell command there. Raises MachineError on a failure unless told not to check."""

    def put(self, source: Path, target: str) -> None:
        """Copy a file, or a folder with all in it, to ``target`` there."""

    def reboot(self) -> None:
        """Boot anew: the kernel's state is gone, the disk stays. Returns once it is up again."""

    def stop(self) -> None:
        """Off, at once."""


@dataclass(slots=True)
class Shell:
    """ssh to one machine, from the site's namespace, over one kept connection."""

    name: str
    within: list[str]  # what puts a command into the site's namespace
    config: Path  # ssh_config(5) of the site

    def run(self, command: str, timeout: float, check: bool) -> Result:
        argv = [*self.within, "ssh", "-F", str(self.config), self.name, command]
        try:
            done = _ssh(argv, timeout)
        except subprocess.TimeoutExpired as late:
            raise MachineError(
                f"{self.name}: `{command}` took more than {timeout:g} s\n"
                f"{late.stdout!r}\n{late.stderr!r}"
            ) from None
        result = Result(done.returncode, done.stdout, done.stderr)
        if check and result.code:
            raise MachineError(
                f"{self.name}: `{command}` ended with {result.code}\n{result.out}{result.err}"
            )
        return result

    def put(self, source: Path, target: str) -> None:
        argv = [*self.within, "scp", "-q", "-r", "-F", str(self.config), str(source)]
        done = subprocess.run(
            [*argv, f"{self.name}:{target}"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise MachineError(f"{self.name}: cannot put {source} to {target}: {done.stderr}")

    def forget(self) -> None:
        """Close the kept connection: the machine at its other end is going."""
        argv = ["ssh", "-F", str(self.config), "-O", "exit", self.name]
        subprocess.run(argv, capture_output=True, timeout=20, check=False)

    def wait_up(
        self,
        patience: float,
        last_words: Callable[[], str],
        not_boot: str = "",
        alive: Callable[[], bool] = lambda: True,
    ) -> str:
        """Wait until systemd has started what there is to start; the id of this boot."""
        deadline = time.monotonic() + patience
        said = ""
        while time.monotonic() < deadline and alive():
            asked = "cat /proc/sys/kernel/random/boot_id; systemctl is-system-running"
            try:
                result = self.run(asked, min(20.0, patience), False)
            except MachineError as slow:
                said = str(slow)
                continue
            boot, _, state = result.out.strip().partition("\n")
            said = f"{result.out}{result.err}"
            if state in ("running", "degraded") and boot != not_boot:
                return boot
            time.sleep(0.2)
        raise MachineError(
            f"{self.name} is not up within {patience:g} s: {said.strip()}\n{last_words()}"
        )


def _ssh(argv: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )
