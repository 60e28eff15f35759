"""``kernlb realserver check``: what keeps this server from answering for its VIPs."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernlb.cli.console import Console, pass_console
from kernlb.cli.examining import Asked, examine_host, examining_options
from kernlb.cli.lazy import Command
from kernlb.cli.own_address import ADDRESS
from kernlb.cli.realserver_setup import recorded, root_option, wish_of, wish_options

if TYPE_CHECKING:
    from kernlb.realserver.wish import Wish

    ParamType = click.ParamType[Any]  # generic in newer versions of click only
else:
    ParamType = click.ParamType

IPAddress = IPv4Address | IPv6Address


class Port(ParamType):
    name = "[protocol/]port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        protocol, slash, number = str(value).rpartition("/")
        protocol = protocol if slash else "tcp"
        digits = number.isascii() and number.isdigit()
        if protocol not in ("tcp", "udp") or not digits or not 1 <= int(number) <= 65535:
            self.fail(f'"{value}" is not a port: 80, tcp/80 or udp/53', param, ctx)
        return protocol, int(number)


@click.command(
    cls=Command,
    examples="""
        kernlb realserver check
        kernlb realserver check --method dsr --vip 192.0.2.10 --port 80 --balancer 10.0.0.2
        kernlb realserver check --method tunnel --vip 192.0.2.10 --fix
        kernlb realserver check --explain rp-filter-on-tunnel
    """,
)
@click.option(
    "--method",
    type=click.Choice(["dsr", "tunnel", "nat"]),
    help="How it is forwarded to; without, what `setup` recorded is looked at.",
)
@wish_options
@click.option(
    "--port", "ports", type=Port(), multiple=True, help="Of a service: 80, udp/53. May be repeated."
)
@click.option(
    "--balancer",
    "balancers",
    type=ADDRESS,
    multiple=True,
    help="Address of a balancer on this side. May be repeated.",
)
@click.option(
    "--client",
    "clients",
    type=ADDRESS,
    multiple=True,
    help="Somebody that answers go to; somebody far away without. May be repeated.",
)
@click.option(
    "--watch",
    type=click.FloatRange(0, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to watch whether the kernel's counters of drops rise.",
)
@examining_options
@root_option
@pass_console
def check(
    console: Console,
    /,
    ports: tuple[tuple[str, int], ...],
    balancers: tuple[IPAddress, ...],
    clients: tuple[IPAddress, ...],
    watch: float,
    root: Path,
    fix: bool,
    yes: bool,
    persist: bool,
    strict: bool,
    explain: str | None,
    list_all: bool,
    **given: Any,
) -> int:
    """Find what is wrong with this real server: evidence, why it matters, and the remedy.

    Looks and changes nothing, unless told to by --fix. What could not be looked at is listed as
    not checked. Exit codes: 0 no errors (there may be warnings), 1 errors, 2 usage.
    """
    from kernlb.doctor.facts import Facts, gather
    from kernlb.doctor.server import CHECKS

    asked = Asked(fix, yes, persist, strict, explain, list_all)
    looks = explain is None and not list_all
    wish = _wish(given, root) if looks else None

    def read() -> Facts:
        from kernlb.realserver import reading

        assert wish is not None
        told = reading.Asked(wish, ports, balancers, clients, watch, root)
        return gather(reading.readers(told))

    return examine_host(console, CHECKS, read, asked)


def _wish(given: dict[str, Any], root: Path) -> Wish:
    if given["method"] is None and not given["vips"]:
        return recorded(root)
    return wish_of(given)
