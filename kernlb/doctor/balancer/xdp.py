"""XDP on interfaces, and what their drivers make of it."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.balancer.used import named, xdp_interfaces
from kernlb.doctor.daemon import Daemon
from kernlb.doctor.drivers import Driver, Drivers
from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.host import Kernel
from kernlb.doctor.network import FarEnds, Link, Network
from kernlb.doctor.ops import SetChannels, SwitchOff
from kernlb.doctor.services import Declared
from kernlb.doctor.xdp import Programs
from kernlb.model import DatapathKind

_FULL = 0.9


def _drivers(facts: Facts) -> Iterator[tuple[Link, Driver]]:
    for link in named(facts):
        if (driver := facts[Drivers].by_interface.get(link.name)) is not None:
            yield link, driver


def _no_interfaces(facts: Facts) -> Iterator[Finding]:
    services = list(facts[Declared].of(DatapathKind.XDP))
    if services and not xdp_interfaces(facts):
        evidence = f"service {services[0].name} is of datapath xdp, and no interface has it"
        yield Finding("xdp.interfaces", evidence, ("xdp.interfaces in kernlb.yaml",))


def _absent(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for name in xdp_interfaces(facts):
        if network.link(name) is None:
            evidence = f"xdp.interfaces names {name}, and this host has no such interface"
            yield Finding(name, evidence, ("ip link; mend xdp.interfaces in kernlb.yaml",))


def _down(facts: Facts) -> Iterator[Finding]:
    for link in named(facts):
        if not link.up or not link.carrier:
            what = "has no carrier" if link.up else "is switched off"
            yield Finding(link.name, f"{link.name} {what}", (f"ip link set {link.name} up",))


def _missing(facts: Facts) -> Iterator[Finding]:
    daemon = facts[Daemon]
    for link in named(facts):
        if not link.xdp:
            why = daemon.xdp_errors.get(link.name, "")
            evidence = f"{link.name} has no XDP program" + (why and f": {why}")
            yield Finding(link.name, evidence, ("kernlb reload",))


def _foreign(facts: Facts) -> Iterator[Finding]:
    ours = facts[Programs].by_interface
    for link in named(facts):
        if link.xdp and link.name not in ours:
            evidence = f"{link.name} has XDP program {link.xdp_program}, which is not kernlb's"
            remedy = f"bpftool prog show id {link.xdp_program}; ip link set {link.name} xdp off"
            yield Finding(link.name, evidence, (remedy, "kernlb reload"))


def _generic(facts: Facts) -> Iterator[Finding]:
    for link in named(facts):
        if link.xdp == "generic":
            evidence = f"the program of {link.name} is attached in generic mode"
            remedy = "xdp.mode: native in kernlb.yaml, with a driver that has it"
            yield Finding(link.name, evidence, (remedy,))


def _no_native(facts: Facts) -> Iterator[Finding]:
    for link, driver in _drivers(facts):
        if driver.native_xdp is False:
            name = driver.name or link.kind or "its driver"
            evidence = f"the kernel says that driver {name} of {link.name} has no XDP of its own"
            yield Finding(link.name, evidence, (f"ethtool -i {link.name}",))


def _far_end(facts: Facts) -> Iterator[Finding]:
    """In this namespace, or in a named one; elsewhere it is not seen, and nothing is said."""
    network, elsewhere = facts[Network], facts[FarEnds].by_interface
    for link in named(facts):
        if link.kind != "veth":
            continue
        far = network.by_index(link.lower) if link.lower_namespace < 0 else elsewhere.get(link.name)
        if far is not None and not far.xdp:
            evidence = f"{far.name}, the other end of {link.name}, has no XDP program"
            remedy = f"ip link set {far.name} xdpdrv object OBJECT program pass (where it is)"
            yield Finding(link.name, evidence, (remedy,))


def _lro(facts: Facts) -> Iterator[Finding]:
    for link, driver in _drivers(facts):
        if driver.lro:
            fix = (SwitchOff(link.name, "lro"),)
            yield Finding(link.name, f"ethtool -k {link.name}: large-receive-offload on", fix=fix)


def _checksum(facts: Facts) -> Iterator[Finding]:
    for link, driver in _drivers(facts):
        if link.kind == "veth" and driver.tx_checksum:
            evidence = f"ethtool -k {link.name}: tx-checksumming on"
            yield Finding(link.name, evidence, fix=(SwitchOff(link.name, "tx"),))


def _queues(facts: Facts) -> Iterator[Finding]:
    cpus = facts[Kernel].cpus
    for link, driver in _drivers(facts):
        good = min(driver.most_queues, cpus)
        if driver.queues == 1 and good > 1:
            evidence = f"{link.name} receives by 1 queue of {driver.most_queues}; {cpus} CPUs"
            fix = (SetChannels(link.name, good, driver.queue_kind),)
            yield Finding(link.name, evidence, fix=fix)


def _tables(facts: Facts) -> Iterator[Finding]:
    for name, used, size in facts[Daemon].xdp_tables:
        if size and used / size >= _FULL:
            remedy = f"xdp.{name} in kernlb.yaml: a larger number"
            yield Finding(name, f"{used} of {size} entries are in use", (remedy,))


def _unresolved(facts: Facts) -> Iterator[Finding]:
    for service, server, reason in facts[Daemon].xdp_unresolved:
        yield Finding(f"{server} of {service}", reason, ("ip route get SERVER; ip neigh",))


def _warned(facts: Facts) -> Iterator[Finding]:
    for text in facts[Daemon].xdp_warnings:
        yield Finding("XDP", text, ("kernlb status",))


CHECKS = (
    Check(
        id="xdp-no-interface",
        severity=Severity.ERROR,
        means="A service is of datapath xdp, and no interface has XDP.",
        why="Nothing takes its packets.",
        remedy="xdp.interfaces in kernlb.yaml",
        find=_no_interfaces,
    ),
    Check(
        id="xdp-interface-absent",
        severity=Severity.ERROR,
        means="An interface of xdp.interfaces does not exist.",
        why="Packets that come in by what it was meant to be meet no program.",
        remedy="xdp.interfaces in kernlb.yaml",
        find=_absent,
    ),
    Check(
        id="xdp-interface-down",
        severity=Severity.ERROR,
        means="An interface with XDP is down.",
        why="No packet comes in or leaves by it.",
        remedy="ip link set INTERFACE up",
        find=_down,
    ),
    Check(
        id="xdp-missing",
        severity=Severity.ERROR,
        means="An interface of xdp.interfaces has no XDP program.",
        why="Packets to services go up to this host's own stack, which refuses them.",
        remedy="kernlb reload",
        find=_missing,
    ),
    Check(
        id="xdp-foreign",
        severity=Severity.ERROR,
        means="An interface of xdp.interfaces has somebody else's XDP program.",
        why="One program runs on an interface: kernlb never replaces another's, so services"
        " get nothing.",
        remedy="ip link set INTERFACE xdp off; kernlb reload",
        find=_foreign,
    ),
    Check(
        id="xdp-generic",
        severity=Severity.WARNING,
        means="XDP runs in generic mode.",
        why="The kernel makes its own buffer of each packet first: several times slower "
        "than native.",
        remedy="xdp.mode: native in kernlb.yaml",
        find=_generic,
    ),
    Check(
        id="xdp-no-native",
        severity=Severity.WARNING,
        means="The driver of an interface has no native XDP.",
        why="Only generic mode works there, several times slower.",
        remedy="ethtool -i INTERFACE; another card, or datapath ipvs",
        find=_no_native,
    ),
    Check(
        id="xdp-veth-peer",
        severity=Severity.ERROR,
        means="The other end of a veth with XDP has no XDP program.",
        why="What XDP sends into a veth is dropped unless a program runs at the other end, "
        "be it one that passes everything.",
        remedy="ip link set PEER xdpdrv object OBJECT program pass",
        find=_far_end,
    ),
    Check(
        id="xdp-lro",
        severity=Severity.WARNING,
        means="Large receive offload is on where XDP runs.",
        why="The card joins packets into ones that XDP cannot take: they are dropped, or "
        "XDP is refused.",
        remedy="ethtool -K INTERFACE lro off",
        find=_lro,
    ),
    Check(
        id="xdp-veth-checksum",
        severity=Severity.WARNING,
        means="Checksum offload is on at a veth with XDP.",
        why="Frames of this host carry unfinished checksums, which XDP at the far end "
        "rewrites into wrong ones: probes fail while clients do well.",
        remedy="ethtool -K INTERFACE tx off",
        find=_checksum,
    ),
    Check(
        id="xdp-one-queue",
        severity=Severity.WARNING,
        means="An interface with XDP receives by one queue.",
        why="XDP runs on the CPU of the queue: one CPU does all the work while the others idle.",
        remedy="ethtool -L INTERFACE combined NUMBER",
        find=_queues,
    ),
    Check(
        id="xdp-table-full",
        severity=Severity.WARNING,
        means="A table of XDP is almost full.",
        why="What finds no room is not kept: connections may move to another server when "
        "servers change.",
        remedy="xdp in kernlb.yaml: larger tables",
        find=_tables,
    ),
    Check(
        id="xdp-unresolved",
        severity=Severity.ERROR,
        means="XDP does not know how to reach a server.",
        why="Packets for it are dropped, and counted as no_hop.",
        remedy="ip route get SERVER; ip neigh show SERVER",
        find=_unresolved,
    ),
    Check(
        id="xdp-warned",
        severity=Severity.WARNING,
        means="kernlbd warns about XDP.",
        why="See the sentence.",
        remedy="kernlb status",
        find=_warned,
    ),
)
