"""``kernlb explain``: the loaded XDP program's own answer about one packet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kernlb.cli.arguments import Endpoint
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.notation import PROTOCOLS, Document, endpoint
from kernlb.cli.render import printable

if TYPE_CHECKING:
    from kernlb.control.protocol_xdp import Explanation

ENDPOINT = Endpoint()


@click.command(
    cls=Command,
    examples="""
        kernlb explain tcp 198.51.100.7:40000 192.0.2.10:80
        kernlb explain udp [2001:db8:1::7]:40000 [2001:db8::53]:53 --interface eth1
        kernlb explain tcp 198.51.100.7:40000 192.0.2.10:80 --within -o json
    """,
)
@click.argument("protocol", type=click.Choice(PROTOCOLS))
@click.argument("client", type=ENDPOINT, metavar="CLIENT:PORT")
@click.argument("to", type=ENDPOINT, metavar="VIP:PORT")
@click.option(
    "--within", is_flag=True, help="A packet within a connection, not the first one (no SYN)."
)
@click.option(
    "--interface",
    metavar="IFACE",
    default="",
    help="Where it comes in; the first one with XDP if not given.",
)
@pass_console
def explain(
    console: Console, protocol: str, client: Document, to: Document, within: bool, interface: str
) -> int:
    """Say where a packet would go, and why, by asking the loaded XDP program.

    Nothing is sent and nothing is changed. The program takes the decision as it would for a
    packet of that client now: its connection if it has one, else its persistence, else the
    scheduler. For datapath xdp only.
    """
    told = console.client().explain(
        protocol, endpoint(client), endpoint(to), within=within, interface=interface
    )
    if console.json:
        console.print_json(told)
    else:
        console.print(explanation_text(told))
    return DONE


_VERDICTS = {
    "send": "sent on",
    "pass": "passed to the kernel's network stack",
    "drop": "dropped",
}
_CHOSEN = {
    "connection": "it has a connection there",
    "template": "its persistence names it",
    "scheduler": "chosen by",
}


def explanation_text(told: Explanation) -> str:
    """A line a subject."""
    rows = [("packet", f"{told.protocol} from {told.client} to {told.to}{_in(told)}")]
    rows.append(("verdict", f"{_VERDICTS.get(told.verdict, told.verdict)}: {told.meaning}"))
    rows.append(("reason", told.reason))
    if told.key:
        rows.append(("service", f"{told.service} ({told.key})" if told.service else told.key))
    if told.server:
        method = f"{told.forwarding} {told.tunnel}".strip()
        rows.append(("server", f"{told.server} by {method}"))
        rows.append(("why", _why(told)))
    if told.out:
        tag = f", VLAN {told.vlan}" if told.vlan else ""
        source = "the kernel's routes, asked for this packet" if told.by_fib else "the daemon"
        to = f" to {told.next_hop}" if told.next_hop else ""
        rows.append(("way out", f"{told.out}{to}{tag} (known from {source})"))
    return "\n".join(f"{subject:<9} {printable(text)}" for subject, text in rows)


def _in(told: Explanation) -> str:
    return f", coming in on {told.interface}" if told.interface else ""


def _why(told: Explanation) -> str:
    chosen = _CHOSEN.get(told.chosen_by, told.chosen_by)
    if told.chosen_by == "scheduler":
        return f"{chosen} {told.scheduler}"
    state = f" ({told.state.replace('_', ' ')})" if told.state else ""
    return chosen + state
