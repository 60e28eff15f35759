"""kernlb in ipvsadm's place: the same lines, the same kernel, the same answers, to the byte."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from random import Random
from typing import NamedTuple

import pytest

from kernlb.cli.app import run
from kernlb.lab.namespaces import inside
from tests.netns.ipvs.command_lines import ALIKE, STRICTER, random_rules
from tests.netns.traffic.daemon import Daemon, StartDaemon
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.ipvs

SERVICES = int(os.environ.get("KERNLB_RULES", "200"))
LISTINGS = ("", "--stats", "--rate", "--thresholds", "--persistent-conn", "--tun-info", "--exact")


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Program:
    """Something with ipvsadm's options, in a namespace."""

    def __init__(self, namespace: str, daemon: Daemon | None = None) -> None:
        self.namespace = namespace
        self.daemon = daemon

    def __call__(self, line: str, stdin: str = "") -> Said:
        return inside(self.namespace, lambda: self._run(line.split(), stdin))

    def _run(self, words: list[str], stdin: str) -> Said:
        if self.daemon is not None:
            return _kernlb(self.daemon, ["ipvsadm", *words], stdin)
        done = subprocess.run(
            ["ipvsadm", *words], capture_output=True, text=True, input=stdin, timeout=100
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def kernlb(self, line: str, namespace: str = "") -> Said:
        """Another command of kernlb, in this namespace or in one that is named."""
        daemon = self.daemon
        assert daemon is not None
        return inside(namespace or self.namespace, lambda: _kernlb(daemon, line.split()))

    @property
    def kernel(self) -> str:
        """What the kernel holds, by the real ipvsadm."""
        words = ["sh", "-c", "ipvsadm -Sn; ipvsadm -Ln --thresholds"]
        return inside(self.namespace, lambda: subprocess.check_output(words, text=True))


def _kernlb(daemon: Daemon, words: list[str], stdin: str = "") -> Said:
    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["--socket", str(daemon.socket), *words])
    finally:
        sys.stdin = before
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """A namespace for the real ipvsadm."""
    name = "klbt-other"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture(scope="module")
def front(namespace: str, start_daemon: StartDaemon) -> Program:
    daemon = start_daemon(namespace, {"audit_interval": 20})
    return Program(namespace, daemon)


@pytest.fixture
def real(other: str, front: Program) -> Program:
    program = Program(other)
    assert program("-C").code == 0
    assert Program(front.namespace, front.daemon)("-C").code == 0
    assert Program(front.namespace)("-C").code == 0
    return program


@pytest.mark.timeout(300)
def test_what_ipvsadm_takes_and_refuses_kernlb_takes_and_refuses(
    front: Program, real: Program
) -> None:
    differ = []
    for line in ALIKE:
        theirs, ours = real(line), front(line)
        if theirs.code != ours.code:
            differ.append(f"{line}: {theirs.code} {theirs.err!r} but {ours.code} {ours.err!r}")
        if theirs.code and ours.code:
            assert ours.err.startswith("error: "), line
        elif real.kernel != front.kernel:  # a refused line that changed something shows here, too
            differ.append(f"{line}: then\n{real.kernel}but\n{front.kernel}")
            real("-C")
            real("-R", Program(front.namespace)("-Sn").out)
    assert real.kernel == front.kernel
    assert not differ, "\n".join(differ)


@pytest.mark.timeout(300)
def test_where_kernlb_is_stricter_it_says_so_and_changes_nothing(
    front: Program, real: Program
) -> None:
    for program in (front, real):
        assert program("-A -t 192.0.2.10:80").code == 0
        assert program("-A -f 1").code == 0
    before = front.kernel
    for line, undo in STRICTER.items():
        assert real(line).code == 0, line
        assert not undo or real(undo).code == 0
        said = front(line)
        assert (said.code, said.out) == (255, ""), line
        assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
    assert front.kernel == before == real.kernel


def test_a_restore_ends_where_ipvsadm_ends_it(front: Program, real: Program) -> None:
    refused = (
        "-A -t 192.0.2.1:80\n\nipvsadm -a -t 192.0.2.2:80 -r 10.0.0.1 -m\n-A -t 192.0.2.1:81\n"
    )
    senseless = "-A -t 192.0.2.3:80\n-A -t 192.0.2.3\n-A -t 192.0.2.3:81\n"
    for text in (refused, senseless):
        real("-R", text)
        said = front("-R", text)
        assert real.kernel == front.kernel
        assert said.code and said.err.count("error: line ") == 1
    assert "error: line 2: port 0" in said.err


