"""Next hops follow the kernel: two namespaces joined by a veth, real routes, real neighbours.

The balancer's side has the keeper as the daemon runs it, on uvloop; the other side is a rack of
servers and gateways, all addresses of one interface. What the keeper hands on is written down
with its time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from itertools import count

import pytest
import uvloop

from kernlb.daemon.events import Events
from kernlb.daemon.hops import HopKeeper
from kernlb.datapath.xdp.hop_door import HopDoor
from kernlb.datapath.xdp.hop_requests import PROTOCOL
from kernlb.datapath.xdp.hops import Hop, NextHop, Outcome, Unresolved
from kernlb.lab.namespaces import inside, write_sysctl
from kernlb.model import AddressKey, IPAddress, L4Protocol, ServerKey, ServiceKey
from tests.netns.traffic.wait import wait_for

pytestmark = pytest.mark.netns

NUMBERS = count(1)
SERVER4, SERVER6 = "10.9.0.2", "fd00:9::2"
GATEWAY4, OTHER_GATEWAY4, GATEWAY6 = "10.9.0.3", "10.9.0.4", "fd00:9::3"
NOBODY4, NOBODY6 = "10.9.0.77", "fd00:9::77"
BALANCER4, BALANCER6 = "10.9.0.1", "fd00:9::1"
FAR4, FAR6 = "10.99.0.5", "fd00:99::5"
SERVICE: ServiceKey = AddressKey(L4Protocol.TCP, ip_address("192.0.2.1"), 80)


class Table:
    """The datapath's side, as the keeper sees it."""

    def __init__(self) -> None:
        self.servers: dict[IPAddress, ServerKey] = {}
        self.hops: dict[IPAddress, Outcome] = {}
        self.times: dict[IPAddress, float] = {}
        self.writes = 0
        self.present: set[int] = set()

    def endpoints(self) -> Iterable[tuple[ServiceKey, ServerKey]]:
        return [(SERVICE, server) for server in self.servers.values()]

    def set_hop(self, address: IPAddress, outcome: Outcome) -> None:
        if isinstance(outcome, Hop):
            assert outcome.ifindex in self.present, "a hop by a device that is not there yet"
        self.hops[address] = outcome
        self.times[address] = time.monotonic()
        self.writes += 1

    def forget_hop(self, address: IPAddress) -> None:
        self.hops.pop(address, None)

    def devices(self) -> Iterable[int]:
        return list(self.present)

    def add_device(self, ifindex: int) -> None:
        self.present.add(ifindex)

    def remove_device(self, ifindex: int) -> None:
        self.present.discard(ifindex)


