"""What the health monitor costs at scale, the whole of kernlbd beside keepalived's checker.

    sudo python -m bench.health.scale [--rounds 2] [--targets 10000] [--seconds 20]

Work: targets on loopback addresses in 100 services, asked every 5 s by TCP or HTTP; and again with
a tenth of the servers, each of them in ten services. Contenders take turns within a round, the
same servers answer them, and the namespace's kernel counts what they were asked. kernlbd holds
its services in memory (``--datapath fake``) and keepalived is told that its kernel agrees to
everything (agreeing_ipvs.c): in both, what is measured is checking. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.health.ground import PORT, Ground, address, cpu, resident
from kernlb.control.client import Client, DaemonUnreachableError

INTERVAL, TIMEOUT, FAST, FALL = 5, 2, 1, 3
SERVICES = 100
SHARING = 10  # services that a server stands in, where it is in several
START_LIMIT = 120.0


@dataclass(frozen=True)
class Work:
    kind: str  # tcp or http
    targets: int  # entries: servers counted in every service
    servers: int

    def __str__(self) -> str:
        if self.servers == self.targets:
            return f"{self.kind}, {self.targets} servers"
        return (
            f"{self.kind}, {self.servers} servers in {self.targets // self.servers} services each"
        )

    def services(self) -> Iterator[tuple[str, list[str]]]:
        """VIP and its servers' addresses."""
        each = self.targets // SERVICES
        for number in range(SERVICES):
            places = range(number * each, (number + 1) * each)
            yield f"10.100.{number}.1", [address(place % self.servers) for place in places]


@dataclass(frozen=True)
class Figures:
    cpu: float  # share of a core
    resident: float  # MB
    rate: float  # probes a second, as the servers saw them
    late: Sequence[float] = ()  # seconds, sorted


