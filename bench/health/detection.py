"""How long until a dead server is out of the kernel, and a recovered one back.

    sudo python -m bench.health.detection [--trials 100] [--ipvs] [--interval 1] [--fall 2] ...

In a lab of twenty real servers some are killed (SIGKILL: connections are refused) or swallow all
that comes (a black hole), each at a random time within the interval, and are mended when they are
out. A time begins just before the kill, or when the black hole is there, and ends when the kernel
has been changed and read back: kernlbd's event of it. With --ipvs the kernel itself is looked at,
every 20 ms, for kernlb and then for keepalived with the same settings, on a kernel that has IPVS
(make bench BENCH=bench.health.detection ARGS="--ipvs --trials 20"). Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from random import Random
from statistics import median
from threading import Thread
from typing import Any, Protocol, TypeVar

from kernlb.datapath.xdp.loading import unload
from kernlb.lab.namespaces import inside
from kernlb.lab.network import Lab
from kernlb.model import AddressKey, L4Protocol
from tests.netns.traffic.breaking import kill, silent, start
from tests.netns.traffic.daemon import Daemon

T = TypeVar("T")
SERVERS, BROKEN_AT_ONCE = 20, 5
SLACK = 0.05  # seconds that the daemon and the kernel may take on top
LOOK = 0.02  # seconds between two looks at the kernel
PATIENCE = 60.0
Mend = Callable[[], tuple[float, float]]
"""Mends a server: when that began, and when it was done. Who looks at the right moment sees the
server back in between: then the time that it took is below nothing."""
XDP = {"interfaces": ["front", "back"], "connections": 16384, "connections6": 16384}
XDP |= {"services": 64, "servers": 1024, "slots": 131072, "icmp_per_second": 0}


class Watcher(Protocol):
    """Knows when a server left the kernel, and when it came back."""

    def present(self) -> int:
        """Servers that the kernel has now."""

    def when(self, address: str, there: bool, since: float) -> float | None:
        """Time of day at which the kernel first had it so after ``since``; None: not yet."""


@dataclass
class Times:
    """In seconds, by what was done."""

    killed: list[float] = field(default_factory=list)
    silenced: list[float] = field(default_factory=list)
    restarted: list[float] = field(default_factory=list)
    heard_again: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description="time until a dead server is out of the kernel")
    parser.add_argument("--trials", type=int, default=100, help="of each kind")
    parser.add_argument("--ipvs", action="store_true", help="by IPVS, beside keepalived")
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--timeout", type=float, default=0.5, help="also between quick probes")
    parser.add_argument("--fall", type=int, default=2)
    parser.add_argument("--rise", type=int, default=2)
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root")
    contenders = {"kernlb, XDP": by_xdp}
    if options.ipvs:
        contenders = {"kernlb, IPVS": by_ipvs, "keepalived": keepalived}
    print("| who | event | trials | min | median | 90 % | 99 % | max | bound | over |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, contender in contenders.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            lab = stack.enter_context(Lab(f"detect{os.getpid()}", SERVERS))
            lab.hold_vips()
            watcher = stack.enter_context(contender(lab, folder, options))
            times = trials(lab, watcher, options)
        rows(name, times, options)
    print(f"\nload {os.getloadavg()[0]:.1f}, {os.uname().release}", file=sys.stderr)


# -- what is done


def trials(lab: Lab, watcher: Watcher, options: argparse.Namespace) -> Times:
    times, random = Times(), Random(4)
    wait_until(lambda: watcher.present() == SERVERS or None, "all servers are there")
    hosts = list(lab.topology.servers)
    for kills in (True, False):
        gone, back = (
            (times.killed, times.restarted) if kills else (times.silenced, times.heard_again)
        )
        while len(gone) < options.trials:
            some = random.sample(hosts, min(BROKEN_AT_ONCE, options.trials - len(gone)))
            broken: list[tuple[str, float, Mend]] = []
            for host in at_random_times(some, random, options.interval):
                broken.append((str(host.address(4)), *break_one(lab, host.role, kills)))
            gone += [wait_for(watcher, who, False, since) - since for who, since, _ in broken]
            mended = [
                (who, *mend()) for who, _, mend in at_random_times(broken, random, options.interval)
            ]
            back += [wait_for(watcher, who, True, begun) - done for who, begun, done in mended]
            print(f"{len(gone)} of {options.trials}", end="\r", file=sys.stderr)
    return times


def at_random_times(things: Sequence[T], random: Random, within: float) -> Iterator[T]:
    """One after the other, each at its time within so many seconds."""
    begin = time.monotonic()
    offsets = sorted(random.random() * within for _ in things)
    for offset, thing in zip(offsets, things, strict=True):
        time.sleep(max(0.0, begin + offset - time.monotonic()))
        yield thing


def break_one(lab: Lab, role: str, kills: bool) -> tuple[float, Mend]:
    """When, and what mends it."""
    if kills:
        when, command = kill(lab, role)

        def mend() -> tuple[float, float]:
            return time.time(), start(lab, role, command)

        return when, mend
    hole = ExitStack()
    when = hole.enter_context(silent(lab, role))

    def unblock() -> tuple[float, float]:
        begun = time.time()
        hole.close()
        return begun, time.time()

    return when, unblock


def wait_for(watcher: Watcher, who: str, there: bool, since: float) -> float:
    what = f"{who} is {'back' if there else 'out'}"
    return wait_until(lambda: watcher.when(who, there, since), what)


def wait_until(look: Callable[[], float | None], what: str) -> float:
    deadline = time.monotonic() + PATIENCE
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE:g} s: {what}")
        time.sleep(LOOK)
    return found


# -- contenders


@contextmanager
def by_xdp(lab: Lab, folder: Path, options: argparse.Namespace) -> Iterator[Watcher]:
    pins = Path(f"/sys/fs/bpf/detect{os.getpid()}")
    settings = {"audit_interval": 3600, "defaults": {"datapath": "xdp"}, "xdp": XDP}
    daemon = Daemon(folder, lab.topology.namespace("balancer"), settings)
    daemon.start("--pins", str(pins))
    try:
        declare(lab, daemon, options)
        yield _Events(daemon)
    finally:
        daemon.stop()
        unload(pins)


@contextmanager
def by_ipvs(lab: Lab, folder: Path, options: argparse.Namespace) -> Iterator[Watcher]:
    daemon = Daemon(folder, lab.topology.namespace("balancer"), {"audit_interval": 3600})
    daemon.start()
    try:
        declare(lab, daemon, options)
        yield _Kernel(lab)
    finally:
        daemon.stop()


@contextmanager
def keepalived(lab: Lab, folder: Path, options: argparse.Namespace) -> Iterator[Watcher]:
    lines = [f"virtual_server {lab.topology.vips(4)[0]} 80 {{", f"delay_loop {options.interval:g}"]
    lines += ["lb_algo rr", "lb_kind DR", "protocol TCP"]
    for server in lab.topology.servers:
        lines += [f"real_server {server.address(4)} 80 {{", "weight 1", "TCP_CHECK {"]
        lines += [f"connect_timeout {options.timeout:g}", f"retry {options.fall - 1}"]
        lines += [f"delay_before_retry {options.timeout:g}", "}", "}"]
    config = folder / "keepalived.conf"
    config.write_text("\n".join([*lines, "}"]) + "\n")
    namespace = f"--net=/run/netns/{lab.topology.namespace('balancer')}"
    command = ["nsenter", namespace, "keepalived", "-n", "-C", "-f", str(config)]
    command += ["-p", str(folder / "keepalived.pid"), "-c", str(folder / "checker.pid")]
    silence = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=silence, stderr=silence)
    try:
        yield _Kernel(lab)
    finally:
        process.terminate()
        process.wait(30)


def declare(lab: Lab, daemon: Daemon, options: argparse.Namespace) -> None:
    check = {"type": "tcp", "interval": options.interval, "timeout": options.timeout}
    check |= {"fast_interval": options.timeout, "rise": options.rise, "fall": options.fall}
    servers = [{"address": str(server.address(4))} for server in lab.topology.servers]
    document: dict[str, Any] = {
        "address": str(lab.topology.vips(4)[0]),
        "port": 80,
        "scheduler": "rr",
    }
    document |= {"check": check, "servers": servers}
    document |= {"health": {"damping": False}}  # these servers flap indeed
    daemon.client.add_service("web", document)


class _Events:
    """By the daemon's word, given after it has read the kernel back."""

    def __init__(self, daemon: Daemon) -> None:
        self._client = daemon.client

    def present(self) -> int:
        return sum(server.in_kernel for server in self._client.service("web").servers)

    def when(self, address: str, there: bool, since: float) -> float | None:
        op = f"{'+' if there else '-'} server"
        for event in self._client.status().events:
            ops = event.text.removeprefix("service web: ").split("; ")
            if event.time >= since and any(
                each.startswith(op) and f"{address}:80" in each.split() for each in ops
            ):
                return event.time
        return None