class World:
    """The namespaces, and a keeper in a thread of its own."""

    def __init__(self, number: int) -> None:
        self.balancer = f"kbhop-{os.getpid()}-{number}-lb"
        self.rack = f"kbhop-{os.getpid()}-{number}-rack"
        self.table = Table()
        self.events = Events(time.time)
        self.keeper: HopKeeper | None = None
        self.sources: tuple[IPAddress, ...] = ()
        self.interval = 30.0
        self._thread: threading.Thread | None = None

    def up(self) -> None:
        for namespace in (self.balancer, self.rack):
            run("ip", "netns", "add", namespace)
        self.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.rack)
        for namespace in (self.balancer, self.rack):
            inside(namespace, _usable_at_once)
        for on, v4, v6 in (
            (self.ip, [BALANCER4], [BALANCER6]),
            (self.on_rack, [SERVER4, GATEWAY4, OTHER_GATEWAY4], [SERVER6, GATEWAY6]),
        ):
            on("link", "set", "lo", "up")
            for address in v4:
                on("addr", "add", f"{address}/24", "dev", "eth0")
            for address in v6:
                on("addr", "add", f"{address}/64", "dev", "eth0", "nodad")
            on("link", "set", "eth0", "up")
        for on in (self.ip, self.on_rack):
            wait_for(lambda on=on: ready(on("-6", "addr", "show", "eth0")), 10, "IPv6 is up")

    def down(self) -> None:
        self.stop()
        for namespace in (self.balancer, self.rack):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)

    def ip(self, *words: str) -> str:
        return run("ip", "-n", self.balancer, *words)

    def on_rack(self, *words: str) -> str:
        return run("ip", "-n", self.rack, *words)

    def index(self, interface: str = "eth0") -> int:
        return int(json.loads(self.ip("-j", "link", "show", "dev", interface))[0]["ifindex"])

    def mac(self, interface: str = "eth0") -> bytes:
        return mac_of(self.ip("-j", "link", "show", "dev", interface))

    def rack_mac(self) -> bytes:
        return mac_of(self.on_rack("-j", "link", "show", "dev", "eth0"))

    def move_rack(self, mac: str) -> None:
        """Other machines take over every address there, and say so."""
        self.on_rack("link", "set", "dev", "eth0", "address", mac)

    def neighbour(self, address: str) -> dict[str, object]:
        """As ip(8) lists it; empty if it is not there."""
        listed = json.loads(self.ip("-j", "neigh", "show", address, "dev", "eth0") or "[]")
        return listed[0] if listed else {}

    def start(self, *servers: str) -> None:
        """As a daemon would, with these servers in the datapath already."""
        started = threading.Event()
        self.add_servers(*servers)
        door = inside(self.balancer, HopDoor)
        self.keeper = HopKeeper(
            door, self.table, self.events, time.monotonic, self.sources, self.interval
        )
        self.keeper.refresh()

        async def work() -> None:
            assert self.keeper is not None
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            started.set()
            with suppress(asyncio.CancelledError):
                await self.keeper.run()

        self._thread = threading.Thread(target=lambda: uvloop.run(work()))
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        if self._thread is not None:
            assert self._task is not None
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._thread = None

    def call(self, act: Callable[[], object]) -> None:
        """In the keeper's loop, and done when this returns."""
        done = threading.Event()

        def visit() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(visit)
        assert done.wait(10)

    def add_servers(self, *addresses: str) -> None:
        for address in map(ip_address, addresses):
            self.table.servers[address] = ServerKey(address, 80)
        if self._thread is not None:
            assert self.keeper is not None
            self.call(self.keeper.refresh)

    def remove_servers(self, *addresses: str) -> None:
        assert self.keeper is not None
        for address in map(ip_address, addresses):
            del self.table.servers[address]
        self.call(self.keeper.refresh)

    def outcome(self, address: str) -> Outcome | None:
        return self.table.hops.get(ip_address(address))

    def hop(self, address: str) -> Hop:
        """The hop of a server, once it is known."""
        return wait_for(lambda: known(self.outcome(address)), 10, f"a hop to {address}")

    def hop_like(self, address: str, fits: Callable[[Hop], bool], what: str) -> Hop:
        def look() -> Hop | None:
            hop = known(self.outcome(address))
            return hop if hop and fits(hop) else None

        return wait_for(look, 10, what)

    def unresolved(self, address: str, words: str) -> Unresolved:
        """The reason why it cannot be reached, once it is this one."""

        def look() -> Unresolved | None:
            outcome = self.outcome(address)
            fits = isinstance(outcome, Unresolved) and words in outcome.reason
            return outcome if fits else None  # type: ignore[return-value]

        return wait_for(look, 10, f"{address} unresolved: {words}")

    def problems(self) -> list[str]:
        assert self.keeper is not None
        return [f"{server}: {why}" for (_, server), why in self.keeper.problems()]


def known(outcome: Outcome | None) -> Hop | None:
    return outcome if isinstance(outcome, Hop) else None


def ready(listed: str) -> bool:
    """The kernel takes up to a second to notice a link for IPv6's purposes."""
    return "fe80::" in listed and "tentative" not in listed


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def mac_of(listed: str) -> bytes:
    return bytes.fromhex(json.loads(listed)[0]["address"].replace(":", ""))


def _usable_at_once() -> None:
    """No waiting for duplicates; who takes an address over says so, as failover software does;
    and the neighbours of these tests give up soon."""
    for key in ("all", "eth0"):
        write_sysctl(f"net.ipv6.conf.{key}.accept_dad", "0")
    write_sysctl("net.ipv6.conf.eth0.ndisc_notify", "1")
    write_sysctl("net.ipv4.conf.eth0.arp_notify", "1")
    for family in ("ipv4", "ipv6"):
        write_sysctl(f"net/{family}/neigh/eth0/retrans_time_ms", "50")


@pytest.fixture
def world() -> Iterator[World]:
    world = World(next(NUMBERS))
    try:
        world.up()
        yield world
    finally:
        world.down()


@pytest.mark.parametrize(
    ("server", "source"), [(SERVER4, BALANCER4), (SERVER6, BALANCER6)], ids=["ipv4", "ipv6"]
)
def test_a_server_on_the_link_is_its_own_next_hop(world: World, server: str, source: str) -> None:
    world.start(server)
    assert world.hop(server) == Hop(
        world.index(), world.mac(), world.rack_mac(), 1500, source=ip_address(source)
    )
    assert world.table.present == {world.index()}
    assert world.problems() == []


