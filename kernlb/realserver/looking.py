"""Reads what a host has: the network by netlink, sysctls, modules, and the values of slots."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from kernlb.doctor.doors import programs, rtnetlink, sysctl
from kernlb.doctor.network import Network
from kernlb.realserver.host import Host
from kernlb.realserver.plan import Present
from kernlb.realserver.slots import TABLE, Kind, Slot
from kernlb.realserver.tunnels import FALLBACK_DEVICES, MADE, TUNNEL_MODULES

SYSCTLS = (
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/arp_ignore",
    "net/ipv4/conf/*/arp_announce",
)


def host() -> Host:
    """Raises OSError."""
    network = rtnetlink.read()
    there, loadable = modules(network)
    return Host(network, sysctl.read(SYSCTLS), there, loadable, _program())


def modules(network: Network) -> tuple[frozenset[str], frozenset[str]]:
    """Of TUNNEL_MODULES those that are there, and those that could be loaded."""
    there = frozenset(each for each in TUNNEL_MODULES if _has_module(each, network))
    return there, (_shipped() & frozenset(TUNNEL_MODULES)) - there


def present(slots: Iterable[Slot], network: Network, root: Path) -> Present:
    """The value of each slot. Raises OSError."""
    return {slot: _READ[slot.kind](slot, network, root) for slot in slots}


def _has_module(name: str, network: Network) -> bool:
    if Path("/sys/module", name).exists():
        return True
    device = FALLBACK_DEVICES.get(name)
    return device is not None and network.link(device) is not None


def _shipped() -> frozenset[str]:
    """Modules that came with this kernel. Seven times `modprobe -n` would cost a second."""
    with suppress(OSError):
        lines = Path("/lib/modules", os.uname().release, "modules.dep").read_text().splitlines()
        files = (line.partition(":")[0].rpartition("/")[2] for line in lines)
        return frozenset(file.partition(".")[0].replace("-", "_") for file in files)
    return frozenset()


def _program() -> str:
    """As a unit of systemd would start it."""
    for path in (Path(sys.argv[0]).absolute(), Path(sys.executable).with_name("kernlb")):
        if path.name == "kernlb" and os.access(path, os.X_OK):
            return str(path)
    return f"{sys.executable} -m kernlb.cli"


def _sysctl(slot: Slot, network: Network, root: Path) -> str | None:
    return sysctl.read([slot.name]).values.get(slot.name)


def _module(slot: Slot, network: Network, root: Path) -> str | None:
    return "loaded" if _has_module(slot.name, network) else None


def _link(slot: Slot, network: Network, root: Path) -> str | None:
    if slot.name != MADE or network.link(MADE) is None:
        return None
    (shown,) = json.loads(programs.run(["ip", "-j", "-d", "link", "show", "dev", MADE]))
    local = shown.get("linkinfo", {}).get("info_data", {}).get("local")
    return f"type ip6tnl mode any local {local} remote ::"  # shown as any


def _up(slot: Slot, network: Network, root: Path) -> str | None:
    link = network.link(slot.name)
    return None if link is None else "up" if link.up else "down"


def _mtu(slot: Slot, network: Network, root: Path) -> str | None:
    link = network.link(slot.name)
    return None if link is None else str(link.mtu)


def _address(slot: Slot, network: Network, root: Path) -> str | None:
    prefixes = sorted(
        str(held.address.network.prefixlen)
        for held in network.addresses
        if str(held.ip) == slot.name and held.interface == slot.at
    )
    return ",".join(prefixes) or None


def _fou(slot: Slot, network: Network, root: Path) -> str | None:
    with suppress(OSError):  # no fou in this kernel
        for line in programs.run(["ip", f"-{slot.at}", "fou", "show"]).decode().splitlines():
            words = line.split()
            of_family = ("-6" in words) == (slot.at == "6")
            if of_family and slot.name in words and "port" in words:
                return "gue" if "gue" in words else line.strip()
    return None


def _rules(slot: Slot, network: Network, root: Path) -> str | None:
    with suppress(OSError):  # no such table, no nft
        return programs.run(["nft", "-s", "list", "table", slot.name, TABLE]).decode()
    return None


def _decap(slot: Slot, network: Network, root: Path) -> str | None:
    from kernlb.datapath.xdp import decap
    from kernlb.datapath.xdp.libbpf import Mode

    if network.link(slot.name) is None:
        return None
    try:
        found = decap.status(slot.name)
    except OSError:
        return None  # attaching says why
    if found is None:
        return None
    words = [f"--address {each}" for each in found.decap.ends]
    words += [f"--source {each}" for each in found.decap.sources]
    words.append(f"--gue-port {found.decap.gue_port}")
    return " ".join(words + ["--generic"] * (found.mode is Mode.GENERIC))


def _file(slot: Slot, network: Network, root: Path) -> str | None:
    with suppress(FileNotFoundError):
        return (root / slot.name.lstrip("/")).read_text()
    return None


def _symlink(slot: Slot, network: Network, root: Path) -> str | None:
    with suppress(FileNotFoundError):
        return str((root / slot.name.lstrip("/")).readlink())
    return None


_READ: dict[Kind, Callable[[Slot, Network, Path], str | None]] = {
    Kind.SYSCTL: _sysctl,
    Kind.MODULE: _module,
    Kind.LINK: _link,
    Kind.UP: _up,
    Kind.MTU: _mtu,
    Kind.FOU: _fou,
    Kind.ADDRESS: _address,
    Kind.RULES: _rules,
    Kind.DECAP: _decap,
    Kind.FILE: _file,
    Kind.SYMLINK: _symlink,
}