def test_a_bad_line_of_a_restore_costs_only_that_line(front: Program, real: Program) -> None:
    good = "-A -t 192.0.2.1:80\n-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n"
    bad = "-a -t 192.0.2.1:80 -r 10.0.0.2 -m -x 1 -y 2\n"
    assert real("-R", good + bad + "-A -u 192.0.2.1:53\n").code == 0  # of the last line
    said = front("-R", good + bad + "-A -u 192.0.2.1:53\n")
    assert (said.code, said.err.count("error: line 3")) == (255, 1)
    assert front.kernel == real.kernel


def test_clear_leaves_what_is_not_kernlbs_and_tells(front: Program, real: Program) -> None:
    assert Program(front.namespace)("-A -t 192.0.2.77:80 -s rr").code == 0
    assert front.daemon is not None
    client = front.daemon.client
    wait_for(lambda: client.status().foreign, 60, "the foreign service is seen")
    assert front("-A -t 192.0.2.10:80").code == 0
    refused = front("-a -t 192.0.2.77:80 -r 10.0.0.1 -m")
    assert refused.code == 255 and "is not kernlb's" in refused.err
    assert "192.0.2.77" not in front("-Ln").out
    said = front("-C")
    assert said.code == 0 and "tcp/192.0.2.77:80" in said.err
    assert Program(front.namespace)("-Sn").out == "-A -t 192.0.2.77:80 -s rr\n"


def test_adopted_services_keep_their_counters(front: Program, real: Program) -> None:
    outside = Program(front.namespace)
    assert outside("-R", "-A -u 192.0.2.5:53 -s rr\n-a -u 192.0.2.5:53 -r 192.0.2.6 -m\n").code == 0
    for address in ("192.0.2.5", "192.0.2.6"):
        add = ["ip", "-n", front.namespace, "address", "replace", f"{address}/32", "dev", "lo"]
        subprocess.run(add, check=True)
    counted = "-Ln --stats --exact"

    def seen() -> bool:
        inside(front.namespace, _send)
        return "0        0        0        0        0" not in outside(counted).out.splitlines()[3]

    wait_for(seen, 20, "packets are counted")
    before = outside(counted).out
    assert front.kernlb("import ipvsadm --live --apply --adopt").code == 0
    assert front(counted).out == outside(counted).out == before
    wait_for(lambda: front("-Ln --rate").out == outside("-Ln --rate").out, 10, "rates agree")


@pytest.mark.timeout(600)
def test_200_services_come_back_from_every_way_round(front: Program, real: Program) -> None:
    seed = int(os.environ.get("KERNLB_RULES_SEED", "5"))
    print(f"KERNLB_RULES_SEED={seed}")
    wanted = random_rules(Random(seed), SERVICES)
    assert real("-R", wanted) == Said(0, "", "")

    # the kernel's services to documents, the documents to another kernel
    assert front.kernlb("import ipvsadm --live --apply", real.namespace).code == 0
    assert front.kernel == real.kernel

    # its own words, to the byte
    ipvsadm = Program(front.namespace)
    for line in ("-S", "-Sn", *(f"-Ln {each}" for each in LISTINGS), "-L"):
        assert front(line) == ipvsadm(line), line
    for line in wanted.splitlines()[:12]:
        if line.startswith("-A"):
            key = line.partition(" -s ")[0].removeprefix("-A ")
            assert front(f"-Ln {key}") == ipvsadm(f"-Ln {key}"), line

    # documents to text, text to a fresh kernel
    before = real.kernel
    assert real("-C").code == 0
    assert front.daemon is not None
    written = front.kernlb(f"export ipvsadm --config-dir {front.daemon.config}")
    assert (written.code, written.err) == (0, "")
    assert real("-R", written.out) == Said(0, "", "")
    assert real.kernel == before

    # a restore by the front end
    assert front("-C").code == 0
    assert ipvsadm("-Sn").out == ""
    assert front("-R", wanted) == Said(0, "", "")
    assert front.kernel == before


def _send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(5):
            client.sendto(b"question", ("192.0.2.5", 53))
