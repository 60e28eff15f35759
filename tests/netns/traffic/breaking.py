"""Ways to break a real server of a lab, and to mend it again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernlb.lab.network import Lab
from tests.netns.traffic.wait import wait_for

NGINX = "nginx"


def kill(lab: Lab, role: str, program: str = NGINX) -> tuple[float, list[str]]:
    """SIGKILL: the kernel refuses new connections at once and resets the open ones.

    Returns the time of day, and the command line that starts it again."""
    (pid,) = [pid for pid in lab.pids(role) if program in _command(pid)[0]]
    command = _command(pid)
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in lab.pids(role), 10, f"{program} of {role} is gone")
    return killed, command


def start(lab: Lab, role: str, command: list[str]) -> float:
    """Returns the time of day when it listens."""
    lab.exec(role, command)
    return time.time()


@contextmanager
def killed(lab: Lab, role: str, program: str = NGINX) -> Iterator[float]:
    when, command = kill(lab, role, program)
    try:
        yield when
    finally:
        start(lab, role, command)


@contextmanager
def silent(lab: Lab, role: str, port: int = 80) -> Iterator[float]:
    """Nothing that is sent to the port is answered in any way. Gives the time of day."""
    ruleset = "table inet silent { chain in { type filter hook input priority 0; "
    ruleset += f"tcp dport {port} drop; udp dport {port} drop; }}; }}"
    lab.exec(role, ["nft", ruleset])
    when = time.time()
    try:
        yield when
    finally:
        lab.exec(role, ["nft", "delete", "table", "inet", "silent"])


def _command(pid: int) -> list[str]:
    """Its arguments; nginx writes "nginx: master process nginx -e ..." over its own."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().split()
    if words and words[0] == "nginx:":
        words = words[words.index("nginx") :]
    return words or [""]
