"""The main job, shown: declare a service, and the kernel balances real requests among servers.

    make demo                   by XDP, on this machine's own kernel
    make demo DATAPATH=ipvs     by IPVS, on a kernel that has it, booted if need be

Every statement it makes is one it has just observed; the first that does not hold ends it with
exit code 1. The daemon and the command line are the installed ones, run as an operator would.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kernlb.lab.background import Stream
from kernlb.lab.load import share_by_server
from kernlb.lab.network import Lab, LabError
from kernlb.lab.topology import Host

SERVICE = "web"
WEIGHTS = {"server1": 1, "server2": 2, "server3": 3}
REQUESTS = 60  # ten rounds of the weights
RATE = 10.0  # requests a second of the stream
SETTINGS = {
    "ipvs": "metrics_listen: false\n",
    "xdp": "metrics_listen: false\nxdp:\n  interfaces: [front, back]\n",
}
START_SECONDS, SETTLE_SECONDS = 90.0, 60.0


class Unseen(Exception):
    """Something the demo promises was not observed; the message says what was seen instead."""


class Demo:
    """One run, chapter by chapter. `folder` holds the daemon's configuration and state."""

    def __init__(self, lab: Lab, folder: Path, datapath: str) -> None:
        self.lab = lab
        self.folder = folder
        self.datapath = datapath
        self.vip = lab.topology.vips(4)[0]
        self.socket = folder / "control.sock"
        self.log = folder / "kernlbd.log"
        self.pins = Path(f"/sys/fs/bpf/{lab.topology.name}")

    def run(self) -> None:
        topology = self.lab.topology
        chapter("A network in namespaces: one client, one balancer, three web servers")
        say(f"client {topology.client.v4} (and {len(topology.sources(4))} more addresses)")
        for server in topology.servers:
            say(f"{server.role} {server.v4}: nginx on port 80")
        self.forget()
        try:
            with self.daemon():
                self.declare()
                self.share()
                self.drain_remove_and_kill()
                self.status()
                self.withdraw()
            if self.datapath == "xdp":
                self.unload()
        finally:
            self.forget()

    @contextmanager
    def daemon(self) -> Iterator[None]:
        chapter("The daemon: kernlbd, on the balancer")
        (self.folder / "etc/services.d").mkdir(parents=True)
        (self.folder / "etc/kernlb.yaml").write_text(SETTINGS[self.datapath])
        options = ["--config-dir", str(self.folder / "etc"), "--state-dir"]
        options += [str(self.folder / "state"), "--socket", str(self.socket)]
        options += ["--pins", str(self.pins)] if self.datapath == "xdp" else []
        argv = [sys.executable, "-m", "kernlb.daemon", *options]
        with self.log.open("wb") as log:
            process = self.lab.popen("balancer", argv, stdout=log, stderr=log)
        try:
            _ = self.lab.load  # starts beside the daemon, which takes seconds in a guest
            wait_for(lambda: self.answers(process), START_SECONDS, "the daemon answers")
            say("kernlbd answers on its control socket")
            yield
        finally:
            process.terminate()
            try:
                code = process.wait(SETTLE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        check(code == 0, f"the daemon stopped cleanly (exit code {code})")

    def answers(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise Unseen(f"the daemon ended:\n{self.log.read_text()}")
        return self.socket.exists()

    def declare(self) -> None:
        chapter("Declare a service: web, weighted round robin, direct routing (dsr)")
        servers = [f"{host.v4},weight={WEIGHTS[host.role]}" for host in self.lab.topology.servers]
        words = ["service", "add", SERVICE, f"{self.vip}:80", "--scheduler", "wrr"]
        words += ["--forwarding", "dsr", "--vip-interface", "front", "--datapath", self.datapath]
        for server in servers:
            words += ["--server", server]
        self.kernlb(*words)

    def share(self) -> None:
        chapter(f"{REQUESTS} HTTP requests to http://{self.vip}/ from 30 client addresses")
        answers = self.lab.load.http(self.vip, count=REQUESTS)
        got = share_by_server(answers)
        total = sum(WEIGHTS.values())
        say(f"{'server':<9} {'weight':>6} {'promised':>9} {'got':>9} {'requests':>9}")
        for server, weight in WEIGHTS.items():
            count = got.get(server, 0)
            promised, received = weight / total, count / REQUESTS
            say(f"{server:<9} {weight:>6} {promised:>9.1%} {received:>9.1%} {count:>9}")
        check(set(got) == set(WEIGHTS), f"every request was answered by a server ({got})")
        off = max(abs(got[s] - REQUESTS * w / total) for s, w in WEIGHTS.items())
        check(off <= 1, "each server got the share that its weight promises")
        seen = {answer.client for answer in answers}
        check(seen == set(self.lab.topology.sources(4)), "servers saw the clients' own addresses")

    def drain_remove_and_kill(self) -> None:
        chapter(f"Drain one server, remove and kill another, under {RATE:.0f} requests a second")
        _, second, third = self.lab.topology.servers
        stream = self.lab.load.stream(self.vip, rate=RATE)
        try:
            self.expect(stream, set(WEIGHTS))
            self.kernlb("server", "drain", SERVICE, str(second.v4))
            self.expect(stream, {"server1", "server3"})
            self.kernlb("server", "drain", SERVICE, str(third.v4))
            self.expect(stream, {"server1"})
            self.kernlb("server", "rm", SERVICE, str(third.v4))
            self.kill(third)
            self.expect(stream, {"server1"})
        finally:
            record = stream.stop()
        for failure in record.failures[:5]:
            say(f"failed: {failure.error} from {failure.source}")
        check(
            not record.failures and record.answered == record.sent,
            f"{record.answered} of {record.sent} requests answered meanwhile, none failed",
        )

    def kill(self, server: Host) -> None:
        for pid in self.lab.pids(server.role):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.lab.pids(server.role), SETTLE_SECONDS, f"{server.role} ends")
        gone = share_by_server(self.lab.load.http(server.v4, timeout=3))
        check(set(gone) == {"ECONNREFUSED"}, f"{server.role} was killed: nobody listens there now")

    def expect(self, stream: Stream, wanted: set[str]) -> None:
        """From now on the stream's requests are answered by exactly these servers.

        Requests already under way may still end elsewhere: they are let pass first.
        """
        settled = stream.look().sent
        wait_for(lambda: _ended(stream) >= settled, SETTLE_SECONDS, "earlier requests end")
        before = stream.look()
        target = before.answered + 8 * len(wanted)
        wait_for(lambda: stream.look().answered >= target, SETTLE_SECONDS, "the stream goes on")
        after = stream.look().by_server
        now = {s for s, count in after.items() if count > before.by_server.get(s, 0)}
        check(now == wanted, f"new requests go to {', '.join(sorted(now))}")

    def status(self) -> None:
        chapter("How it stands")
        self.kernlb("server", "ls", SERVICE)
        self.kernlb("status")
        if self.datapath == "ipvs" and shutil.which("ipvsadm"):
            say("and in the kernel's own words:")
            show("ipvsadm -Ln", self.kernel_table())
        if self.datapath == "xdp":
            say("and in the words of the loaded program itself:")
            client = self.lab.topology.sources(4)[0]
            self.kernlb("explain", "tcp", f"{client}:40000", f"{self.vip}:80")

    def withdraw(self) -> None:
        chapter("Clean up")
        self.kernlb("service", "rm", SERVICE)
        held = self.lab.exec("balancer", ["ip", "-o", "addr", "show", "to", str(self.vip)]).stdout
        check(not held, "the VIP is gone from the balancer")
        if self.datapath == "ipvs" and shutil.which("ipvsadm"):
            check(str(self.vip) not in self.kernel_table(), "the service is gone from the kernel")
        gone = share_by_server(self.lab.load.http(self.vip, timeout=3))
        check("server1" not in gone, f"the service answers no more ({', '.join(gone)})")

    def unload(self) -> None:
        check(self.pins.exists(), "the daemon's end left the program in the kernel, forwarding")
        self.kernlb("xdp", "unload", "--pins", str(self.pins))
        check(not self.pins.exists(), "the program and its tables are gone from the kernel")

    def forget(self) -> None:
        """Take out of the kernel what a run left there that did not come to its end."""
        if self.pins.exists():
            argv = [sys.executable, "-m", "kernlb.cli", "xdp", "unload", "--pins", str(self.pins)]
            subprocess.run(argv, capture_output=True, timeout=START_SECONDS, check=False)

    def kernel_table(self) -> str:
        return self.lab.exec("balancer", ["ipvsadm", "-Ln"]).stdout

    def kernlb(self, *words: str) -> None:
        """Run the command as typed and show what it says."""
        argv = [sys.executable, "-m", "kernlb.cli", *words]
        env: Mapping[str, str] = {**os.environ, "KERNLB_SOCKET": str(self.socket)}
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
        show(f"kernlb {shlex.join(words)}", done.stdout + done.stderr)
        if done.returncode:
            raise Unseen(f"kernlb {words[0]} {words[1]} ended with exit code {done.returncode}")


def _ended(stream: Stream) -> int:
    record = stream.look()
    return record.answered + len(record.failures)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Unseen(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def chapter(title: str) -> None:
    print(f"\n== {title}", flush=True)


def say(sentence: str) -> None:
    print(f"   {sentence}", flush=True)


def show(command: str, output: str) -> None:
    print(f"   $ {command}", flush=True)
    for line in output.splitlines():
        print(f"     {line}", flush=True)


def check(observed: bool, statement: str) -> None:
    if not observed:
        raise Unseen(statement)
    say(f"ok: {statement}")


def main() -> int:
    started = time.monotonic()
    datapath = os.environ.get("DATAPATH", "xdp")
    if datapath not in SETTINGS:
        print(f'DATAPATH is "{datapath}", not one of: {", ".join(SETTINGS)}', file=sys.stderr)
        return 1
    print(f"kernlb on kernel {platform.release()}, datapath {datapath}", flush=True)
    lab = Lab("kernlb-demo")
    try:
        with tempfile.TemporaryDirectory(prefix="kernlb-demo.") as folder, lab:
            Demo(lab, Path(folder), datapath).run()
        check(not lab.present() and not lab.folder.exists(), "the lab left nothing behind")
    except (Unseen, LabError) as failure:
        print(f"\nNOT SEEN: {failure}", file=sys.stderr, flush=True)
        return 1
    print(f"\nAll of this was observed, in {time.monotonic() - started:.0f} s.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
