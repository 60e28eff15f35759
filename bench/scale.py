"""The daemon with 1 000 services of 100 servers: start, one change, rest. Run it on a kernel with
IPVS, or through the rung:

    sudo .venv/bin/python -m kernlb.lab.rung -- .venv/bin/python -m bench.scale

Prints seconds, CPU seconds of the daemon, and RSS; with --keepalived, the same of keepalived
with the same servers in the same run. Documents are YAML unless --json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kernlb.control.client import Client, DaemonUnreachableError

TICKS = os.sysconf("SC_CLK_TCK")
AUDIT = 60  # seconds: the default


def documents(directory: Path, services: int, servers: int, as_json: bool) -> None:
    directory.mkdir(parents=True)
    for i in range(services):
        body = {
            "address": f"10.{100 + i // 250}.{i % 250 + 1}.1",
            "port": 80,
            "scheduler": "wlc",
            "servers": [{"address": server(i * servers + j), "port": 8080} for j in range(servers)],
        }
        if as_json:
            (directory / f"s{i:05}.json").write_text(json.dumps(body))
            continue
        lines = [f"{key}: {body[key]}" for key in ("address", "port", "scheduler")]
        lines.append("servers:")
        for each in body["servers"]:
            lines += [f"  - address: {each['address']}", f"    port: {each['port']}"]
        (directory / f"s{i:05}.yaml").write_text("\n".join(lines) + "\n")


def server(number: int) -> str:
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def cpu(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss(pid: int) -> float:
    """Resident MB, and the highest it was."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def in_kernel() -> int:
    """Destinations that the kernel lists."""
    return Path("/proc/net/ip_vs").read_bytes().count(b"\n  -> ") - 1  # less the heading


def changed_in_kernel(weight: int) -> bool:
    return re.search(rf"Masq\s+{weight}\s", Path("/proc/net/ip_vs").read_text()) is not None


def wait_until(condition, timeout: float, pause: float = 0.05) -> float:
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout:
            raise SystemExit(f"not within {timeout} s")
        time.sleep(pause)
    return time.monotonic() - start


def run_kernlb(options: argparse.Namespace, root: Path) -> None:
    total = options.services * options.servers
    documents(root / "etc/services.d", options.services, options.servers, options.json)
    (root / "etc/kernlb.yaml").write_text(f"audit_interval: {AUDIT}\nmetrics_listen: false\n")
    command = [sys.executable, "-m", "kernlb.daemon", "--log-level", "error"]
    command += ["--config-dir", str(root / "etc"), "--state-dir", str(root / "state")]
    command += ["--socket", str(root / "socket")]
    client = Client(str(root / "socket"))

    def ready() -> bool:
        try:
            return client.status().services.get("synced", 0) == options.services
        except DaemonUnreachableError:
            return False

    def start(what: str) -> subprocess.Popen[bytes]:
        daemon = subprocess.Popen(command)
        took = wait_until(lambda: daemon.poll() is not None or ready(), 900)
        if daemon.poll() is not None:
            raise SystemExit("the daemon did not start")
        print(
            f"{what:<34} {took:7.1f} s   {cpu(daemon.pid):7.1f} s CPU   {rss(daemon.pid):6.0f} MB",
            flush=True,
        )
        return daemon

    daemon = start(f"cold start, {options.services} x {options.servers}")
    assert in_kernel() == total, in_kernel()
    took, used = [], []
    for i in range(options.changes):
        before, begun = cpu(daemon.pid), time.monotonic()
        client.edit_server(f"s{i * 7:05}", f"{server(i * 7 * options.servers)}:8080", {"weight": 5})
        took.append((time.monotonic() - begun) * 1000)
        used.append((cpu(daemon.pid) - before) * 1000)
    print(
        f"{'one server of them changed':<34} {statistics.median(took):7.1f} ms  "
        f"{statistics.median(used):7.1f} ms CPU   ({min(took):.1f}-{max(took):.1f} ms, "
        f"n={len(took)})",
        flush=True,
    )
    wait_until(lambda: client.status().last_audit > 0, 4 * AUDIT, 1.0)
    before, begun = cpu(daemon.pid), time.monotonic()
    time.sleep(options.rest)
    share = (cpu(daemon.pid) - before) / (time.monotonic() - begun)
    print(
        f"{'at rest, audit every 60 s':<34} {share * 100:7.2f} % CPU            "
        f"{rss(daemon.pid):6.0f} MB",
        flush=True,
    )
    daemon.kill()
    daemon.wait()
    daemon = start("start again, all there already")
    daemon.terminate()
    daemon.wait(60)
    assert in_kernel() == total, "a stop took servers out"


