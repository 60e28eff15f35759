"""A network of its own where the kernel itself gives each answer that a network can give.

``python -m tests.unit.health.probes.apart`` is run within a new network namespace: it builds the
network, asks every case of CASES and prints what came, one line of JSON a case. One interface
swallows what it is given, and beyond another nobody is; nftables answers in the name of routers.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from ipaddress import ip_address
from pathlib import Path

import uvloop

from kernlb.health.check import Carried, Check, HttpCheck, IcmpCheck, Target, TcpCheck
from kernlb.health.outcome import Outcome, Result
from kernlb.health.probes.making import make_probe

PORT = 40000  # the one port that connect(2) may choose here
OPEN = 8080
MARK = 7
DEAD = 64  # whose large echoes are more than a socket may send by default
NETWORK = f"""
ip link set lo up
ip link add swallows type veth peer name drain
ip link set drain up
ip addr add 192.0.2.1/24 dev swallows
ip addr add 192.0.2.2/24 dev swallows
ip addr add 2001:db8::1/64 dev swallows nodad
ip link set swallows up
ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev swallows nud permanent
ip neigh add 192.0.2.10 lladdr 02:00:00:00:00:09 dev swallows nud permanent
ip neigh add 2001:db8::9 lladdr 02:00:00:00:00:09 dev swallows nud permanent
ip link add nobody type veth peer name there
ip addr add 198.51.100.1/24 dev nobody
ip addr add 2001:db8:1::1/64 dev nobody nodad
ip link set there up
ip link set nobody up
ip route add unreachable 203.0.113.1/32
ip route add prohibit 203.0.113.2/32
ip route add unreachable 2001:db8:2::1/128
ip route add prohibit 2001:db8:2::2/128
ip rule add fwmark {MARK} prohibit
ip -6 rule add fwmark {MARK} prohibit
nft -f -
"""
RULES = """
table inet answers {
    chain input {
        type filter hook input priority 0;
        ip daddr 127.1.0.1 reject with icmp admin-prohibited
        ip daddr 127.1.0.2 reject with icmp prot-unreachable
        ip daddr 127.1.0.3 reject with icmp host-unreachable
        ip daddr 127.1.0.4 reject with icmp port-unreachable
        icmpv6 type destination-unreachable accept
        ip6 daddr 2001:db8:f::1 reject with icmpv6 admin-prohibited
        ip6 daddr 2001:db8:f::3 reject with icmpv6 addr-unreachable
    }
    chain output {
        type filter hook output priority 0;
        ip daddr 127.1.0.9 drop
    }
}
"""
SYSCTLS = {
    "net/ipv4/ip_local_port_range": f"{PORT} {PORT}",
    # who is not there is given up after a third of a second
    "net/ipv4/neigh/nobody/mcast_solicit": "1",
    "net/ipv4/neigh/nobody/retrans_time_ms": "100",
    "net/ipv6/neigh/nobody/mcast_solicit": "1",
    "net/ipv6/neigh/nobody/retrans_time_ms": "100",
}
LOCAL_6 = ("2001:db8:f::1", "2001:db8:f::3")

ICMP, TCP = IcmpCheck(), TcpCheck()


def at(address: str, port: int = OPEN) -> Target:
    return Target(ip_address(address), port)


def carried(vip: str, source: str, mark: int = MARK) -> Target:
    path = Carried(mark, ip_address(vip), ip_address(source))
    return Target(ip_address("203.0.113.77"), 1, service_port=OPEN, carried=path)


# what it is: the check, the target, the outcome, its detail
CASES: dict[str, tuple[Check, Target, Outcome, str]] = {
    "icmp: a reply": (ICMP, at("127.0.0.1"), Outcome.PASSED, ""),
    "icmp: a reply, v6": (ICMP, at("::1"), Outcome.PASSED, ""),
    "icmp: a large one": (IcmpCheck(size=9001), at("192.0.2.1"), Outcome.PASSED, ""),
    "icmp: a large one, v6": (IcmpCheck(size=9001), at("2001:db8::1"), Outcome.PASSED, ""),
    "icmp: a small one": (IcmpCheck(size=0), at("127.0.0.1"), Outcome.PASSED, ""),
    "icmp: too large": (
        IcmpCheck(size=70000),
        at("127.0.0.1"),
        Outcome.NOT_ASKED,
        "message too long",
    ),
    "icmp: swallowed": (ICMP, at("192.0.2.9"), Outcome.NO_REPLY, ""),
    "icmp: swallowed, v6": (ICMP, at("2001:db8::9"), Outcome.NO_REPLY, ""),
    "icmp: nobody there": (ICMP, at("198.51.100.9"), Outcome.UNREACHABLE, "host unreachable"),
    "icmp: nobody there, v6": (
        ICMP,
        at("2001:db8:1::9"),
        Outcome.UNREACHABLE,
        "address unreachable",
    ),
    "icmp: prohibited": (ICMP, at("127.1.0.1"), Outcome.PROHIBITED, "by a filter"),
    "icmp: prohibited, v6": (ICMP, at("2001:db8:f::1"), Outcome.PROHIBITED, "by a filter"),
    "icmp: no protocol": (ICMP, at("127.1.0.2"), Outcome.PROTOCOL_UNREACHABLE, ""),
    "icmp: host unreachable": (ICMP, at("127.1.0.3"), Outcome.UNREACHABLE, "host unreachable"),
    "icmp: port unreachable": (ICMP, at("127.1.0.4"), Outcome.UNREACHABLE, "port unreachable"),
    "icmp: address unreachable, v6": (
        ICMP,
        at("2001:db8:f::3"),
        Outcome.UNREACHABLE,
        "address unreachable",
    ),
    "icmp: no route": (ICMP, at("203.0.113.1"), Outcome.UNREACHABLE, "no route to host"),
    "icmp: no route, v6": (ICMP, at("2001:db8:2::1"), Outcome.UNREACHABLE, "no route to host"),
    "icmp: a route that prohibits": (
        ICMP,
        at("203.0.113.2"),
        Outcome.PROHIBITED,
        "permission denied",
    ),
    "icmp: our own firewall": (ICMP, at("127.1.0.9"), Outcome.NOT_ASKED, "operation not permitted"),
    "icmp: marked": (
        ICMP,
        carried("192.0.2.9", "192.0.2.1"),
        Outcome.PROHIBITED,
        "permission denied",
    ),
    "icmp: marked, v6": (
        ICMP,
        carried("2001:db8::9", "2001:db8::1"),
        Outcome.PROHIBITED,
        "permission denied",
    ),
    "icmp: from a source": (ICMP, carried("192.0.2.1", "192.0.2.2", 0), Outcome.PASSED, ""),
    "icmp: from no source of ours": (
        ICMP,
        carried("192.0.2.1", "192.0.2.77", 0),
        Outcome.NOT_ASKED,
        "network is unreachable",
    ),
    "tcp: open": (TCP, at("127.0.0.1"), Outcome.PASSED, ""),
    "tcp: open, v6": (TCP, at("::1"), Outcome.PASSED, ""),
    "tcp: closed": (TCP, at("127.0.0.1", 81), Outcome.REFUSED, ""),
    "tcp: closed, v6": (TCP, at("::1", 81), Outcome.REFUSED, ""),
    "tcp: the socket met itself": (TCP, at("127.0.0.1", PORT), Outcome.REFUSED, ""),
    "tcp: the socket met itself, v6": (TCP, at("::1", PORT), Outcome.REFUSED, ""),
    "tcp: swallowed": (TCP, at("192.0.2.9"), Outcome.CONNECT_TIMEOUT, ""),
    "tcp: swallowed, v6": (TCP, at("2001:db8::9"), Outcome.CONNECT_TIMEOUT, ""),
    "tcp: nobody there": (TCP, at("198.51.100.9"), Outcome.UNREACHABLE, "no route to host"),
    "tcp: nobody there, v6": (TCP, at("2001:db8:1::9"), Outcome.UNREACHABLE, "no route to host"),
    "tcp: prohibited": (TCP, at("127.1.0.1"), Outcome.UNREACHABLE, "no route to host"),
    "tcp: prohibited, v6": (TCP, at("2001:db8:f::1"), Outcome.PROHIBITED, "permission denied"),
    "tcp: no protocol": (TCP, at("127.1.0.2"), Outcome.PROTOCOL_UNREACHABLE, ""),
    "tcp: port unreachable": (TCP, at("127.1.0.4"), Outcome.REFUSED, ""),
    "tcp: no route": (TCP, at("203.0.113.1"), Outcome.UNREACHABLE, "no route to host"),
    "tcp: a route that prohibits": (
        TCP,
        at("203.0.113.2"),
        Outcome.PROHIBITED,
        "permission denied",
    ),
    "tcp: our own firewall": (TCP, at("127.1.0.9"), Outcome.CONNECT_TIMEOUT, ""),
    "tcp: marked": (
        TCP,
        carried("192.0.2.9", "192.0.2.1"),
        Outcome.PROHIBITED,
        "permission denied",
    ),
    "tcp: marked, v6": (
        TCP,
        carried("2001:db8::9", "2001:db8::1"),
        Outcome.PROHIBITED,
        "permission denied",
    ),
    "http: swallowed": (HttpCheck(), at("192.0.2.10"), Outcome.CONNECT_TIMEOUT, ""),
    "http: marked": (
        HttpCheck(),
        carried("192.0.2.9", "192.0.2.1"),
        Outcome.PROHIBITED,
        "permission denied",
    ),
    "http: nobody there": (
        HttpCheck(),
        at("198.51.100.10"),
        Outcome.UNREACHABLE,
        "no route to host",
    ),
}


# Echoes that wait for a neighbour who is not there take room in the one socket that sends them all.
for number in range(DEAD):
    CASES[f"icmp: one of many that are dead, {number}"] = (
        IcmpCheck(size=9001),
        at(f"192.0.2.{100 + number}"),
        Outcome.NO_REPLY,  # the kernel looks for each of them for three seconds
        "",
    )
CASES["icmp: one that lives, after many that are dead"] = (
    IcmpCheck(size=9001),
    at("127.0.0.1"),
    Outcome.PASSED,
    "",
)


def build() -> None:
    for row in NETWORK.strip().splitlines():
        rules = RULES if row.startswith("nft") else None
        subprocess.run(row.split(), check=True, input=rules, text=True)
    for address in LOCAL_6:
        subprocess.run(f"ip addr add {address}/128 dev lo nodad".split(), check=True)
    for name, value in SYSCTLS.items():
        Path("/proc/sys", name).write_text(value)


async def ask_all() -> dict[str, Result]:
    loop = asyncio.get_running_loop()
    results: dict[str, Result] = {}

    async def ask(name: str, check: Check, target: Target) -> None:
        answered: asyncio.Future[Result] = loop.create_future()
        make_probe(check, 1.5, target, loop).start(answered.set_result)
        results[name] = await answered

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for name, (check, target, _, _) in CASES.items():
            group.create_task(ask(name, check, target))
    return results


def main() -> None:
    build()
    with (
        socket.create_server(("0.0.0.0", OPEN)),
        socket.create_server(("::", OPEN), family=socket.AF_INET6),
    ):
        for name, result in uvloop.run(ask_all()).items():
            print(json.dumps([name, result.outcome.name, result.duration, result.detail]))


if __name__ == "__main__":
    main()
