"""What `kernlb realserver check` reads, in which order: parts of facts for the doctor's checks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kernlb.doctor.doors import netfilter, programs, rtnetlink, sysctl
from kernlb.doctor.facts import Facts, Reader, UnreadError
from kernlb.doctor.netfilter import Ruleset
from kernlb.doctor.network import Network
from kernlb.doctor.server.role import (
    Attached,
    Counters,
    Kept,
    Kernel,
    Listener,
    Listeners,
    Role,
    WayBack,
    WaysBack,
)
from kernlb.doctor.sysctls import Sysctls
from kernlb.model import IPAddress
from kernlb.realserver import looking, record, unit
from kernlb.realserver.host import Host
from kernlb.realserver.slots import Kind, same
from kernlb.realserver.wanted import WishError, made_whole
from kernlb.realserver.wish import Decap, Wish

_SYSCTLS = (
    *(f"net/ipv4/conf/*/{key}" for key in ("rp_filter", "arp_ignore", "arp_announce", "proxy_arp")),
    "net/ipv4/ip_forward",
    "net/ipv6/conf/*/disable_ipv6",
    "net/ipv6/conf/*/forwarding",
    "net/netfilter/nf_conntrack_tcp_loose",
)
_CLIENTS = {4: ip_address("203.0.113.1"), 6: ip_address("2001:db8:ffff::1")}  # of documentation
_COUNTERS = ("TcpExtIPReversePathFilter", "TcpExtListenOverflows", "IpInUnknownProtos")
_PROC = Path("/proc/thread-self/net")  # of the thread's own namespace


@dataclass(frozen=True, slots=True)
class Asked:
    """What `check` is told. ``client``: whom answers go to. ``seconds``: how long to watch
    counters."""

    wish: Wish
    ports: tuple[tuple[str, int], ...] = ()
    balancers: tuple[IPAddress, ...] = ()
    clients: tuple[IPAddress, ...] = ()
    seconds: float = 1.0
    root: Path = Path("/")


def readers(asked: Asked) -> Sequence[tuple[type[Any], Reader]]:
    return (
        (Sysctls, lambda _: sysctl.read(_SYSCTLS)),
        (Network, lambda _: rtnetlink.read()),
        (Kernel, lambda facts: _kernel(facts[Network])),
        (Role, lambda facts: _role(asked, facts)),
        (Ruleset, lambda _: netfilter.read()),
        (Listeners, lambda _: _listeners()),
        (WaysBack, lambda facts: _ways_back(asked, facts)),
        (Kept, lambda facts: _kept(asked, facts)),
        (_Watched, lambda facts: _watched(asked, facts)),
        (Counters, lambda facts: facts[_Watched].counters),
        (Attached, lambda facts: facts[_Watched].decap()),
    )


def _kernel(network: Network) -> Kernel:
    modules, loadable = looking.modules(network)
    fou = []
    for version in (4, 6):
        with suppress(OSError):  # no fou in this kernel
            for line in programs.run(["ip", f"-{version}", "fou", "show"]).decode().splitlines():
                if (found := re.search(r"port (\d+)", line)) and ("-6" in line) == (version == 6):
                    kind = "gue" if re.search(r"\bgue\b", line) else "direct"
                    fou.append((version, int(found[1]), kind))
    return Kernel(modules, loadable, tuple(fou))


def _role(asked: Asked, facts: Facts) -> Role:
    kernel = facts[Kernel]
    host = Host(facts[Network], facts[Sysctls], kernel.modules, kernel.loadable)
    try:
        wish = made_whole(asked.wish, host)
    except WishError as error:
        raise UnreadError(str(error)) from error
    if asked.wish.decap is None and wish.tunnelled and _takes_in(wish.interface):
        wish = replace(wish, decap=Decap.XDP)  # by somebody's choice, whatever devices there are
    prepared = record.read(asked.root) is not None
    return Role(wish, asked.ports, asked.balancers or asked.wish.sources, prepared)


def _takes_in(interface: str) -> bool:
    """Is decap attached there?"""
    from kernlb.datapath.xdp import decap

    with suppress(OSError):
        return decap.status(interface) is not None
    return False


def _listeners() -> Listeners:
    """Of ss: it alone knows which sockets of IPv6 take IPv4 as well."""
    found = []
    for line in programs.run(["ss", "-H", "-l", "-n", "-t", "-u"]).decode().splitlines():
        words = line.split()
        if len(words) < 5 or words[0] not in ("tcp", "udp"):
            continue
        host, _, port = words[4].rpartition(":")
        host = host.partition("%")[0].strip("[]")
        if not port.isdigit():
            continue
        anywhere = {"*": 0, "0.0.0.0": 4, "::": 6}
        if host in anywhere:
            found.append(Listener(words[0], int(port), anywhere[host]))
            continue
        address = ip_address(host)
        address = getattr(address, "ipv4_mapped", None) or address
        found.append(Listener(words[0], int(port), address.version, address))
    return Listeners(tuple(found))


def _ways_back(asked: Asked, facts: Facts) -> WaysBack:
    """From each VIP that is here, or for nat from the server's own addresses."""
    role, network = facts[Role], facts[Network]
    sources = [vip for vip in role.holds if network.is_local(vip)]
    if not role.holds:
        sources = [
            held.ip
            for held in network.addresses
            if held.interface == role.interface and not held.ip.is_link_local
        ]
    ways = []
    for source in sources:
        clients = [each for each in asked.clients if each.version == source.version]
        for client in clients or [_CLIENTS[source.version]]:
            ways.append(_way_back(source, client))
    return WaysBack(tuple(ways))