@pytest.mark.parametrize(("far", "gateway"), [(FAR4, GATEWAY4), (FAR6, GATEWAY6), (FAR4, GATEWAY6)])
def test_a_server_behind_a_gateway_is_reached_by_it(world: World, far: str, gateway: str) -> None:
    family = ("inet6",) if ":" in gateway and "." in far else ()
    world.ip("route", "add", f"{far}/{bits(far)}", "via", *family, gateway, "mtu", "1400")
    world.start(far)
    hop = world.hop(far)
    assert (hop.destination_mac, hop.mtu) == (world.rack_mac(), 1400)
    assert world.neighbour(gateway)["lladdr"] == world.rack_mac().hex(":")


def bits(address: str) -> int:
    return ip_address(address).max_prefixlen


@pytest.mark.parametrize("server", [SERVER4, SERVER6, FAR4, FAR6])
def test_another_machine_at_an_address_is_followed_within_100_ms(world: World, server: str) -> None:
    world.ip("route", "add", f"{FAR4}/32", "via", GATEWAY4)
    world.ip("route", "add", f"{FAR6}/128", "via", GATEWAY6)
    world.start(server)
    world.hop(server)
    new = bytes.fromhex("02000000aa01")
    world.move_rack(new.hex(":"))
    moved = time.monotonic()
    world.hop_like(server, lambda hop: hop.destination_mac == new, "the new machine")
    assert world.table.times[ip_address(server)] - moved < 0.1


def test_neighbours_are_kept_by_the_kernel_and_given_back(world: World) -> None:
    world.start(SERVER4, SERVER6)
    for server in (SERVER4, SERVER6):
        world.hop(server)
        entry = world.neighbour(server)
        assert "managed" in entry
        assert entry["protocol"] in (PROTOCOL, str(PROTOCOL))
    world.remove_servers(SERVER4)
    wait_for(lambda: "managed" not in world.neighbour(SERVER4), 5, "given back")
    assert world.neighbour(SERVER4)["lladdr"] == world.rack_mac().hex(":")  # others may use it
    assert "managed" in world.neighbour(SERVER6)
    assert ip_address(SERVER4) not in world.table.hops
    world.remove_servers(SERVER6)
    wait_for(lambda: not world.table.present, 5, "no device is used")


def test_what_an_operator_made_permanent_is_used_and_left_alone(world: World) -> None:
    mac = "02:00:00:00:bb:01"
    entry = ("neigh", "replace", SERVER4, "lladdr", mac, "dev", "eth0", "nud", "permanent")
    world.ip(*entry)
    world.start(SERVER4)
    assert world.hop(SERVER4).destination_mac.hex(":") == mac
    assert world.neighbour(SERVER4)["state"] == ["PERMANENT"]
    world.remove_servers(SERVER4)
    world.stop()
    assert world.neighbour(SERVER4)["state"] == ["PERMANENT"]


def test_an_operators_permanent_entry_replaces_a_kept_one(world: World) -> None:
    world.start(SERVER4)
    world.hop(SERVER4)
    mac = "02:00:00:00:bb:02"
    world.ip("neigh", "replace", SERVER4, "lladdr", mac, "dev", "eth0", "nud", "permanent")
    world.hop_like(SERVER4, lambda hop: hop.destination_mac.hex(":") == mac, "the operator's")
    world.remove_servers(SERVER4)
    world.add_servers(SERVER6)
    world.hop(SERVER6)  # by now SERVER4 would have been given back
    assert world.neighbour(SERVER4)["state"] == ["PERMANENT"]


def test_a_restart_gives_back_what_is_needed_no_more(world: World) -> None:
    world.start(SERVER4, SERVER6)
    world.hop(SERVER4)
    world.hop(SERVER6)
    world.stop()
    assert "managed" in world.neighbour(SERVER4)  # nothing is given back by a stop
    world.table = Table()
    world.table.add_device(4242)  # of the earlier run
    world.start(SERVER6)
    world.hop(SERVER6)
    wait_for(lambda: "managed" not in world.neighbour(SERVER4), 5, "given back")
    assert "managed" in world.neighbour(SERVER6)
    wait_for(lambda: world.table.present == {world.index()}, 5, "an unused device is removed")


