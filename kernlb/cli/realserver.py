"""``kernlb realserver``: what a real server needs for itself. Root and no daemon.

Here is ``decap``, the end of tunnels where the server's kernel has no device for them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import click

from kernlb.cli.console import DONE, FAILED, Console, pass_console
from kernlb.cli.lazy import Command, Lazy, group
from kernlb.cli.own_address import ADDRESS

if TYPE_CHECKING:
    from kernlb.datapath.xdp.decap import Status

COMMANDS = {
    "setup": Lazy("kernlb.cli.realserver_setup:setup", "Prepare this host for dsr or tunnel."),
    "check": Lazy("kernlb.cli.realserver_check:check", "Find what keeps it from answering."),
    "remove": Lazy("kernlb.cli.realserver_setup:remove", "Put back what setup changed."),
}


@group(COMMANDS)
def realserver() -> None:
    """Prepare this host to be a real server of services forwarded by dsr or tunnel."""


@realserver.group()
def decap() -> None:
    """Undo tunnels (IPIP, GUE, GRE) in XDP, where this kernel has no tunnel devices.

    Only packets to this host's own tunnel addresses are touched, and only if what is inside stays
    on this host. The addresses of the services must be on lo, as with any tunnel device.
    """


@decap.command(
    cls=Command,
    examples="""
        kernlb realserver decap attach eth0
        kernlb realserver decap attach eth0 --source 10.0.0.2 --source 10.0.0.3
        kernlb realserver decap attach bond0 --address 10.1.0.11 --gue-port 6080 --generic
    """,
)
@click.argument("device")
@click.option(
    "--address",
    "ends",
    type=ADDRESS,
    multiple=True,
    help="Where tunnels end; all addresses of DEVICE if not given. May be repeated.",
)
@click.option(
    "--source",
    "sources",
    type=ADDRESS,
    multiple=True,
    help="A balancer; with none, tunnels of anybody are undone. May be repeated.",
)
@click.option(
    "--gue-port",
    type=click.IntRange(0, 65535),
    default=6080,
    show_default=True,
    help="UDP port of GUE; 0: no GUE.",
)
@click.option("--generic", is_flag=True, help="For a driver without native XDP; slow.")
@pass_console
def attach(
    console: Console,
    device: str,
    ends: tuple[IPv4Address | IPv6Address, ...],
    sources: tuple[IPv4Address | IPv6Address, ...],
    gue_port: int,
    generic: bool,
) -> int:
    """Attach to a device, or change what is attached there, with no packet lost.

    It stays until it is detached or the device is gone; a reboot ends it.
    """
    from kernlb.datapath.xdp import decap as door
    from kernlb.datapath.xdp.libbpf import Mode

    try:
        ends = ends or door.addresses_of(device)
        wanted = door.Decap(ends, sources, gue_port)
        door.attach(device, wanted, Mode.GENERIC if generic else Mode.NATIVE)
    except OSError as error:
        return _failed(console, error)
    return _show(console, device)


@decap.command(cls=Command, examples="kernlb realserver decap detach eth0")
@click.argument("device")
@pass_console
def detach(console: Console, device: str) -> int:
    """Detach from a device; fine if it is not there. Other XDP programs stay."""
    from kernlb.datapath.xdp import decap as door

    try:
        found = door.detach(device)
    except OSError as error:
        return _failed(console, error)
    console.print(f"{device}: decap {'detached' if found else 'was not attached'}")
    return DONE


@decap.command(
    cls=Command,
    examples="""
        kernlb realserver decap status eth0
        kernlb realserver decap status eth0 -o json
    """,
)
@click.argument("device")
@pass_console
def status(console: Console, device: str) -> int:
    """Show what is attached, and what became of packets; exit code 1 if nothing is."""
    return _show(console, device)


def _show(console: Console, device: str) -> int:
    from kernlb.datapath.xdp import decap as door

    try:
        found = door.status(device)
    except OSError as error:
        return _failed(console, error)
    if console.json:
        console.print_json({"device": device, "attached": found is not None, **_plain(found)})
    else:
        console.print("\n".join(_lines(device, found)))
    return FAILED if found is None else DONE


def _plain(found: Status | None) -> dict[str, object]:
    if found is None:
        return {}
    return {
        "mode": str(found.mode),
        "addresses": list(map(str, found.decap.ends)),
        "sources": list(map(str, found.decap.sources)),
        "gue_port": found.decap.gue_port,
        "packets": dict(found.packets),
    }


def _lines(device: str, found: Status | None) -> list[str]:
    if found is None:
        return [f"{device}: decap is not attached"]
    counted = [f"{name} {count}" for name, count in found.packets.items() if count]
    return [
        f"{device}: decap attached in {found.mode} mode",
        f"addresses  {', '.join(map(str, found.decap.ends))}",
        f"sources    {', '.join(map(str, found.decap.sources)) or 'anybody'}",
        f"gue port   {found.decap.gue_port or 'none'}",
        f"packets    {', '.join(counted) or 'none yet'}",
    ]


def _failed(console: Console, error: OSError) -> int:
    console.error(error.strerror or str(error))
    return FAILED