class _Kernel(Thread):
    """By looking at it again and again."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        from kernlb.datapath.ipvs import IPVSDatapath

        self._door = inside(lab.topology.namespace("balancer"), IPVSDatapath)
        self._key = AddressKey(L4Protocol.TCP, lab.topology.vips(4)[0], 80)
        self._there: set[str] = set()
        self._changed: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        while True:
            state = self._door.read([self._key]).get(self._key)
            there = {str(each.address) for each in state.servers if each.weight} if state else set()
            self._changed |= dict.fromkeys(there ^ self._there, time.time())
            self._there = there
            time.sleep(LOOK)

    def present(self) -> int:
        return len(self._there)

    def when(self, address: str, there: bool, since: float) -> float | None:
        changed = self._changed.get(address, 0.0)
        return changed if changed >= since and (address in self._there) is there else None


# -- the table


def rows(who: str, times: Times, options: argparse.Namespace) -> None:
    interval, timeout = options.interval, options.timeout
    again = interval + timeout * (options.rise - 1)
    kinds = (
        ("killed, out", times.killed, interval + timeout * (options.fall - 1)),
        ("killed, back", times.restarted, again),
        ("black hole, out", times.silenced, interval + timeout * options.fall),
        ("black hole, back", times.heard_again, again),
    )
    for what, found, bound in kinds:
        found = sorted(found)
        cells = [found[0], median(found), *(found[ceil(len(found) * q) - 1] for q in (0.9, 0.99))]
        shown = " | ".join(f"{each:.3f}" for each in [*cells, found[-1], bound + SLACK])
        over = sum(each > bound + SLACK for each in found)
        print(f"| {who} | {what} | {len(found)} | {shown} | {over} |", flush=True)


if __name__ == "__main__":
    main()