def _way_back(source: IPAddress, client: IPAddress) -> WayBack:
    command = ["ip", "-j", "route", "get", str(client), "from", str(source)]
    try:
        (found,) = json.loads(programs.run(command))
    except (OSError, ValueError):
        return WayBack(source, client)  # unreachable, prohibited, or no route at all
    gateway = found.get("gateway") or found.get("via", {}).get("host")
    return WayBack(source, client, found.get("dev", ""), ip_address(gateway) if gateway else None)


def _kept(asked: Asked, facts: Facts) -> Kept:
    former = record.read(asked.root)
    if former is None:
        return Kept()
    slots = [change.slot for change in former.changes]
    present = looking.present(slots, facts[Network], asked.root)
    stale = tuple(
        f"{change.slot} is {_shown(present[change.slot])}, not {_shown(change.after)}"
        for change in former.changes
        if not same(change.slot, present[change.slot], change.after)
        if change.slot.kind not in (Kind.FILE, Kind.SYMLINK)
    )
    boot = [asked.root / path.lstrip("/") for path in (unit.PATH, unit.ENABLED)]
    return Kept(
        stale, not former.wish.persist or all(path.is_symlink() or path.exists() for path in boot)
    )


def _shown(value: str | None) -> str:
    return "not there" if value is None else "another" if "\n" in value else value


@dataclass(frozen=True, slots=True)
class _Watched:
    """Counters and decap, read twice. ``decap`` raises OSError where it cannot be looked at."""

    counters: Counters
    decap: Callable[[], Attached]


def _watched(asked: Asked, facts: Facts) -> _Watched:
    role = facts[Role]
    before, decap_before = _counters(), _attached(role)
    time.sleep(asked.seconds)
    after, decap_after = _counters(), _attached(role)
    risen = {name: after[name] - before.get(name, 0) for name in after}
    counters = Counters(after, {name: more for name, more in risen.items() if more}, asked.seconds)

    def decap() -> Attached:
        for each in (decap_before, decap_after):
            if isinstance(each, OSError):
                raise each
        assert isinstance(decap_before, Attached) and isinstance(decap_after, Attached)
        earlier = {name: count for name, count, _ in decap_before.risen}
        moved = tuple(
            (name, count, max(count - earlier.get(name, 0), 0))
            for name, count, _ in decap_after.risen
        )
        return replace(decap_after, risen=moved)

    return _Watched(counters, decap)


def _counters() -> Mapping[str, int]:
    """Lines in pairs: names, then numbers."""
    found: dict[str, int] = {}
    for file in ("netstat", "snmp"):
        lines = (_PROC / file).read_text().splitlines()
        for names, numbers in zip(lines[::2], lines[1::2], strict=False):
            group = names.partition(":")[0]
            pairs = zip(names.split()[1:], numbers.split()[1:], strict=False)
            found |= {group + name: int(number) for name, number in pairs}
    return {name: found[name] for name in _COUNTERS if name in found}


def _attached(role: Role) -> Attached | OSError:
    if not role.by_xdp:
        return Attached()
    from kernlb.datapath.xdp import decap
    from kernlb.datapath.xdp.libbpf import Mode

    try:
        found = decap.status(role.interface)
    except OSError as error:
        return error
    if found is None:
        return Attached()
    return Attached(
        found.decap.ends,
        found.decap.sources,
        found.decap.gue_port,
        found.mode is Mode.GENERIC,
        tuple((name, count, 0) for name, count in found.packets.items()),
    )