@pytest.mark.parametrize("nobody", [NOBODY4, NOBODY6])
def test_a_dead_neighbour_is_unresolved_and_seen(world: World, nobody: str) -> None:
    world.start(nobody, SERVER4)
    outcome = world.unresolved(nobody, f"no answer from neighbour {nobody} on eth0")
    assert outcome.ifindex == world.index()  # what the program's own lookup needs
    assert outcome.source == ip_address(BALANCER6 if ":" in nobody else BALANCER4)
    world.hop(SERVER4)
    (problem,) = world.problems()
    assert f"no answer from neighbour {nobody} on eth0 (for " in problem
    sentence = f"next hop of {nobody}: no answer from neighbour {nobody} on eth0"
    wait_for(lambda: [e for e in world.events if e.text == sentence], 5, "it is logged")


def test_a_dead_neighbour_that_comes_to_life_is_known(world: World) -> None:
    world.start(NOBODY4)
    world.unresolved(NOBODY4, "no answer")
    wait_for(lambda: world.neighbour(NOBODY4).get("state") == ["FAILED"], 5, "given up")
    world.on_rack("addr", "add", f"{NOBODY4}/24", "dev", "eth0")  # which it announces
    assert world.hop(NOBODY4).destination_mac == world.rack_mac()


def test_a_neighbour_that_dies_is_unresolved(world: World) -> None:
    world.start(SERVER4)
    world.hop(SERVER4)
    world.on_rack("addr", "del", f"{SERVER4}/24", "dev", "eth0")
    world.ip("neigh", "replace", SERVER4, "dev", "eth0", "nud", "failed")
    world.unresolved(SERVER4, f"no answer from neighbour {SERVER4}")


def test_a_neighbour_that_is_flushed_is_asked_for_again(world: World) -> None:
    world.start(SERVER4)
    world.hop(SERVER4)
    world.ip("neigh", "del", SERVER4, "dev", "eth0")
    wait_for(lambda: "managed" in world.neighbour(SERVER4), 5, "kept again")
    world.hop(SERVER4)


def test_a_route_that_moves_to_another_gateway_is_followed(world: World) -> None:
    world.on_rack("link", "add", "gw2", "type", "veth", "peer", "name", "eth1", "netns",
                  world.balancer)  # fmt: skip
    world.on_rack("addr", "add", "10.10.0.2/24", "dev", "gw2")
    world.on_rack("link", "set", "gw2", "up")
    world.ip("addr", "add", "10.10.0.1/24", "dev", "eth1")
    world.ip("link", "set", "eth1", "up")
    world.ip("route", "add", "10.99.0.0/16", "via", GATEWAY4)
    world.start(FAR4)
    assert world.hop(FAR4).ifindex == world.index("eth0")
    world.ip("route", "replace", "10.99.0.0/24", "via", "10.10.0.2")  # a longer prefix
    hop = world.hop_like(FAR4, lambda hop: hop.ifindex == world.index("eth1"), "by eth1")
    assert hop.source_mac == world.mac("eth1")
    assert hop.source == ip_address("10.10.0.1")
    wait_for(lambda: world.table.present == {world.index("eth1")}, 5, "eth0 is not used")
    world.ip("route", "del", "10.99.0.0/24")
    world.hop_like(FAR4, lambda hop: hop.ifindex == world.index("eth0"), "by eth0 again")
    world.ip("route", "del", "10.99.0.0/16")
    world.unresolved(FAR4, f"no route to {FAR4}")
    world.ip("route", "add", "default", "via", GATEWAY4)
    world.hop(FAR4)


def test_policy_routing_is_respected(world: World) -> None:
    world.ip("route", "add", "10.99.0.0/16", "via", GATEWAY4)
    world.ip("route", "add", "unreachable", "default", "table", "7")
    world.start(FAR4)
    world.hop(FAR4)
    world.ip("rule", "add", "to", FAR4, "lookup", "7")
    world.unresolved(FAR4, f"a route declares {FAR4} unreachable")
    world.ip("rule", "del", "to", FAR4)
    world.hop(FAR4)


def test_sources_of_the_operator_take_part_in_policy_routing(world: World) -> None:
    world.ip("addr", "add", "10.9.0.200/24", "dev", "eth0")
    world.ip("route", "add", "10.99.0.0/16", "via", GATEWAY4)
    world.ip("route", "add", "10.99.0.0/16", "via", OTHER_GATEWAY4, "mtu", "1300", "table", "7")
    world.ip("rule", "add", "from", "10.9.0.200", "lookup", "7")
    world.sources = (ip_address("10.9.0.200"),)
    world.start(FAR4)
    hop = world.hop(FAR4)
    assert (hop.source, hop.mtu) == (ip_address("10.9.0.200"), 1300)


