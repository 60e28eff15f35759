"""The lab, up and down: applies what `commands.py` decided, starts the servers, and cleans up.

    with Lab("mytest") as lab:
        lab.exec("balancer", ["ipvsadm", "-Ln"])
        answers = lab.load.http(lab.topology.vips(4)[0], count=30)

One fork for each namespace and one for all links, because a fork costs 40 ms in an emulated
guest. Whatever runs in the lab's namespaces belongs to the lab: `down` ends it by pid, found by
namespace, so it needs no records and cleans up after an `up` that was killed half-way.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from kernlb.lab import commands, namespaces, servers
from kernlb.lab.kernels import try_to_load
from kernlb.lab.load import LoadClient
from kernlb.lab.topology import GUE_PORT, IPAddress, Topology

STATE = Path("/run/kernlb-lab")
PATIENCE = 60.0  # seconds that one command may take; emulated guests are slow


class LabError(Exception):
    """The lab cannot do what was asked of it; the message says what and why."""


class Lab:
    """A lab by name. Creating the object touches nothing; `up` and `down` are idempotent."""

    def __init__(self, name: str = "kernlb", servers: int = 3) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,40}", name):
            raise LabError(f'cannot name a lab "{name}": letters, digits, ".", "_" and "-" only')
        self.topology = Topology(name, server_count=servers)
        self.folder = STATE / name

    @classmethod
    def standing(cls, name: str) -> Self | None:
        """The lab of that name as it stands, with the servers it has; None when it is not up."""
        present = cls(name).present()
        servers = sum(namespace.startswith(f"{name}-server") for namespace in present)
        return cls(name, servers) if servers else None

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()

    @cached_property
    def features(self) -> frozenset[str]:
        """Those of commands.TUNNEL_MODULES that this kernel has, after trying to load them, and
        commands.XDP where its programs can be attached."""
        absent = [m for m in commands.TUNNEL_MODULES if not _has_module(m)]
        if absent:
            try_to_load(*absent)
        found = {m for m in commands.TUNNEL_MODULES if _has_module(m)}
        return frozenset(found | {commands.XDP} if _has_xdp() else found)

    @cached_property
    def load(self) -> LoadClient:
        """The load generator in the client's namespace, started when first used."""
        return self.start_load_client()

    def up(self) -> None:
        """Build the lab, replacing whatever of it is there. Raises LabError."""
        if os.geteuid() != 0:
            raise LabError("cannot bring the lab up: network namespaces need root")
        self.down()
        self.folder.mkdir(parents=True)
        servers.write_files(self.topology, self.folder)
        _ip_batch(commands.creation(self.topology))
        for setup in commands.setups(self.topology, self.features):
            namespaces.inside(setup.namespace, lambda setup=setup: _apply(setup))  # type: ignore[misc]
        _run(servers.backends_command(self.topology))
        for server in self.topology.servers:
            self.exec(server.role, servers.nginx_command(self.folder, server.role))

    def down(self) -> None:
        """End every process in the lab's namespaces, remove them and the lab's files."""
        if "load" in self.__dict__:
            self.load.close()
            del self.__dict__["load"]
        present = self.present()
        _end_processes(present)
        if present:
            _ip_batch(commands.removal(present))
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            STATE.rmdir()

    def present(self) -> tuple[str, ...]:
        """The lab's namespaces that exist, of however many servers it was brought up with."""
        fixed = {self.topology.namespace(role) for role in self.topology.roles}
        server = f"{self.topology.name}-server"
        return tuple(
            name
            for name in namespaces.named()
            if name in fixed or (name.startswith(server) and name.removeprefix(server).isdigit())
        )

    def script(self) -> list[str]:
        """What `up` does to the network, as shell commands; nothing is done."""
        lines = [f"ip {line}" for line in commands.creation(self.topology)]
        for setup in commands.setups(self.topology, self.features):
            lines += setup.script()
        return lines

    def exec(
        self,
        role: str,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = PATIENCE,
        input: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run argv in a role's namespace to its end. Raises LabError when it fails and `check`."""
        namespace = self.topology.namespace(role)
        return namespaces.inside(
            namespace, lambda: _run(argv, check=check, timeout=timeout, input=input, env=env)
        )

    def popen(self, role: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start argv in a role's namespace; options are those of subprocess.Popen."""
        namespace = self.topology.namespace(role)
        options.setdefault("stdin", subprocess.DEVNULL)
        return namespaces.inside(namespace, lambda: subprocess.Popen(list(argv), **options))

    def start_load_client(self) -> LoadClient:
        """Another load generator; the caller closes it (or `down` ends it)."""

        def start(argv: list[str], stdin: int, stdout: IO[bytes] | int) -> subprocess.Popen[bytes]:
            return self.popen("client", argv, stdin=stdin, stdout=stdout)

        return LoadClient(start, self.topology)

    def hold_vips(self) -> None:
        """Make all routed VIPs local on the balancer, as IPVS needs, for tests without kernlb."""
        lines = commands.holding_vips()
        namespaces.inside(self.topology.namespace("balancer"), lambda: _ip_batch(lines))

    def pids(self, role: str) -> list[int]:
        """The processes in a role's namespace."""
        return sorted(namespaces.processes([self.topology.namespace(role)]))

    def look(self) -> list[tuple[str, tuple[str, ...], list[int]]]:
        """Each role that is there, with its addresses and the processes in it."""
        standing = {role: self.topology.namespace(role) for role in self.topology.roles}
        hosts = self.topology.hosts
        return [
            (
                role,
                tuple(str(h.address(v)) for h in hosts if h.role == role for v in (4, 6)),
                self.pids(role),
            )
            for role, namespace in standing.items()
            if namespaces.exists(namespace)
        ]

    def unprepared(self) -> tuple[str, ...]:
        """The forwarding that the servers cannot undo, named by the module that would bring it."""
        if commands.XDP in self.features:
            return ()
        return tuple(m for m in commands.TUNNEL_MODULES if m not in self.features)

    def ping(self) -> dict[IPAddress, bool]:
        """Whether the client's pings to each host of the lab are answered."""
        targets = [host.address(v) for host in self.topology.hosts for v in (4, 6)]
        started = [
            (t, self.popen("client", ["ping", "-c1", "-W3", str(t)], stdout=subprocess.DEVNULL))
            for t in targets
        ]
        return {target: ping.wait(PATIENCE) == 0 for target, ping in started}


def _has_module(name: str) -> bool:
    if Path("/sys/module", name).exists():
        return True
    device = commands.FALLBACK_DEVICES.get(name)
    return device is not None and Path("/sys/class/net", device).exists()


def _has_xdp() -> bool:
    """An emulated guest imports this for a while, so only where it is asked."""
    from kernlb.datapath.xdp import decap

    try:
        decap.require()
    except OSError:
        return False
    return True


def _apply(setup: commands.Setup) -> None:
    """In the namespace. Sysctls go first, for links to come up under them, and again at the end,
    for devices that were not there yet."""
    for key, value in setup.sysctls:
        with suppress(FileNotFoundError):
            namespaces.write_sysctl(key, value)
    _ip_batch(setup.ip)
    if setup.ip6:
        _ip_batch(setup.ip6, "-6")
    for key, value in setup.sysctls:
        namespaces.write_sysctl(key, value)
    for device in setup.offload_off:
        namespaces.switch_checksum_offload_off(device)
    if setup.passing or setup.decap:
        _attach(setup)


def _attach(setup: commands.Setup) -> None:
    from kernlb.datapath.xdp import decap

    try:
        decap.hold_pass(setup.passing)
        for device in setup.decap:
            ends = decap.Decap(decap.addresses_of(device), gue_port=GUE_PORT)
            decap.attach(device, ends)
    except OSError as error:
        raise LabError(f"cannot prepare {setup.namespace} for XDP: {error}") from error


def _ip_batch(lines: Sequence[str], *options: str) -> None:
    _run(["ip", *options, "-batch", "-"], input="".join(line + "\n" for line in lines))


def _run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float = PATIENCE,
    input: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    source = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            check=False,
            **source,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"cannot run {' '.join(argv)}: {error}") from error
    if check and done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise LabError(f"cannot run {' '.join(argv)}: {said}")
    return done


def _end_processes(present: Sequence[str]) -> None:
    """Kill by pid, and wait until each is gone so that nothing holds its namespace."""
    if not present:
        return
    for pid in namespaces.processes(present):
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                select.select([descriptor], [], [], 5.0)
            finally:
                os.close(descriptor)
