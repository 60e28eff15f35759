"""What one probe costs in processor time, alone: no monitor, no state machine.

    python -m bench.health [--targets 10000] [--interval 5] [--seconds 15] [--loop uvloop]

Each target is an address of 127.0.0.0/8. A small server in C answers for all of them from a
process of its own. Probes start evenly over the interval, as the monitor would have them, and the
processor time is this process's own (user, system, both), so it counts what the kernel does in
our name: on loopback that is both ends of the connection's handshake. Beside it stands a floor:
the same system calls by blocking sockets in a plain loop, with nothing around them.

The aims of 10 000 targets at 5 s: TCP at most 125 us a probe (25 % of a core), HTTP 230 us (46 %).
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import socket
import struct
import subprocess
import tempfile
import time
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path
from statistics import quantiles

from kernlb.health.check import Check, HttpCheck, IcmpCheck, Target, TcpCheck
from kernlb.health.outcome import Result
from kernlb.health.probes import Probe
from kernlb.health.probes.making import make_probe

PORT = 18099
TICK = 0.01
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: kernlb\r\nAccept: */*\r\nConnection: close\r\n\r\n"
)
CHECKS: dict[str, Check] = {"tcp": TcpCheck(), "http": HttpCheck(body="ok"), "icmp": IcmpCheck()}


def main() -> None:
    parser = argparse.ArgumentParser(description="processor time of one probe")
    parser.add_argument("--targets", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="uvloop")
    parser.add_argument("kinds", nargs="*", default=list(CHECKS), help="tcp, http, icmp (root)")
    arguments = parser.parse_args()
    targets = [Target(IPv4Address("127.1.0.0") + n, PORT) for n in range(1, arguments.targets + 1)]
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "server"
        source = Path(__file__).with_name("server.c")
        subprocess.run(["cc", "-O2", "-Wall", "-o", binary, source], check=True)
        with subprocess.Popen([binary, str(PORT)], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            try:
                for kind in arguments.kinds:
                    if kind != "icmp":
                        floor(kind, targets)
                    measure(kind, targets, arguments)
            finally:
                server.kill()


def cpu() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def floor(kind: str, targets: list[Target]) -> None:
    user, system = cpu()
    for target in targets:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.connect((str(target.address), target.port))
            if kind == "http":
                sock.send(REQUEST)
                assert sock.recv(16384)
    line(f"{kind}, blocking, plain", len(targets), user, system)


def measure(kind: str, targets: list[Target], arguments: argparse.Namespace) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        probes = [make_probe(CHECKS[kind], 2.0, target, loop) for target in targets]
        await warm_up(probes[: len(probes) // 10])
        user, system = cpu()
        results = await paced(probes, arguments.interval, arguments.seconds)
        line(f"{kind}, {arguments.loop}", len(results), user, system)
        outcomes = Counter(str(each.outcome) for each in results)
        spent = quantiles([each.duration * 1000 for each in results], n=1000)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"    {dict(outcomes)}; a probe took {spent[499]:.2f} ms (median), "
            f"{spent[998]:.2f} ms (99.9 %); at most {resident} MB resident"
        )

    if arguments.loop == "uvloop":
        import uvloop

        uvloop.run(run())
    else:
        asyncio.run(run())


async def warm_up(probes: list[Probe]) -> None:
    await paced(probes, 0.5, 0.5)


async def paced(probes: list[Probe], interval: float, seconds: float) -> list[Result]:
    """Start them evenly, round after round, and wait for the last."""
    results: list[Result] = []
    begin = time.monotonic()
    started = 0
    while (now := time.monotonic() - begin) < seconds:
        due = int(now / interval * len(probes))
        while started < due:
            probes[started % len(probes)].start(results.append)
            started += 1
        await asyncio.sleep(TICK)
    while len(results) < started:  # noqa: ASYNC110
        await asyncio.sleep(TICK)
    return results


def line(what: str, probes: int, user: float, system: float) -> None:
    after = cpu()
    user, system = ((b - a) / probes * 1e6 for a, b in zip((user, system), after, strict=True))
    print(
        f"{what:24} {user + system:6.1f} us a probe ({user:.1f} user, {system:.1f} system) "
        f"= {(user + system) / 1e6 * 2000:.1%} of a core at 2 000 a second"
    )


if __name__ == "__main__":
    main()
