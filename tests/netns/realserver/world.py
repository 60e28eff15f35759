"""A server and who is on its wires, in namespaces; what is asked of it, and what is found.

        peer  10.9.0.1, fd00:9::1  --- eth0  server  10.9.0.11, fd00:9::11
              10.9.1.1             --- eth1          10.9.1.11

The server's default routes lead through 10.9.0.254 and fd00:9::254; the balancer is the peer.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from kernlb.doctor.doors import mending
from kernlb.doctor.examining import examine
from kernlb.doctor.facts import gather
from kernlb.doctor.finding import Report
from kernlb.doctor.server import CHECKS
from kernlb.lab import namespaces
from kernlb.realserver import preparing
from kernlb.realserver.reading import Asked, readers
from kernlb.realserver.wish import Method, Wish

T = TypeVar("T")

VIP, VIP6 = ip_address("10.9.0.100"), ip_address("fd00:9::100")
OWN, OWN6 = ip_address("10.9.0.11"), ip_address("fd00:9::11")
PEER, PEER6 = ip_address("10.9.0.1"), ip_address("fd00:9::1")
CLIENT = ip_address("198.18.9.9")
PORT = 80
GREETING = b"hello\n"

DSR = Wish(Method.DSR, (VIP, VIP6), "eth0")
TUNNEL = Wish(Method.TUNNEL, (VIP, VIP6), "eth0", sources=(PEER, PEER6))
NAT = Wish(Method.NAT, (), "eth0")

_WIRES = """
link set lo up
link set eth0 up
link set eth1 up
addr add 10.9.0.{n}/24 dev eth0
addr add 10.9.1.{n}/24 dev eth1
addr add fd00:9::{n}/64 dev eth0 nodad
"""
_ROUTES = """
route add default via 10.9.0.254
route add default via fd00:9::254
"""


@dataclass
class Server:
    """`root` keeps the record and the unit; `asked` is what `check` is told."""

    name: str
    root: Path
    wish: Wish = DSR
    asked: Asked = field(default_factory=lambda: Asked(DSR))

    @property
    def namespace(self) -> str:
        return f"{self.name}-server"

    @property
    def peer(self) -> str:
        return f"{self.name}-peer"

    def up(self) -> None:
        for each in (self.namespace, self.peer):
            run("ip", "netns", "add", each)
            # usable at once, and nothing but what a test does moves a counter
            self.sysctl("net/ipv6/conf/all/accept_dad", "0", each)
            self.sysctl("net/ipv6/conf/default/accept_dad", "0", each)
            self.sysctl("net/ipv4/conf/default/rp_filter", "0", each)
            self.sysctl("net/ipv4/conf/all/rp_filter", "0", each)
        for device in ("eth0", "eth1"):
            ends = ("type", "veth", "peer", device, "netns", self.peer)
            run("ip", "-n", self.namespace, "link", "add", device, *ends)
        self.ip(_WIRES.format(n="11") + _ROUTES)
        self.ip(_WIRES.format(n="1"), self.peer)
        self.ip(f"addr add {CLIENT}/32 dev lo", self.peer)

    def down(self) -> None:
        for each in (self.namespace, self.peer):
            subprocess.run(["ip", "netns", "del", each], capture_output=True, timeout=30)

    def inside(self, act: Callable[[], T], where: str = "") -> T:
        return namespaces.inside(where or self.namespace, act)

    def run(self, *words: str, where: str = "", check: bool = True) -> str:
        return self.inside(lambda: run(*words, check=check), where)

    def ip(self, lines: str, where: str = "") -> None:
        for line in filter(None, map(str.strip, lines.splitlines())):
            run("ip", "-n", where or self.namespace, *line.split())

    def nft(self, text: str) -> None:
        self.run("nft", text)

    def sysctl(self, name: str, value: str | None = None, where: str = "") -> str:
        path = Path("/proc/sys", name)
        if value is not None:
            self.inside(lambda: path.write_text(value), where)
        return self.inside(path.read_text, where).strip()

    def setup(self, wish: Wish, **more: Any) -> preparing.Done:
        self.wish = wish
        self.asked = Asked(
            wish, (("tcp", PORT),), (PEER, PEER6), seconds=0, root=self.root / "nothing"
        )
        return self.inside(lambda: preparing.setup(wish, self.root, lambda _: None, **more))

    def remove(self, **more: Any) -> preparing.Done:
        return self.inside(lambda: preparing.remove((), self.root, lambda _: None, **more))

    def check(self, **otherwise: Any) -> Report:
        asked = replace(self.asked, **otherwise)
        return self.inside(lambda: examine(CHECKS, gather(readers(asked))))

    def found(self, **otherwise: Any) -> set[str]:
        return {each.check.id for each in self.check(**otherwise).found}

    def fix(self, **otherwise: Any) -> list[str]:
        """What `--fix` does, done."""
        report = self.check(**otherwise)
        ops = list(dict.fromkeys(op for each in report.found for op in each.finding.fix))
        for op in ops:
            self.inside(lambda op=op: mending.carry_out(op))
        return [str(op) for op in ops]

    def snapshot(self) -> dict[str, Any]:
        """All that setup may touch, as the system's own tools tell it."""
        shown = {
            what: json.loads(run("ip", "-n", self.namespace, *family, "-j", *what.split()))
            for what, family in (("addr", ()), ("link", ()), ("rule", ()))
        }
        for family in ("-4", "-6"):
            routes = run("ip", "-n", self.namespace, family, "-j", "route", "show", "table", "all")
            shown["route" + family] = json.loads(routes)
        shown["nft"] = self.run("nft", "-s", "list", "ruleset")
        shown["sysctl"] = self.inside(_sysctls)
        shown["fou"] = self.run("ip", "fou", "show", check=False)
        return shown


def _sysctls() -> dict[str, str]:
    found = {}
    for folder in ("net/ipv4", "net/ipv6/conf"):
        for path in sorted(Path("/proc/sys", folder).rglob("*")):
            if path.is_file() and path.stat().st_mode & 0o400:
                try:
                    found[str(path)] = path.read_text()
                except OSError:
                    continue  # stable_secret, while it is not set
    return found


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(list(words), capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
