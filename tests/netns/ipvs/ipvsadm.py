"""The oracle: what ipvsadm says the kernel holds, parsed by nothing that kernlb is made of.

``ipvsadm -Sn`` gives services, servers, forwarding, weights, tunnels and flags;
``-Ln --thresholds`` the connection limits. Both become the same plain :class:`Service` values
that ``views`` makes of the daemon's answers.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from typing import NamedTuple

from kernlb.lab.namespaces import inside

_FORWARDING = {"-m": "nat", "-i": "tunnel", "-g": "dsr"}
_PROTOCOLS = {"-t": "tcp", "-u": "udp", "--sctp-service": "sctp"}


class Tunnel(NamedTuple):
    type: str = "ipip"
    port: int = 0
    checksum: bool = False


class Persistence(NamedTuple):
    timeout: int
    prefix: int
    engine: str = ""


@dataclass(frozen=True)
class Server:
    endpoint: str
    weight: int
    forwarding: str
    tunnel: Tunnel | None = None
    upper: int = 0
    lower: int = 0


@dataclass(frozen=True)
class Service:
    key: str  # as kernlb prints it: tcp/192.0.2.10:80, fwmark/ipv6/7
    scheduler: str
    flags: frozenset[str] = frozenset()
    persistence: Persistence | None = None
    one_packet: bool = False
    servers: frozenset[Server] = frozenset()


Services = dict[str, Service]  # by key


class Counters(NamedTuple):
    connections: int
    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int


def ipvsadm(namespace: str, *words: str) -> str:
    """Run ipvsadm in a namespace."""

    def run() -> str:
        done = subprocess.run(["ipvsadm", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"ipvsadm {' '.join(words)}: {done.stderr}"
        return done.stdout

    return inside(namespace, run)


def rules(namespace: str) -> Services:
    """What ``ipvsadm -Sn`` says; thresholds are not in it."""
    return parse_rules(ipvsadm(namespace, "-Sn"))


def holdings(namespace: str) -> Services:
    """What the kernel holds, thresholds included."""
    return parse(ipvsadm(namespace, "-Sn"), ipvsadm(namespace, "-Ln", "--thresholds"))


def parse(rule_text: str, threshold_text: str) -> Services:
    """The two listings as one; they must name the same services and servers."""
    services = parse_rules(rule_text)
    limits = {
        key: {server: (numbers[0], numbers[1]) for server, numbers in servers.items()}
        for key, _, servers in parse_listing(threshold_text)
    }
    assert limits.keys() == services.keys(), "-Sn and --thresholds list different services"
    found = {}
    for key, service in services.items():
        assert limits[key].keys() == {server.endpoint for server in service.servers}
        servers = frozenset(
            replace(
                server, upper=limits[key][server.endpoint][0], lower=limits[key][server.endpoint][1]
            )
            for server in service.servers
        )
        found[key] = replace(service, servers=servers)
    return found


def parse_rules(text: str) -> Services:
    services: Services = {}
    for line in text.splitlines():
        words = shlex.split(line)
        verb, rest = words[0], words[1:]
        key, rest = _key(rest)
        if verb == "-A":
            services[key] = _service(key, rest)
        else:
            assert verb == "-a", line
            service = services[key]
            services[key] = replace(service, servers=service.servers | {_server(rest)})
    return services


def _key(words: list[str]) -> tuple[str, list[str]]:
    if words[0] == "-f":
        if words[2:3] == ["-6"]:
            return f"fwmark/ipv6/{_mark(words[1])}", words[3:]
        return f"fwmark/ipv4/{_mark(words[1])}", words[2:]
    return f"{_PROTOCOLS[words[0]]}/{words[1]}", words[2:]


def _mark(text: str) -> int:
    """-Sn prints a mark as if its 32 bits had a sign, and can so not be restored from."""
    return int(text) % 2**32


def _service(key: str, words: list[str]) -> Service:
    scheduler, flags, one_packet = "", "", False
    timeout, mask, engine = 0, "", ""
    rest = iter(words)
    for word in rest:
        match word:
            case "-s":
                scheduler = next(rest)
            case "-p":
                timeout = int(next(rest))
            case "-M":
                mask = next(rest)
            case "-b":
                flags = next(rest)
            case "--pe":
                engine = next(rest)
            case "-o":
                one_packet = True
            case _:
                raise AssertionError(f"ipvsadm prints {word} of {key}")
    persistence = Persistence(timeout, _prefix(key, mask), engine) if timeout else None
    named = frozenset(flags.split(",")) - {""}
    return Service(key, scheduler, named, persistence, one_packet)


def _prefix(key: str, mask: str) -> int:
    if not mask:
        return 128 if "[" in key or "/ipv6/" in key else 32
    return int(mask) if mask.isdigit() else IPv4Network(f"0.0.0.0/{mask}").prefixlen


def _server(words: list[str]) -> Server:
    endpoint, forwarding, weight = "", "", -1
    tunnel = Tunnel()
    rest = iter(words)
    for word in rest:
        match word:
            case "-r":
                endpoint = next(rest)
            case "-m" | "-i" | "-g":
                forwarding = _FORWARDING[word]
            case "-w":
                weight = int(next(rest))
            case "--tun-type":
                tunnel = tunnel._replace(type=next(rest))
            case "--tun-port":
                tunnel = tunnel._replace(port=int(next(rest)))
            case "--tun-csum":
                tunnel = tunnel._replace(checksum=True)
            case "--tun-nocsum":
                pass
            case _:
                raise AssertionError(f"ipvsadm prints {word} of server {endpoint}")
    return Server(endpoint, weight, forwarding, tunnel if forwarding == "tunnel" else None)


Listed = tuple[str, list[int], dict[str, list[int]]]


def parse_listing(text: str) -> Iterator[Listed]:
    """Each service of an ``ipvsadm -Ln`` table: its key, its numbers, those of its servers."""
    found: Listed | None = None
    for line in text.splitlines()[3:]:
        words = line.split()
        if words[0] == "->":
            assert found is not None, line
            found[2][words[1]] = _numbers(words[2:])
            continue
        if found is not None:
            yield found
        if words[0] == "FWM":
            version6 = words[2:3] == ["IPv6"]
            key = f"fwmark/ipv{6 if version6 else 4}/{_mark(words[1])}"
            words = words[1:] if version6 else words
        else:
            key = f"{words[0].lower()}/{words[1]}"
        found = key, _numbers(words[2:]), {}
    if found is not None:
        yield found


def _numbers(words: list[str]) -> list[int]:
    return [int(word) for word in words if word.isdigit()]


def counters(namespace: str) -> dict[str, tuple[Counters, dict[str, Counters]]]:
    """By service: its own counters and those of its servers (``ipvsadm -Ln --stats --exact``)."""
    listing = ipvsadm(namespace, "-Ln", "--stats", "--exact")
    return {
        key: (Counters(*numbers), {name: Counters(*each) for name, each in servers.items()})
        for key, numbers, servers in parse_listing(listing)
    }
