"""How long a person waits for ``kernlb``, beside what Python and click alone take.

    python bench/cli.py [--runs 31]

Starts a daemon with the fake datapath and 1 000 services, runs each command in turn (round robin,
so that a busy moment hits all alike), and prints milliseconds: the median and best wall time, and
the mean processor time of the command alone, which a busy machine changes less. Bytecode is cached,
as an installed package has it. The aim: `service ls` of a few services below 120 ms.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

SERVICES = 1000
ENTRY = "from kernlb.cli import main; main()"  # what the console script runs
FLOORS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import click'": ["-c", "import click"],
    "python -c 'import click, msgspec'": ["-c", "import click, msgspec"],
}
COMMANDS = {
    "kernlb --help": ["--help"],
    "kernlb service --help": ["service", "--help"],
    "kernlb service ls (1 000 services)": ["service", "ls"],
    "kernlb server ls s0 (10 servers)": ["server", "ls", "s0"],
    "kernlb service ls -o json": ["service", "ls", "-o", "json"],
    "kernlb service show s0": ["service", "show", "s0"],
    "kernlb service add --dry-run": ["service", "add", "x", "198.51.100.1:80", "--dry-run"],
    "kernlb status": ["status"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="time the command line")
    parser.add_argument("--runs", type=int, default=31)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="kernlb-bench-") as scratch:
        environment = _environment(Path(scratch))
        daemon = _daemon(Path(scratch), environment)
        try:
            _report(_measure(runs, environment))
        finally:
            daemon.terminate()
            daemon.wait(30)


def _environment(scratch: Path) -> dict[str, str]:
    environment = {**os.environ, "KERNLB_SOCKET": str(scratch / "s")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(scratch / "bytecode")
    return environment


def _daemon(scratch: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    services = scratch / "config" / "services.d"
    services.mkdir(parents=True)
    for number in range(SERVICES):
        text = f"address: 10.{number >> 8}.{number & 255}.1\nport: 80\nservers:\n"
        text += "".join(f"  - address: 172.16.0.{last}\n" for last in range(1, 11))
        (services / f"s{number}.yaml").write_text(text)
    (scratch / "state").mkdir()
    options = ["--config-dir", f"{scratch}/config", "--state-dir", f"{scratch}/state"]
    daemon = subprocess.Popen(
        [sys.executable, "-m", "kernlb.daemon", "--datapath", "fake", *options,
         "--socket", environment["KERNLB_SOCKET"], "--log-level", "error"],
        env=environment,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and daemon.poll() is None:
        if _run(["-c", ENTRY, "status"], environment, check=False) == 0:
            return daemon
        time.sleep(0.2)
    daemon.kill()
    raise SystemExit("cannot start the daemon")


Sample = tuple[float, float]
"""Wall and processor time, milliseconds."""


def _measure(runs: int, environment: dict[str, str]) -> dict[str, list[Sample]]:
    lines = FLOORS | {name: ["-c", ENTRY, *words] for name, words in COMMANDS.items()}
    samples: dict[str, list[Sample]] = {name: [] for name in lines}
    for line in lines.values():
        _run(line, environment)  # warm the caches
    for _ in range(runs):
        for name, line in lines.items():
            wall, before = time.perf_counter(), os.times()
            _run(line, environment)
            after = os.times()
            used = sum(after[2:4]) - sum(before[2:4])
            samples[name].append(((time.perf_counter() - wall) * 1000, used * 1000))
    return samples


def _run(line: list[str], environment: dict[str, str], *, check: bool = True) -> int:
    return subprocess.run(
        [sys.executable, *line], env=environment, check=check, capture_output=True
    ).returncode


def _report(samples: dict[str, list[Sample]]) -> None:
    print(f"{'milliseconds':36} {'median':>7} {'best':>7} {'cpu':>7}")
    for name, taken in samples.items():
        walls, used = zip(*taken, strict=True)
        print(f"{name:36} {median(walls):7.1f} {min(walls):7.1f} {mean(used):7.1f}")


if __name__ == "__main__":
    main()