def main() -> None:
    parser = argparse.ArgumentParser(description="the cost of checking many servers")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--targets", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", choices=("kernlb", "keepalived"))
    parser.add_argument("kinds", nargs="*", default=["tcp", "http"])
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root: sudo make bench-health")
    works = [
        Work(kind, options.targets, servers)
        for servers in (options.targets, options.targets // SHARING)
        for kind in options.kinds
    ]
    contenders = {"kernlb": kernlb, "keepalived": keepalived}
    if options.only:
        contenders = {options.only: contenders[options.only]}
    elif shutil.which("keepalived") is None:
        print("keepalived is not installed: kernlb alone", file=sys.stderr)
        del contenders["keepalived"]
    found: dict[tuple[Work, str], list[Figures]] = {}
    with Ground() as ground:
        for number in range(options.rounds):
            for work in works:
                for name, contender in contenders.items():
                    with contender(ground, work) as (pid, late):
                        figures = measure(ground, pid, options.seconds, late)
                    found.setdefault((work, name), []).append(figures)
                    print(
                        f"round {number + 1}, {work}, {name}: {figures.cpu:.1%}, "
                        f"{figures.resident:.0f} MB, {figures.rate:.0f} a second; "
                        f"load {os.getloadavg()[0]:.1f}",
                        file=sys.stderr,
                    )
    table(works, list(contenders), found)


def measure(
    ground: Ground, pid: int, seconds: float, late: Callable[[], Sequence[float]]
) -> Figures:
    time.sleep(2 * INTERVAL)  # past the first probes: at rest
    late()
    before, asked, begin = cpu(pid), ground.asked(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begin
    share, rate = (cpu(pid) - before) / took, (ground.asked() - asked) / took
    return Figures(share, resident(pid), rate, sorted(late()))


# -- contenders: their process, and how late its probes were since it was last asked

Contender = Iterator[tuple[int, Callable[[], Sequence[float]]]]


@contextmanager
def kernlb(ground: Ground, work: Work) -> Contender:
    folder = ground.folder / f"kernlb{time.monotonic_ns()}"
    documents = folder / "etc/services.d"
    documents.mkdir(parents=True)
    (folder / "etc/kernlb.yaml").write_text("metrics_listen: false\n")
    check: dict[str, object] = {"type": work.kind, "interval": INTERVAL, "timeout": TIMEOUT}
    check |= {"fast_interval": FAST, "fall": FALL}
    if work.kind == "http":
        check |= {"path": "/", "status": 200}
    for number, (vip, servers) in enumerate(work.services()):
        document = {
            "address": vip,
            "port": 80,
            "check": check,
            "servers": [{"address": each, "port": PORT} for each in servers],
        }
        (documents / f"s{number:03}.json").write_text(json.dumps(document))
    late, socket = folder / "late", folder / "socket"
    command = [sys.executable, "-m", "bench.health.measured", str(late), "--datapath", "fake"]
    command += ["--log-level", "error", "--config-dir", str(folder / "etc")]
    command += ["--state-dir", str(folder / "state"), "--socket", str(socket)]
    daemon = ground.start(*command)
    client = Client(str(socket))

    def serving() -> bool:
        if daemon.poll() is not None:
            raise SystemExit("kernlbd ended")
        try:
            return client.status().services.get("synced", 0) == SERVICES
        except DaemonUnreachableError:
            return False

    try:
        wait_for(serving)
        yield daemon.pid, lambda: lateness(daemon.pid, late)
    finally:
        daemon.terminate()
        daemon.wait(30)


def lateness(pid: int, file: Path) -> Sequence[float]:
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    wait_for(file.exists)
    return array("f", file.read_bytes())


@contextmanager
def keepalived(ground: Ground, work: Work) -> Contender:
    lines = ["global_defs {", "  checker_log_all_failures false", "}"]
    check = f"connect_timeout {TIMEOUT}\n retry {FALL - 1}\n delay_before_retry {FAST}"
    if work.kind == "tcp":
        check = f"TCP_CHECK {{\n {check}\n}}"
    else:
        check = f"HTTP_GET {{\n url {{\n path /\n status_code 200\n }}\n {check}\n}}"
    for vip, servers in work.services():
        lines += [f"virtual_server {vip} 80 {{", f"delay_loop {INTERVAL}", "lb_algo wlc"]
        lines += ["lb_kind NAT", "protocol TCP"]
        for each in servers:
            lines += [f"real_server {each} {PORT} {{", "weight 1", check, "}"]
        lines.append("}")
    config, pids = ground.folder / "keepalived.conf", ground.folder / "keepalived"
    config.write_text("\n".join(lines) + "\n")
    checker = pids.with_suffix(".checker")
    checker.unlink(missing_ok=True)
    preload = {} if Path("/proc/net/ip_vs").exists() else {"LD_PRELOAD": str(ground.agreeing_ipvs)}
    command = ["keepalived", "-n", "-C", "-f", str(config), "-p", str(pids), "-c", str(checker)]
    silent = subprocess.DEVNULL
    parent = ground.start(*command, env={**os.environ, **preload}, stdout=silent, stderr=silent)
    try:
        wait_for(lambda: checker.exists() and checker.read_text().strip().isdigit())
        yield int(checker.read_text()), lambda: ()
    finally:
        if checker.exists():
            os.kill(int(checker.read_text()), signal.SIGKILL)  # else it takes the services out
        parent.kill()
        parent.wait(30)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {START_LIMIT:g} s")
        time.sleep(0.05)


# -- the table


def table(
    works: list[Work], names: list[str], found: dict[tuple[Work, str], list[Figures]]
) -> None:
    print("| work | who | probes a second | % of a core | to keepalived | MB |")
    print("|---|---|---|---|---|---|")
    for work in works:
        for name in names:
            rounds = found[work, name]
            shares = [each.cpu * 100 for each in rounds]
            ratio = "1" if name == "keepalived" else ""
            if name != "keepalived" and (rival := found.get((work, "keepalived"))):
                pairs = zip(rounds, rival, strict=True)
                ratio = f"{median(ours.cpu / theirs.cpu for ours, theirs in pairs):.2f}"
            print(
                f"| {work} | {name} | {median(each.rate for each in rounds):.0f} "
                f"| {median(shares):.1f} ({min(shares):.1f} to {max(shares):.1f}) | {ratio} "
                f"| {max(each.resident for each in rounds):.0f} |"
            )
    print("\n| lateness of kernlb's probes, ms | probes | median | 99 % | 99.9 % | worst |")
    print("|---|---|---|---|---|---|")
    for work in works:
        late = sorted(each for one in found.get((work, "kernlb"), ()) for each in one.late)
        if late:
            cells = [late[int(len(late) * share)] for share in (0.5, 0.99, 0.999)] + [late[-1]]
            shown = " | ".join(f"{each * 1000:.1f}" for each in cells)
            print(f"| {work} | {len(late)} | {shown} |")


if __name__ == "__main__":
    main()