def run_keepalived(options: argparse.Namespace, root: Path) -> None:
    config = root / "keepalived.conf"

    def write(weight: int) -> None:
        lines = ["global_defs {", "  checker_log_all_failures false", "}"]
        for i in range(options.services):
            lines.append(f"virtual_server 10.{100 + i // 250}.{i % 250 + 1}.1 80 {{")
            lines += ["  lb_algo wlc", "  lb_kind NAT", "  protocol TCP"]
            for j in range(options.servers):
                lines.append(f"  real_server {server(i * options.servers + j)} 8080 {{")
                lines += [f"    weight {weight if i == j == 0 else 1}", "  }"]
            lines.append("}")
        config.write_text("\n".join(lines) + "\n")

    write(1)
    pids = root / "keepalived.pid", root / "checkers.pid"
    daemon = subprocess.Popen(
        ["keepalived", "-n", "-C", "-f", str(config), "-p", str(pids[0]), "-c", str(pids[1])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        total = options.services * options.servers
        took = wait_until(lambda: in_kernel() == total, 900, 0.2)
        checker = int(pids[1].read_text())
        print(
            f"{'keepalived: cold start':<34} {took:7.1f} s   {cpu(checker):7.1f} s CPU   "
            f"{rss(checker):6.0f} MB",
            flush=True,
        )
        write(5)
        wait_until(lambda: settled(checker), 120, 0.5)
        before, begun = cpu(checker), time.monotonic()
        daemon.send_signal(1)
        wait_until(lambda: changed_in_kernel(5), 600, 0.2)
        took = time.monotonic() - begun
        wait_until(lambda: settled(checker), 600, 0.5)
        print(
            f"{'keepalived: one server changed':<34} {took:7.1f} s   "
            f"{cpu(checker) - before:7.1f} s CPU",
            flush=True,
        )
    finally:
        daemon.kill()
        daemon.wait()
        if pids[1].exists():
            subprocess.run(["kill", "-9", pids[1].read_text().strip()], check=False)


def settled(pid: int) -> bool:
    before = cpu(pid)
    time.sleep(1)
    return cpu(pid) - before < 0.05


def fresh_module() -> None:
    """Removed servers linger in the module's trash and slow every add after: unload it."""
    modules = [*sorted(path.name for path in Path("/sys/module").glob("ip_vs_*")), "ip_vs"]
    for _ in range(60):
        if subprocess.run(["modprobe", "-r", *modules], check=False).returncode == 0:
            return
        time.sleep(1)
    raise SystemExit("cannot unload ip_vs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--changes", type=int, default=21, help="how often to change one server")
    parser.add_argument("--rest", type=float, default=90, help="seconds to watch the daemon rest")
    parser.add_argument("--json", action="store_true", help="documents in JSON")
    parser.add_argument("--keepalived", action="store_true", help="beside keepalived")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run_kernlb(options, Path(directory))
        subprocess.run(["ipvsadm", "-C"], check=True)
        if options.keepalived:
            fresh_module()
            shutil.rmtree(Path(directory) / "etc")
            run_keepalived(options, Path(directory))


if __name__ == "__main__":
    main()
