"""Servers are asked at the VIP, by the way of the clients: what is wrong there is found and named,
in any datapath."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from kernlb.control.client import ControlError
from kernlb.control.protocol import ServerState
from kernlb.lab import commands
from kernlb.lab.namespaces import inside
from kernlb.lab.network import Lab
from kernlb.lab.topology import BACK, IPAddress
from tests.netns.traffic.balancer import Balancer, Json
from tests.netns.traffic.breaking import killed
from tests.netns.traffic.wait import wait_for
from tests.netns.traffic.ways import WAYS
from tests.netns.traffic.web import web

CHECK: Json = {
    "type": "http",
    "path": "/health",
    "interval": 1.0,
    "fast_interval": 0.2,
    "timeout": 1.0,
    "rise": 1,
    "fall": 2,
    "via": "vip",
}
DATAGRAM: Json = {
    **{name: value for name, value in CHECK.items() if name != "path"},
    "type": "udp",
    "payload": "who is there?",
    "require_reply": True,
}
CARRIED = ("dsr", "ipip", "gue", "gre")


def declare(balancer: Balancer, vip: IPAddress, way: str, **settings: object) -> None:
    web(balancer, vip, **{"check": CHECK, **WAYS[way], **settings})
    all_up(balancer)


def states(balancer: Balancer) -> dict[str, ServerState]:
    servers = balancer.daemon.client.service("web").servers
    return {balancer.name_of(each.address): each.state for each in servers}


def all_up(balancer: Balancer) -> None:
    wait_for(
        lambda: set(states(balancer).values()) == {ServerState.UP},
        30,
        f"every server is good\n{said(balancer)}",
    )


def said(balancer: Balancer) -> str:
    return "\n".join(each.text for each in balancer.daemon.client.status().events[-20:])


def why_down(balancer: Balancer, role: str) -> str:
    """What is told of a server when it is found bad."""
    wait_for(lambda: states(balancer)[role] is ServerState.DOWN, 30, f"{role} is found")
    mark = re.compile(rf"web/\[?{re.escape(server_address(balancer, role))}\]?:80 .*-> down: (.*)")
    found = [match[1] for match in map(mark.search, said(balancer).splitlines()) if match]
    assert found, said(balancer)
    return found[-1]


def server_address(balancer: Balancer, role: str) -> str:
    (one,) = [
        each.address
        for each in balancer.daemon.client.service("web").servers
        if balancer.name_of(each.address) == role
    ]
    return one


@contextmanager
def without_vip(lab: Lab, role: str, vip: IPAddress) -> Iterator[None]:
    """Its loopback lacks the address."""
    address = f"{vip}/{vip.max_prefixlen}"
    lab.exec(role, ["ip", "address", "del", address, "dev", "lo"])
    try:
        yield
    finally:
        nodad = ["nodad"] if vip.version == 6 else []
        lab.exec(role, ["ip", "address", "add", address, "dev", "lo", *nodad])


@contextmanager
def without_tunnel(lab: Lab, role: str, device: str) -> Iterator[None]:
    """The device that undoes the tunnel is down; where XDP does it, that is detached."""
    if not has_decap(lab):
        lab.exec(role, ["ip", "link", "set", device, "down"])
        try:
            yield
        finally:
            lab.exec(role, ["ip", "link", "set", device, "up"])
        return
    from kernlb.datapath.xdp import decap

    namespace = lab.topology.namespace(role)
    before = inside(namespace, lambda: decap.status(BACK))
    inside(namespace, lambda: decap.detach(BACK))
    try:
        yield
    finally:
        if before is not None:
            inside(namespace, lambda: decap.attach(BACK, before.decap))


def has_decap(lab: Lab) -> bool:
    (setup, *_) = [
        each
        for each in commands.setups(lab.topology, lab.features)
        if each.namespace == lab.topology.namespace("server1")
    ]
    return bool(setup.decap)


@contextmanager
def asked(balancer: Balancer, vip: IPAddress) -> Iterator[Callable[[], dict[str, int]]]:
    """Counts the first packets of connections to the VIP that each server's stack sees."""
    family = "ip" if vip.version == 4 else "ip6"
    chain = "chain in { type filter hook prerouting priority -300; "
    rule = f"{family} daddr {vip} tcp flags & (syn | ack) == syn counter; }}; }}"
    roles = [server.role for server in balancer.topology.servers]
    for role in roles:
        balancer.lab.exec(role, ["nft", f"table inet asked {{ {chain}{rule}"])

    def counts() -> dict[str, int]:
        found = {}
        for role in roles:
            listing = balancer.lab.exec(role, ["nft", "list", "table", "inet", "asked"]).stdout
            found[role] = int(re.findall(r"counter packets (\d+)", listing)[0])
        return found

    try:
        yield counts
    finally:
        for role in roles:
            balancer.lab.exec(role, ["nft", "delete", "table", "inet", "asked"])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("way", CARRIED)
def test_a_server_without_the_address_is_found_and_named(
    balancer: Balancer, way: str, version: int
) -> None:
    vip = balancer.fresh_vip(version)
    declare(balancer, vip, way)
    with without_vip(balancer.lab, "server1", vip):
        why = why_down(balancer, "server1")
        assert why.startswith("does not answer at the VIP"), why
        assert f"is {vip} on its lo" in why
        assert states(balancer)["server2"] is states(balancer)["server3"] is ServerState.UP
    all_up(balancer)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("way", CARRIED)
