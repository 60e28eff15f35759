"""A site: one network segment with machines on it, and the operator's host that sees them.

The segment is a bridge in a network namespace of its own; the operator's host is that namespace:
10.77.0.1 and fd77::1. Nothing of it touches this machine's network.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Self

from kernlb.lab.namespaces import inside, switch_checksum_offload_off
from tests.machines.machine import Machine, Shell

BRIDGE = "br0"
GATEWAY, GATEWAY6 = IPv4Address("10.77.0.1"), IPv6Address("fd77::1")
_numbers = itertools.count()

# Seconds, for an ssh connection to be there.
PATIENCE = {"container": 5, "emulated": 60}
SSH_CONFIG = """Host *
  User root
  IdentityFile {key}
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
  ConnectTimeout {patience}
  ServerAliveInterval 15
  ControlMaster auto
  ControlPath {folder}/%C
  ControlPersist 120
"""


class Site:
    """``kind`` is that of the machines to come: container or emulated."""

    def __init__(self, kind: str = "container") -> None:
        self.kind = kind
        self.namespace = f"kernlb-site-{os.getpid()}-{next(_numbers)}"
        self.within = ["nsenter", f"--net=/run/netns/{self.namespace}"]
        self.folder = Path(tempfile.mkdtemp(prefix="klsite"))
        self.key = self.folder / "key"
        self.ssh_config = self.folder / "ssh_config"
        self.machines: dict[str, Machine] = {}
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)],
            check=True,
            timeout=60,
        )
        self.ssh_config.write_text(
            SSH_CONFIG.format(key=self.key, folder=self.folder, patience=PATIENCE[kind])
        )
        subprocess.run(["ip", "netns", "add", self.namespace], check=True, timeout=20)
        for line in (
            "link set lo up",
            f"link add {BRIDGE} type bridge forward_delay 0",
            f"link set {BRIDGE} up",
            f"address add {GATEWAY}/24 dev {BRIDGE}",
            f"address add {GATEWAY6}/64 dev {BRIDGE} nodad",
        ):
            self.run(["ip", *line.split()])
        # A frame that XDP rewrites has its checksum already, as behind a cable.
        inside(self.namespace, lambda: switch_checksum_offload_off(BRIDGE))

    def add(self, name: str, suite: str = "bookworm") -> Machine:
        """Boot one more bare machine, reachable by ssh when this returns.

        Its addresses are 10.77.0.N and fd77::N, N counting from 10 in order of coming.
        """
        number = 10 + len(self.machines)
        address, address6 = GATEWAY + (number - 1), IPv6Address(f"fd77::{number:x}")
        with self.ssh_config.open("a") as file:
            file.write(f"Host {name}\n  HostName {address}\n")
        shell = Shell(name, self.within, self.ssh_config)
        machine: Machine
        if self.kind == "container":
            from tests.machines.container import Container

            machine = Container(self, shell, name, address, address6, suite)
        else:
            from tests.machines.emulated import Emulated

            machine = Emulated(self, shell, name, address, address6, suite)
        self.machines[name] = machine
        return machine

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 120,
        check: bool = True,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command on the operator's host: in the site's namespace, with this machine's files."""
        done = subprocess.run(
            [*self.within, *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env=os.environ | dict(environ or {}),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if check and done.returncode:
            shown = " ".join(argv)
            raise AssertionError(
                f"`{shown}` ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def start(self, argv: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """A command on the operator's host, left running; the caller ends it."""
        return subprocess.Popen([*self.within, *argv], text=True, **options)  # type: ignore[call-overload]

    def stop(self) -> None:
        """Everything off and gone."""
        for machine in self.machines.values():
            machine.stop()
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False, timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