def test_a_source_that_is_not_the_hosts_own_is_used_all_the_same(world: World) -> None:
    world.sources = (ip_address("172.16.0.9"),)
    world.start(SERVER4)
    assert world.hop(SERVER4).source == ip_address("172.16.0.9")


def test_an_mtu_that_changes_is_followed(world: World) -> None:
    world.start(SERVER4)
    assert world.hop(SERVER4).mtu == 1500
    world.ip("link", "set", "eth0", "mtu", "1280")
    world.hop_like(SERVER4, lambda hop: hop.mtu == 1280, "the new MTU")


def test_the_balancers_own_address_on_the_wire_is_followed(world: World) -> None:
    world.start(SERVER4)
    world.hop(SERVER4)
    world.ip("link", "set", "eth0", "address", "02:00:00:00:cc:01")
    new = bytes.fromhex("02000000cc01")
    world.hop_like(SERVER4, lambda hop: hop.source_mac == new, "the new source")


def test_a_link_that_goes_down_and_comes_back_is_followed(world: World) -> None:
    world.start(SERVER4)
    world.hop(SERVER4)
    world.on_rack("link", "set", "eth0", "down")
    world.unresolved(SERVER4, "eth0 has no carrier")
    world.on_rack("link", "set", "eth0", "up")
    world.hop(SERVER4)
    world.ip("link", "set", "eth0", "down")
    world.unresolved(SERVER4, f"no route to {SERVER4}")
    world.ip("link", "set", "eth0", "up")
    world.hop(SERVER4)
    assert "managed" in world.neighbour(SERVER4)


def test_a_device_that_goes_away_is_not_used_any_more(world: World) -> None:
    world.start(SERVER4)
    world.hop(SERVER4)
    world.ip("link", "del", "eth0")
    world.unresolved(SERVER4, f"no route to {SERVER4}")
    wait_for(lambda: not world.table.present, 5, "the device is removed")


def test_a_server_that_is_this_host_is_refused(world: World) -> None:
    world.start(BALANCER4, SERVER4)
    world.unresolved(BALANCER4, f"{BALANCER4} is this host itself")
    assert "this host itself" in world.problems()[0]
    world.hop(SERVER4)
    world.ip("addr", "add", f"{SERVER4}/32", "dev", "lo")
    world.unresolved(SERVER4, "this host itself")
    world.ip("addr", "del", f"{SERVER4}/32", "dev", "lo")
    world.hop(SERVER4)


def test_a_bridge_is_what_it_is_with_a_caveat(world: World) -> None:
    world.ip("link", "add", "br0", "type", "bridge")
    world.ip("addr", "flush", "dev", "eth0")
    world.ip("link", "set", "eth0", "master", "br0")
    world.ip("addr", "add", f"{BALANCER4}/24", "dev", "br0")
    world.ip("link", "set", "br0", "up")
    world.start(SERVER4)
    hop = world.hop(SERVER4)
    assert hop.ifindex == world.index("br0")
    assert hop.note == "br0 (bridge) cannot transmit for XDP"
    assert hop.note in world.problems()[0]


def test_a_device_without_neighbours_is_a_reason(world: World) -> None:
    world.ip("link", "set", "eth0", "arp", "off")
    world.start(SERVER4)
    world.unresolved(SERVER4, "eth0 has no Ethernet neighbours")
    world.ip("link", "set", "eth0", "arp", "on")
    world.hop(SERVER4)


def test_what_is_not_announced_is_found_by_the_next_look(world: World) -> None:
    """A shorter MTU on a path that the host discovered: no event tells of it."""
    world.interval = 0.2
    world.ip("route", "add", "10.99.0.0/16", "via", GATEWAY4)
    inside(world.rack, lambda: write_sysctl("net.ipv4.ip_forward", "1"))
    inside(world.rack, lambda: write_sysctl("net.ipv4.conf.all.rp_filter", "0"))
    world.on_rack("link", "add", "narrow", "mtu", "1280", "type", "veth", "peer", "name", "far")
    for device in ("narrow", "far"):
        world.on_rack("link", "set", device, "up")
    world.on_rack("route", "add", "10.99.0.0/16", "dev", "narrow")
    world.start(FAR4)
    assert world.hop(FAR4).mtu == 1500
    ping = ("ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1400", FAR4)
    command = ["ip", "netns", "exec", world.balancer, *ping]
    subprocess.run(command, capture_output=True, timeout=20, check=False)
    world.hop_like(FAR4, lambda hop: hop.mtu == 1280, "the path's MTU")