def test_exactly_that_server_is_asked(balancer: Balancer, way: str, version: int) -> None:
    vip = balancer.fresh_vip(version)
    one, *others = balancer.servers(version)
    servers = [one, *({**each, "check": "none"} for each in others)]
    declare(balancer, vip, way, servers=servers)
    with asked(balancer, vip) as counts:
        wait_for(lambda: counts()["server1"] >= 5, 20, "it is asked")
        found = counts()
        assert (found["server2"], found["server3"]) == (0, 0)


@pytest.mark.parametrize("version", [4, 6])
def test_a_server_without_the_tunnels_device_is_found_and_named(
    balancer: Balancer, version: int
) -> None:
    vip = balancer.fresh_vip(version)
    declare(balancer, vip, "ipip")
    with ExitStack() as broken:
        for device in ("tunl0",) if version == 4 else ("ip6tnl0", "anyip6"):
            broken.enter_context(without_tunnel(balancer.lab, "server2", device))
        why = why_down(balancer, "server2")
        assert why.startswith("does not answer at the VIP"), why
        assert "is its ipip device up" in why
    all_up(balancer)


def test_ipv6_servers_of_an_ipv4_address(balancer: Balancer, vip: IPAddress) -> None:
    declare(balancer, vip, "ipip", servers=balancer.servers(6))
    with without_vip(balancer.lab, "server3", vip):
        assert why_down(balancer, "server3").startswith("does not answer at the VIP")
    all_up(balancer)


def test_a_dead_server_is_no_wrong_path(balancer: Balancer, vip: IPAddress) -> None:
    declare(balancer, vip, "dsr")
    with killed(balancer.lab, "server1"):
        assert why_down(balancer, "server1").startswith("connection refused")
    all_up(balancer)


@pytest.mark.parametrize("way", ["dsr", "gue"])
def test_datagrams_are_carried_too(balancer: Balancer, vip: IPAddress, way: str) -> None:
    declare(balancer, vip, way, port=53, protocol="udp", check=DATAGRAM)
    with without_vip(balancer.lab, "server2", vip):
        wait_for(lambda: states(balancer)["server2"] is ServerState.DOWN, 30, "found")
        assert "does not answer at the VIP" in said(balancer)
    all_up(balancer)


def test_a_restart_asks_the_same_way(balancer: Balancer, vip: IPAddress) -> None:
    declare(balancer, vip, "dsr")
    for end in (balancer.daemon.kill, balancer.daemon.stop):
        end()
        balancer.daemon.start(*balancer.daemon.options)
        all_up(balancer)
        with without_vip(balancer.lab, "server1", vip):
            assert why_down(balancer, "server1").startswith("does not answer at the VIP")
        all_up(balancer)


def test_what_was_made_for_probes_goes_with_the_last_of_them(
    balancer: Balancer, vip: IPAddress
) -> None:
    declare(balancer, vip, "dsr")
    assert accepts_own(balancer) == "1"
    assert balancer.daemon.client.status().foreign == []
    web(balancer, vip, check="http", **WAYS["dsr"])
    wait_for(lambda: accepts_own(balancer) == "0", 10, "it is as it was")
    with suppress(ControlError):
        balancer.daemon.client.remove_service("web")
    assert balancer.daemon.client.status().foreign == []


def test_a_server_that_answers_arp_for_the_address_is_named(
    balancer: Balancer, vip: IPAddress
) -> None:
    """On the balancer's own link; it stays, for out of the kernel it would still answer."""
    declare(balancer, vip, "dsr")
    name = f"real server {balancer.address('server2', 4)}"
    with setting(balancer.lab, "server2", "net.ipv4.conf.all.arp_ignore", "0"):
        heard(balancer, f"{name} answers ARP for {vip}")
        assert set(states(balancer).values()) == {ServerState.UP}
    heard(balancer, f"{name} no longer answers ARP for {vip}")


def test_a_strict_balancer_lets_answers_in(balancer: Balancer, vip: IPAddress) -> None:
    """As many distributions have it: rp_filter 1 everywhere."""
    with ExitStack() as strict:
        for each in ("all", BACK):
            name = f"net.ipv4.conf.{each}.rp_filter"
            strict.enter_context(setting(balancer.lab, "balancer", name, "1"))
        declare(balancer, vip, "ipip")
        name = f"net.ipv4.conf.{BACK}.rp_filter"
        assert read_setting(balancer.lab, "balancer", name) == "2"
        web(balancer, vip, check="http", **WAYS["ipip"])
        wait_for(
            lambda: read_setting(balancer.lab, "balancer", name) == "1", 10, "strict as before"
        )


def heard(balancer: Balancer, text: str) -> None:
    wait_for(lambda: text in said(balancer), 40, f"it is told: {text}")


@contextmanager
def setting(lab: Lab, role: str, name: str, value: str) -> Iterator[None]:
    before = read_setting(lab, role, name)
    lab.exec(role, ["sysctl", "-qw", f"{name}={value}"])
    try:
        yield
    finally:
        lab.exec(role, ["sysctl", "-qw", f"{name}={before}"])


def read_setting(lab: Lab, role: str, name: str) -> str:
    return lab.exec(role, ["sysctl", "-n", name]).stdout.strip()


def accepts_own(balancer: Balancer) -> str:
    return read_setting(balancer.lab, "balancer", f"net.ipv4.conf.{BACK}.accept_local")
