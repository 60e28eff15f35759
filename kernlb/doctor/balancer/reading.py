"""What is read on a balancer, and in which order: later parts lean on earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernlb.doctor.balancer.used import used_interfaces, xdp_interfaces
from kernlb.doctor.daemon import Daemon
from kernlb.doctor.doors import (
    claims,
    ethtool,
    host,
    ipvs,
    netdev,
    netfilter,
    peers,
    rtnetlink,
    sysctl,
    xdp,
)
from kernlb.doctor.drivers import Driver, Drivers
from kernlb.doctor.facts import Facts, Reader, UnreadError
from kernlb.doctor.host import (
    Clock,
    Counters,
    DaemonProcess,
    Kernel,
    Listeners,
    Places,
    Processes,
    Queueing,
)
from kernlb.doctor.ipvs import Ipvs
from kernlb.doctor.netfilter import Ruleset
from kernlb.doctor.network import Claims, FarEnds, Network, Ways
from kernlb.doctor.services import Declared
from kernlb.doctor.sysctls import Sysctls
from kernlb.doctor.xdp import Programs

RESOLVING = 4.0  # seconds that neighbours have to answer: three requests, a second each
MOST_NEIGHBOURS = 256  # of those not known, that are asked for

_PER_INTERFACE = (
    *("forwarding", "send_redirects", "rp_filter", "proxy_arp", "arp_ignore", "arp_announce"),
    *("accept_local",),
)
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    *(f"net/ipv4/conf/*/{name}" for name in _PER_INTERFACE),
    *(f"net/ipv6/conf/*/{name}" for name in ("forwarding", "proxy_ndp", "disable_ipv6")),
    "net/ipv4/vs/*",
    "net/netfilter/nf_conntrack_*",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/core/bpf_jit_enable",
    "net/core/netdev_max_backlog",
    "kernel/unprivileged_bpf_disabled",
)


def readers(config: Path, state: Path, pins: Path) -> Sequence[tuple[type[Any], Reader]]:
    """After ``Declared`` and ``Daemon``, which whoever talks to the daemon brings along."""
    return (
        (Sysctls, lambda _: sysctl.read(SYSCTLS)),
        (Network, lambda _: rtnetlink.read()),
        (Ways, _ways),
        (Network, _resolved),
        (Claims, lambda facts: claims.read(facts[Network], list(facts[Declared].vips))),
        (Drivers, _drivers),
        (FarEnds, _far_ends),
        (Programs, lambda _: xdp.read(pins)),
        (Ruleset, lambda _: netfilter.read()),
        (Ipvs, lambda _: ipvs.read()),
        (Kernel, _kernel),
        (Clock, lambda _: host.clock()),
        (Listeners, lambda _: host.listeners()),
        (Processes, lambda _: host.processes()),
        (DaemonProcess, _daemon_process),
        (Queueing, lambda _: host.queueing()),
        (Counters, lambda _: host.counters()),
        (Places, lambda facts: host.places(_places(facts, config, state))),
    )


def _ways(facts: Facts) -> Ways:
    return Ways(rtnetlink.ways(server.address for _, server in facts[Declared].pairs()))


def _resolved(facts: Facts) -> Network:
    """The network again, after the kernel was asked for neighbours that it does not know."""
    network = facts[Network]
    unknown = []
    for way in facts[Ways].to.values():
        link = network.link(way.interface)
        if way.kind == "unicast" and link is not None and link.ethernet and link.up:
            neighbour = network.neighbour(way.interface, way.next_hop)
            if neighbour is None or neighbour.state in ("none", "failed", "incomplete"):
                unknown.append((way.interface, way.next_hop))
    if not unknown:
        return network
    rtnetlink.resolve(unknown[:MOST_NEIGHBOURS], RESOLVING)
    return rtnetlink.read()


def _drivers(facts: Facts) -> Drivers:
    network = facts[Network]
    found: dict[str, Driver] = {}
    for name in sorted(used_interfaces(facts) | set(xdp_interfaces(facts))):
        link = network.link(name)
        if link is not None:
            found[name] = ethtool.read(name, netdev.native_xdp(link.index))
    return Drivers(found)


def _far_ends(facts: Facts) -> FarEnds:
    links = [facts[Network].link(name) for name in xdp_interfaces(facts)]
    return FarEnds(peers.find(link for link in links if link and link.kind == "veth"))


def _kernel(facts: Facts) -> Kernel:
    schedulers = {f"ip_vs_{service.scheduler}" for service in facts[Declared].services}
    return host.kernel(["ip_vs", "nf_conntrack", *sorted(schedulers)])


def _daemon_process(facts: Facts) -> DaemonProcess:
    daemon = facts[Daemon]
    if not daemon.answers:
        raise UnreadError("no daemon answers")
    return host.daemon_process(daemon.pid)


def _places(facts: Facts, config: Path, state: Path) -> dict[str, Path]:
    return {
        "state": state,
        "configuration": config / "kernlb.yaml",
        "services": config / "services.d",
        "socket": Path(facts[Daemon].socket),
    }
