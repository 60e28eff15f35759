"""Programming IPVS: kernlb beside ``ipvsadm -R`` and a C floor, in one run.

    python bench/ipvs/program.py [--rounds N] [--servers N ...] [--floor BINARY]

Needs root and a kernel with IPVS as a module that nothing uses: it is unloaded between rounds,
since removed servers linger and make every later addition dearer (ip_vs_trash_get_dest()).
Contenders take turns within a round. Absolute times mean little in an emulated guest; ratios do.

What is timed: kernlb, from model values to the kernel's last answer, and its encoding alone;
ipvsadm, its process reading the rules from a file; floor, from its first packed byte.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from kernlb.datapath.ipvs import IPVSDatapath
from kernlb.datapath.ipvs.netlink import WINDOW
from kernlb.datapath.ipvs.program import steps
from kernlb.model import AddressKey, L4Protocol, RealServer, Scheduler, VirtualService
from kernlb.plan import AddServer, AddService, EditServer, Op

HERE = Path(__file__).parent
SERVICES = 1000


def service_key(i: int) -> AddressKey:
    packed = bytes((10, 100 + i // 250, i % 250 + 1, 1))
    return AddressKey(L4Protocol.TCP, IPv4Address(packed), 80)


def server(k: int, weight: int = 1) -> RealServer:
    packed = bytes((127, 1 + k // 62500, k // 250 % 250, k % 250 + 1))
    return RealServer(IPv4Address(packed), 8080, weight)


def rules(services: int, servers: int, scheduler: Scheduler = Scheduler.RR) -> list[Op]:
    ops: list[Op] = []
    for i in range(services):
        key = service_key(i)
        ops.append(AddService(VirtualService(key, scheduler)))
        ops += [AddServer(key, server(i * servers + j)) for j in range(servers)]
    return ops


def rules_as_text(services: int, servers: int) -> str:
    lines = []
    for i in range(services):
        vip = f"{service_key(i).address}:80"
        lines.append(f"-A -t {vip} -s rr")
        for j in range(servers):
            lines.append(f"-a -t {vip} -r {server(i * servers + j).address}:8080 -m -w 1")
    return "\n".join(lines) + "\n"


def fresh() -> None:
    """IPVS as after boot, with the scheduler loaded so that no contender waits for it."""
    subprocess.run(["ipvsadm", "-C"], capture_output=True, check=False)
    for module in [*(m for m in loaded_modules() if m.startswith("ip_vs_")), "ip_vs"]:
        subprocess.run(["modprobe", "-rq", module], check=False)
    if "ip_vs" in loaded_modules():
        sys.exit("cannot unload ip_vs: something uses it")
    subprocess.run(["modprobe", "-a", "ip_vs", "ip_vs_rr", "ip_vs_mh"], check=True)


def loaded_modules() -> list[str]:
    return [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def kernlb(services: int, servers: int, scheduler: Scheduler = Scheduler.RR) -> float:
    ops = rules(services, servers, scheduler)
    datapath = IPVSDatapath()
    failures: list[object] = []
    seconds = timed(lambda: failures.extend(datapath.apply(ops)))
    datapath.close()
    if failures:
        sys.exit(f"kernlb: {failures[0]}")
    return seconds


def encoding(services: int, servers: int) -> float:
    ops = rules(services, servers)
    return timed(lambda: [None for _ in steps(ops)])


def ipvsadm(path: Path) -> float:
    with path.open() as text:
        return timed(lambda: subprocess.run(["ipvsadm", "-R"], stdin=text, check=True))


def floor(binary: Path, services: int, servers: int, scheduler: str = "rr") -> float:
    words = [str(binary), "add", str(services), str(servers), scheduler, str(WINDOW)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[1])


def loaded(servers: int, rounds: int) -> dict[str, list[float]]:
    """Costs with everything in place: one change, and an audit of all."""
    datapath = IPVSDatapath()
    one, marks, reads = [], [], []
    for i in range(0, SERVICES, SERVICES // 20):
        key = service_key(i)
        old, new = server(i * servers), server(i * servers, 7)

        def change(key: AddressKey = key, old: RealServer = old, new: RealServer = new) -> None:
            assert old in datapath.read([key])[key].servers
            assert not datapath.apply([EditServer(key, old, new)])

        one.append(timed(change))

    def audit() -> None:
        assert all(datapath.fingerprint(service.key) for service in datapath.services())

    def read() -> None:
        keys = [service.key for service in datapath.services()]
        assert sum(len(datapath.read([key])[key].servers) for key in keys) == SERVICES * servers

    for _ in range(rounds):
        marks.append(timed(audit))
        reads.append(timed(read))
    datapath.close()
    return {"one change": one, "audit": marks, "read all": reads}


def mh(servers: int, rounds: int) -> dict[str, list[float]]:
    """A new mh service, and the same when its servers come in an apply of their own."""
    together, apart = [], []
    for _ in range(rounds):
        fresh()
        together.append(kernlb(20, servers, Scheduler.MH))
        fresh()
        datapath = IPVSDatapath()
        ops = rules(20, servers, Scheduler.MH)
        heads = [op for op in ops if isinstance(op, AddService)]
        tails = [op for op in ops if isinstance(op, AddServer)]
        start = time.perf_counter()
        datapath.apply(heads)
        datapath.apply(tails)
        apart.append(time.perf_counter() - start)
        datapath.close()
    return {"mh in one apply": together, "mh in two applies": apart}


def show(name: str, seconds: list[float], against: float | None = None) -> None:
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    ratio = f"   {middle / against:6.2f} x" if against else ""
    print(f"  {name:<28} {middle:9.4f} s  ({low:.4f} - {high:.4f}){ratio}", flush=True)


def compare(binary: Path, servers: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    text = folder / "rules"
    text.write_text(rules_as_text(SERVICES, servers))
    seconds: dict[str, list[float]] = {"floor": [], "kernlb": [], "encoding": [], "ipvsadm -R": []}
    for _ in range(rounds):
        fresh()
        seconds["floor"].append(floor(binary, SERVICES, servers))
        fresh()
        seconds["kernlb"].append(kernlb(SERVICES, servers))
        seconds["encoding"].append(encoding(SERVICES, servers))
        fresh()
        seconds["ipvsadm -R"].append(ipvsadm(text))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", type=int, nargs="+", default=[10, 100], help="of a service")
    parser.add_argument("--floor", type=Path, help="floor.c, compiled before")
    parser.add_argument("--json", type=Path, help="write all seconds there")
    options = parser.parse_args()
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        binary = options.floor or folder / "floor"
        if options.floor is None:
            subprocess.run(["gcc", "-O2", "-o", binary, HERE / "floor.c"], check=True)
        for servers in options.servers:
            print(f"cold programming of {SERVICES} services x {servers} servers", flush=True)
            seconds = compare(binary, servers, options.rounds, folder)
            least = statistics.median(seconds["floor"])
            for contender, values in seconds.items():
                show(contender, values, least)
            results[f"cold {servers}"] = seconds
        print(f"with {SERVICES} x {servers} loaded", flush=True)
        fresh()
        kernlb(SERVICES, servers)
        results["loaded"] = loaded(servers, options.rounds)
        for what, values in results["loaded"].items():
            show(what, values)
        print("20 new mh services x 100 servers", flush=True)
        results["mh"] = mh(100, options.rounds)
        for what, values in results["mh"].items():
            show(what, values)
        fresh()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