def test_nothing_is_written_where_nothing_changed(world: World) -> None:
    world.interval = 0.05
    world.start(SERVER4, SERVER6, FAR4)
    world.hop(SERVER4)
    world.hop(SERVER6)
    world.unresolved(FAR4, "no route")
    writes = world.table.writes
    for number in range(20):
        world.ip("route", "add", f"10.200.{number}.0/24", "via", GATEWAY4)
    world.ip("neigh", "replace", SERVER4, "lladdr", world.rack_mac().hex(":"), "dev", "eth0",
             "nud", "stale")  # fmt: skip
    world.ip("link", "set", "lo", "mtu", "60000")
    world.add_servers(GATEWAY4)
    world.hop(GATEWAY4)  # which was decided after all of that
    assert world.table.writes - writes <= 2  # GATEWAY4: unresolved at first, then known


def test_many_servers_behind_one_gateway_are_one_neighbour(world: World) -> None:
    world.ip("route", "add", "10.99.0.0/16", "via", GATEWAY4)
    many = [f"10.99.{high}.{low}" for high in range(40) for low in range(1, 251)]
    world.start(*many)
    wait_for(lambda: len(world.table.hops) == len(many), 30, "all are looked up")
    for server in many:
        world.hop(server)
    assert {each["dst"] for each in json.loads(world.ip("-4", "-j", "neigh"))} == {GATEWAY4}
    new = bytes.fromhex("02000000aa02")
    world.move_rack(new.hex(":"))
    moved = time.monotonic()
    world.hop_like(many[0], lambda hop: hop.destination_mac == new, "the new gateway")
    for server in many:
        world.hop_like(server, lambda hop: hop.destination_mac == new, "the new gateway")
    assert max(world.table.times.values()) - moved < 1.0


def test_a_storm_of_events_is_outlived(world: World) -> None:
    """10 000 routes come and go while a gateway fails over."""
    world.ip("route", "add", "10.99.0.0/16", "via", GATEWAY4)
    world.start(FAR4)
    world.hop(FAR4)
    routes = [f"10.{n // 250 + 100}.{n % 250}.0/24 via {GATEWAY4}\n" for n in range(5000)]
    batch = [f"route {verb} {route}" for verb in ("add", "del") for route in routes]
    new = bytes.fromhex("02000000aa03")
    with subprocess.Popen(
        ["ip", "-n", world.balancer, "-batch", "-"], stdin=subprocess.PIPE, text=True
    ) as storm:
        assert storm.stdin is not None
        storm.stdin.write("".join(batch))
        storm.stdin.close()
        world.move_rack(new.hex(":"))
        world.hop_like(FAR4, lambda hop: hop.destination_mac == new, "the new machine")
        assert storm.wait(60) == 0
    world.ip("link", "set", "eth0", "mtu", "1300")
    world.hop_like(FAR4, lambda hop: hop.mtu == 1300, "what came after the storm")


def test_events_that_were_lost_are_made_up_for(world: World) -> None:
    """The keeper's loop stands still while more happens than its socket holds."""
    world.start(SERVER4)
    world.hop(SERVER4)
    standing, go = threading.Event(), threading.Event()

    def stand_still() -> None:
        standing.set()
        go.wait(60)

    world._loop.call_soon_threadsafe(stand_still)
    assert standing.wait(10)
    batch = "".join(f"link set lo mtu {60000 + n % 2}\n" for n in range(20000))
    subprocess.run(
        ["ip", "-n", world.balancer, "-batch", "-"], input=batch, text=True, check=True, timeout=60
    )
    world.ip("link", "set", "eth0", "mtu", "1290")
    go.set()
    world.hop_like(SERVER4, lambda hop: hop.mtu == 1290, "the new MTU")


def test_the_door_keeps_only_what_is_new_if_told_so(world: World) -> None:
    door = inside(world.balancer, HopDoor)
    to = NextHop(world.index(), ip_address(SERVER4))
    permanent = ("neigh", "replace", SERVER4, "lladdr", "02:00:00:00:dd:01", "dev", "eth0")
    world.ip(*permanent, "nud", "permanent")
    assert door.keep({to: True})
    assert world.neighbour(SERVER4)["state"] == ["PERMANENT"]
    door.close()
