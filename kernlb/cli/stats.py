"""``kernlb stats``: the kernel's counters, totals or rates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from kernlb.cli.arguments import ServiceName
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import Cell, Paint, count, table

if TYPE_CHECKING:
    from kernlb.control.protocol import CountersView, ServiceStatsView

TOTALS = ("CONNS", "PKTS-IN", "PKTS-OUT", "BYTES-IN", "BYTES-OUT")
RATES = ("CONNS/s", "PKTS-IN/s", "PKTS-OUT/s", "BYTES-IN/s", "BYTES-OUT/s")
HELD = ("active", "inactive", "persistent")
GAUGES = ("WEIGHT", "ACTIVE", "INACTIVE", "PERSISTENT")


@click.command(
    cls=Command,
    examples="""
        kernlb stats
        kernlb stats web --rate
        kernlb stats web -o json
        kernlb stats --reasons
    """,
)
@click.argument("service", type=ServiceName(), required=False)
@click.option("--rate", is_flag=True, help="Per second, as the kernel estimates it, not totals.")
@click.option(
    "--reasons", is_flag=True, help="Packets of datapath xdp by what became of them, and why."
)
@pass_console
def stats(console: Console, service: str | None, rate: bool, reasons: bool) -> int:
    """Show connections, packets and bytes of services and their servers.

    In tables 1k is 1000; JSON has whole numbers, totals and rates alike. ACTIVE, INACTIVE and
    PERSISTENT are connections that the kernel holds now. With dsr and tunnel the way out does not
    pass the balancer and counts nothing.
    """
    if reasons:
        if service is not None or rate:
            raise click.UsageError("--reasons goes with neither a service nor --rate")
        return _reasons(console)
    views = console.client().stats(service)
    if console.json:
        console.print_json(views)
    else:
        console.print(stats_text(views, rate, console.paint))
    return DONE


def _reasons(console: Console) -> int:
    xdp = console.client().status().xdp
    if xdp is None:
        raise click.ClickException("datapath xdp is not in use on this host")
    if console.json:
        console.print_json(xdp.packets)
        return DONE
    rows = [[name, count(number)] for name, number in xdp.packets.items() if number]
    console.print(table(("REASON", "PACKETS>"), rows, console.paint, right=">"))
    return DONE


def stats_text(views: Iterable[ServiceStatsView], rate: bool, paint: Paint) -> str:
    """A row a service, then one for each of its servers."""
    rows: list[list[Cell]] = []
    for view in views:
        held = [sum(getattr(each, key) for each in view.servers) for key in HELD]
        name = (view.name or view.key, "bold")
        rows.append([name, "", "", *map(count, held), *_counters(view.counters, rate)])
        for each in view.servers:
            held = [getattr(each, key) for key in HELD]
            counters = _counters(each.counters, rate)
            rows.append(["", each.server, str(each.weight), *map(count, held), *counters])
    numbers = [f"{heading}>" for heading in (*GAUGES, *(RATES if rate else TOTALS))]
    return table(("SERVICE", "SERVER", *numbers), rows, paint, right=">")


def _counters(counters: CountersView, rate: bool) -> list[str]:
    suffix = "_rate" if rate else ""
    keys = ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out")
    return [count(getattr(counters, key + suffix)) for key in keys]
