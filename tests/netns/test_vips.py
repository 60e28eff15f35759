"""Real addresses on real interfaces, and what the neighbours hear of them.

Two namespaces joined by a veth: the balancer's, where a small driver moves VIPs with the
daemon's own parts, and the neighbour's, where tcpdump listens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO

import pytest

pytestmark = pytest.mark.netns

VIP4, VIP6 = "192.0.2.10", "2001:db8::10"
NUMBERS = count(1)

# Reads lines of JSON, answers each with a line: what was done, or what went wrong.
DRIVER = """
import asyncio, json, sys
from ipaddress import ip_address
from kernlb.vip.netlink import Addresses
from kernlb.vip.plan import AddVip, Holding, RemoveVip

async def act(door, verb, address, interface, announce):
    vip = Holding(ip_address(address), interface)
    if verb == "present":
        return vip in await door.present()
    await door.apply(AddVip(vip, announce) if verb == "add" else RemoveVip(vip))
    return "done"

async def main():
    door = Addresses()
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            print(json.dumps(await act(door, *json.loads(line))), flush=True)
        except OSError as error:
            print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
    await door.close()

asyncio.run(main())
"""


class Network:
    """The two namespaces. ``move`` is the driver, ``hear`` what the neighbour heard."""

    def __init__(self, number: int) -> None:
        self.balancer = f"kbvip-{os.getpid()}-{number}-lb"
        self.neighbour = f"kbvip-{os.getpid()}-{number}-nb"

    def up(self) -> None:
        run("ip", "netns", "add", self.balancer)
        run("ip", "netns", "add", self.neighbour)
        peer = ("peer", "name", "eth0", "netns", self.neighbour)
        run("ip", "-n", self.balancer, "link", "add", "eth0", "type", "veth", *peer)
        for namespace in (self.balancer, self.neighbour):
            for interface in ("lo", "eth0"):
                run("ip", "-n", namespace, "link", "set", interface, "up")

    def down(self) -> None:
        for namespace in (self.balancer, self.neighbour):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)

    def ip(self, *words: str) -> str:
        return run("ip", "-n", self.balancer, *words)

    def addresses(self, interface: str) -> set[str]:
        """``ADDRESS/LENGTH`` of what ip(8) shows, link-local ones left out."""
        (link,) = json.loads(self.ip("-j", "addr", "show", "dev", interface))
        infos = link["addr_info"]
        return {f"{a['local']}/{a['prefixlen']}" for a in infos if a["scope"] != "link"}

    @property
    def mac(self) -> str:
        (link,) = json.loads(self.ip("-j", "link", "show", "dev", "eth0"))
        return str(link["address"])

    @contextmanager
    def driver(self) -> Iterator[Driver]:
        command = ["ip", "netns", "exec", self.balancer, sys.executable, "-c", DRIVER]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            yield Driver(process.stdin, process.stdout)
            process.stdin.close()

    @contextmanager
    def hearing(self, *filter_words: str) -> Iterator[IO[str]]:
        """The neighbour's tcpdump, one line a frame; listening when the block begins."""
        command = ["ip", "netns", "exec", self.neighbour, "tcpdump", "-i", "eth0", "-lenvt"]
        with subprocess.Popen(
            [*command, "-Q", "in", *filter_words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            while "listening on" not in (line := process.stderr.readline()):
                assert line, "tcpdump ended before it listened"
            try:
                yield process.stdout
            finally:
                process.terminate()


class Driver:
    """Moves VIPs in the balancer's namespace."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands, self._answers = commands, answers

    def _ask(self, *words: str | None) -> object:
        print(json.dumps(words), file=self._commands, flush=True)
        return json.loads(self._answers.readline())

    def add(self, address: str, interface: str = "eth0", announce: str | None = None) -> object:
        return self._ask("add", address, interface, announce)

    def remove(self, address: str, interface: str = "eth0") -> object:
        return self._ask("remove", address, interface, None)

    def present(self, address: str, interface: str = "eth0") -> object:
        return self._ask("present", address, interface, None)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network(next(NUMBERS))
    try:
        network.up()
        yield network
    finally:
        network.down()
    assert not [
        path for path in Path("/run/netns").glob("*") if path.name in vars(network).values()
    ]


@pytest.mark.parametrize(("vip", "length"), [(VIP4, 32), (VIP6, 128)])
@pytest.mark.parametrize("interface", ["eth0", "lo"])
def test_an_address_comes_and_goes(network: Network, vip: str, length: int, interface: str) -> None:
    with network.driver() as vips:
        before = network.addresses(interface)
        assert vips.present(vip, interface) is False
        assert vips.add(vip, interface) == "done"
        assert network.addresses(interface) == before | {f"{vip}/{length}"}
        assert vips.present(vip, interface) is True
        assert vips.add(vip, interface) == "done"  # twice equals once
        assert vips.remove(vip, interface) == "done"
        assert network.addresses(interface) == before
        assert vips.remove(vip, interface) == "done"


def test_an_ipv6_address_works_at_once(network: Network) -> None:
    with network.driver() as vips:
        vips.add(VIP6)
        assert "tentative" not in network.ip("-6", "addr", "show", "dev", "eth0", "to", VIP6)


@pytest.mark.parametrize(("vip", "length"), [(VIP4, 24), (VIP6, 64)])
def test_an_address_with_another_length_is_seen_and_not_removed(
    network: Network, vip: str, length: int
) -> None:
    network.ip("addr", "add", f"{vip}/{length}", "dev", "eth0")
    with network.driver() as vips:
        assert vips.present(vip) is True
        vips.remove(vip)
        assert network.addresses("eth0") == {f"{vip}/{length}"}


def test_an_interface_that_is_not_there_is_named(network: Network) -> None:
    with network.driver() as vips:
        assert vips.add(VIP4, "nowhere0") == (
            f"VipError: cannot add {VIP4} on nowhere0: there is no such interface"
        )
        assert vips.remove(VIP4, "nowhere0") == "done"


def test_an_ipv4_address_is_announced_by_gratuitous_arp(network: Network) -> None:
    with network.driver() as vips, network.hearing("arp") as heard:
        vips.add(VIP4, "eth0", "eth0")
        line = heard.readline() + heard.readline()
        assert f"{network.mac} > ff:ff:ff:ff:ff:ff" in line
        assert f"Request who-has {VIP4} tell {VIP4}" in line


def test_an_ipv6_address_is_announced_to_all_nodes(network: Network) -> None:
    advertisement = "icmp6 and ip6[40] == 136"
    with network.driver() as vips, network.hearing(advertisement) as heard:
        vips.add(VIP6, "eth0", "eth0")
        # the kernel's own, for link-local addresses, may come first
        line = next(line for line in paired(heard) if f"tgt is {VIP6}" in line)
        assert f"{network.mac} > 33:33:00:00:00:01" in line
        assert "> ff02::1:" in line
        assert "[icmp6 sum ok]" in line
        assert "Flags [override]" in line
        assert f"{network.mac}" in line.partition("destination link-address option")[2]


def paired(heard: IO[str]) -> Iterator[str]:
    """tcpdump -v prints a frame on several lines, all but the first indented."""
    frame = heard.readline()
    while line := heard.readline():
        if line[0].isspace():
            frame += line
            if "link-address option" in frame:
                yield frame
        else:
            frame = line


def test_an_announcement_makes_a_neighbour_forget_the_old_place(network: Network) -> None:
    old = "02:00:00:00:00:99"
    neighbour = ("ip", "-n", network.neighbour)
    run(*neighbour, "addr", "add", "192.0.2.1/24", "dev", "eth0")
    run(*neighbour, "neigh", "replace", VIP4, "lladdr", old, "dev", "eth0", "nud", "stale")
    with network.driver() as vips, network.hearing("arp") as heard:
        vips.add(VIP4, "eth0", "eth0")
        heard.readline()  # the kernel has it before tcpdump prints it
    known = run(*neighbour, "neigh", "show", VIP4)
    assert network.mac in known
    assert old not in known


def test_an_announcement_by_an_interface_that_is_down_is_no_error(network: Network) -> None:
    network.ip("link", "set", "eth0", "down")
    with network.driver() as vips:
        assert vips.add(VIP4, "eth0", "eth0") == "done"
