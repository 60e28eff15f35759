"""Devices made of others, and what XDP and ARP make of them: VLANs, bonds, bridges."""

from __future__ import annotations

from collections.abc import Iterator

from kernlb.doctor.balancer.used import named, towards_servers, used_interfaces
from kernlb.doctor.facts import Facts
from kernlb.doctor.finding import Check, Finding, Severity
from kernlb.doctor.network import Link, Network

_NATIVE_BONDS = {"0": "balance-rr", "1": "active-backup", "2": "balance-xor", "4": "802.3ad"}
_BOND_MODES = {**_NATIVE_BONDS, "3": "broadcast", "5": "balance-tlb", "6": "balance-alb"}
_HASHED = ("2", "4")
_LAYER2 = "0"


def _vlan(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for link in named(facts):
        if link.kind in ("vlan", "macvlan", "ipvlan"):
            below = network.by_index(link.lower)
            on = below.name if below is not None else "the interface below"
            evidence = f"{link.name} is a {link.kind} device on {on}"
            remedy = f"xdp.interfaces: [{on}] in kernlb.yaml; VLAN tags are read there"
            yield Finding(link.name, evidence, (remedy,))


def _port(facts: Facts) -> Iterator[Finding]:
    network = facts[Network]
    for link in named(facts):
        master = network.by_index(link.master)
        if master is not None and master.kind in ("bond", "team", "bridge"):
            evidence = f"{link.name} is a port of {master.kind} {master.name}"
            remedy = f"xdp.interfaces: [{master.name}] in kernlb.yaml"
            yield Finding(link.name, evidence, (remedy,))


def _bond_mode(facts: Facts) -> Iterator[Finding]:
    for link in named(facts):
        mode = link.data.get("bond_mode", "")
        if link.kind == "bond" and mode not in _NATIVE_BONDS:
            evidence = f"{link.name} is in mode {_BOND_MODES.get(mode, mode)}"
            remedy = f"ip link set {link.name} down; ip link set {link.name} type bond mode 802.3ad"
            yield Finding(link.name, evidence, (remedy,))


def _bonds(facts: Facts) -> Iterator[Link]:
    network = facts[Network]
    for name in sorted(used_interfaces(facts)):
        link = network.link(name)
        if link is not None and link.kind in ("vlan", "macvlan"):
            link = network.by_index(link.lower)
        if link is not None and link.kind == "bond":
            yield link


def _bond_alb(facts: Facts) -> Iterator[Finding]:
    for link in _bonds(facts):
        if link.data.get("bond_mode") == "6":
            remedy = f"ip link set {link.name} type bond mode 802.3ad, or balance-tlb"
            yield Finding(link.name, f"{link.name} is in mode balance-alb", (remedy,))


def _bond_hash(facts: Facts) -> Iterator[Finding]:
    """Where all goes to one neighbour, as behind a gateway."""
    ways = towards_servers(facts)
    for link in _bonds(facts):
        hops = {way.next_hop for way in ways.get(link.name, [])}
        layer2 = link.data.get("bond_xmit_hash_policy") == _LAYER2
        if link.data.get("bond_mode") in _HASHED and layer2 and len(hops) == 1:
            evidence = f"{link.name} hashes by layer 2, and all servers are behind {hops.pop()}"
            remedy = f"ip link set {link.name} type bond xmit_hash_policy layer3+4"
            yield Finding(link.name, evidence, (remedy,))


CHECKS = (
    Check(
        id="xdp-on-vlan",
        severity=Severity.WARNING,
        means="XDP is to run on a VLAN device.",
        why="Such a device has no native XDP; on the interface below, kernlb reads the tags"
        " itself.",
        remedy="xdp.interfaces in kernlb.yaml: the interface below",
        find=_vlan,
    ),
    Check(
        id="xdp-on-port",
        severity=Severity.WARNING,
        means="XDP is to run on a port of a bond or bridge.",
        why="The kernel refuses it, or packets that come in by the other ports are missed.",
        remedy="xdp.interfaces in kernlb.yaml: the bond",
        find=_port,
    ),
    Check(
        id="xdp-bond-mode",
        severity=Severity.ERROR,
        means="The mode of a bond does not carry XDP.",
        why="Native XDP goes with balance-rr, active-backup, balance-xor and 802.3ad only.",
        remedy="ip link set BOND type bond mode 802.3ad",
        find=_bond_mode,
    ),
    Check(
        id="bond-alb",
        severity=Severity.WARNING,
        means="A bond rewrites ARP answers (balance-alb).",
        why="It tells clients and servers different Ethernet addresses for one IP address: "
        "dsr, VIP moves and ARP guards go wrong at random.",
        remedy="ip link set BOND type bond mode 802.3ad",
        find=_bond_alb,
    ),
    Check(
        id="bond-hash-layer2",
        severity=Severity.WARNING,
        means="A bond sends all packets to servers by one of its ports.",
        why="Hashing by layer 2 chooses the port by the neighbour's Ethernet address, and "
        "there is one neighbour.",
        remedy="ip link set BOND type bond xmit_hash_policy layer3+4",
        find=_bond_hash,
    ),
)
