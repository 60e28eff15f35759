"""``kernlb trace``: what happens to packets now, from kernel probes and our own counters."""

from __future__ import annotations

from time import localtime, strftime
from typing import TYPE_CHECKING, Any

import click

from kernlb.cli.arguments import ServiceName
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import Cell, count, printable, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernlb.model import AddressKey

VIEWS = ("drops", "schedule", "connections", "latency")
Finding = dict[str, Any]


@click.command(
    cls=Command,
    examples="""
        kernlb trace
        kernlb trace drops --service web --seconds 60
        kernlb trace schedule --service web
        kernlb trace connections latency --seconds 10
        kernlb trace connections -o json
        kernlb trace drops --own
    """,
)
@click.argument("views", type=click.Choice(VIEWS), nargs=-1, metavar="[VIEW]...")
@click.option("--service", metavar="NAME", type=ServiceName(), help="To its VIP alone.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="End after S seconds; else by ^C.",
)
@click.option("--own", is_flag=True, help="The XDP program's own counters alone: needs no bcc.")
@pass_console
def trace(
    console: Console,
    views: tuple[str, ...],
    service: str | None,
    seconds: float | None,
    own: bool,
) -> int:
    """Show live what happens to packets, in both datapaths. VIEWs, drops if none is given:

    \b
    drops: packets that the kernel or XDP dropped, by reason and place, once a second.
    schedule: which server IPVS chose for each connection, and how often in all.
    connections: those of IPVS as they begin and end.
    latency: of IPVS by nat, from the first packet of a connection to the first answer.

    Of XDP: its counters by reason (drops), and new connections by server (schedule,
    connections). Probes only read; what is more than 200 lines a second and CPU is counted and
    left out. They are compiled by bcc when asked for, and need python3-bpfcc and the headers of
    the running kernel: nothing else of kernlb does. With -o json a line is an object.
    """
    from kernlb.trace.bcc import CannotTraceError
    from kernlb.trace.live import Asked
    from kernlb.trace.live import trace as run_trace
    from kernlb.trace.programs import View
    from kernlb.trace.stopping import until_stopped

    key = _key(console, service) if service is not None else None
    asked = Asked(frozenset(map(View, views or ("drops",))), key, own, seconds)
    with until_stopped() as stopped:
        try:
            run_trace(
                asked, _Counters(console, service, own), _Audience(console), stopped, console.sleep
            )
        except CannotTraceError as error:
            raise click.ClickException(printable(str(error))) from None
    return DONE


def _key(console: Console, service: str) -> AddressKey:
    from kernlb.trace.service import address_key

    key = address_key(console.client().service(service))
    if key is None:
        raise click.ClickException(
            f"cannot trace {printable(service)} alone: a service of a firewall mark has no address"
        )
    return key


class _Counters:
    """The daemon's; without one there are none, unless they alone were asked for."""

    def __init__(self, console: Console, service: str | None, needed: bool) -> None:
        self._client = console.client()
        self._service = service
        self._needed = needed

    def packets(self) -> Mapping[str, int] | None:
        from kernlb.control.client import DaemonUnreachableError

        try:
            xdp = self._client.status().xdp
        except DaemonUnreachableError:
            if self._needed:
                raise
            return None
        return None if xdp is None else xdp.packets

    def connections(self) -> dict[tuple[str, str], tuple[int, int, int]] | None:
        from kernlb.control.client import DaemonUnreachableError

        try:
            by_xdp = {each.key for each in self._client.services() if each.datapath == "xdp"}
            views = self._client.stats(self._service)
        except DaemonUnreachableError:
            if self._needed:
                raise
            return None
        if not by_xdp:
            return None
        return {
            (view.name, each.server): (each.counters.connections, each.active, each.inactive)
            for view in views
            if view.key in by_xdp
            for each in view.servers
        }


class _Audience:
    def __init__(self, console: Console) -> None:
        self._console = console

    def tell(self, finding: Finding) -> None:
        if self._console.json:
            self._json(finding)
        else:
            self._console.print(printable(finding_text(finding)))

    def sum_up(self, findings: list[Finding]) -> None:
        if self._console.json:
            for each in findings:
                self._json(each)
        elif text := summary_text(self._console, findings):
            self._console.print(text)

    def note(self, text: str) -> None:
        self._console.note(printable(text))

    def _json(self, finding: Finding) -> None:
        import msgspec

        self._console.print(msgspec.json.encode(finding).decode())


def finding_text(finding: Finding) -> str:
    """One line."""
    moment = finding["time"]
    clock = strftime("%H:%M:%S", localtime(moment))
    match finding["kind"]:
        case "drop":
            flow = ""
            if "to" in finding:
                flow = f", {finding['protocol']} to {finding['to']} from {finding['from']}"
            return (
                f"{clock}  {finding['packets']:>6}  {finding['where']:<10}  {finding['reason']}: "
                f"{finding['detail']}{flow}"
            )
        case "left_out":
            return (
                f"{clock}  {finding['events']} left out: more than {finding['per_second']} a second"
            )
        case "counted":
            return (
                f"{clock}  xdp {finding['service']}: {finding['connections']} new to "
                f"{finding['server']} (active {finding['active']}, "
                f"inactive {finding['inactive']})"
            )
    clock += f".{int(moment % 1 * 1000):03}"
    flow = f"{finding['protocol']} {finding['client']} -> {finding['vip']}"
    if finding["kind"] == "schedule":
        return f"{clock}  {flow}  {finding['scheduler']}: {finding['server'] or 'NO SERVER'}"
    text = f"{clock}  {finding['kind']:<5}  {flow} -> {finding['server']}"
    if "packets" in finding:
        text += f"  {finding['packets']} packets"
    if "seconds" in finding:
        text += f" in {finding['seconds']:.1f} s"
    return text + (f", {finding['state']}" if "state" in finding else "")


def summary_text(console: Console, findings: list[Finding]) -> str:
    """A table, or "" for nothing."""
    if not findings:
        return ""
    match findings[0]["kind"]:
        case "chosen":
            rows: list[list[Cell]] = [
                [each["protocol"], each["vip"], _server(each["server"]), count(each["times"])]
                for each in findings
            ]
            return table(("PROTO", "VIP", "SERVER", "TIMES>"), rows, console.paint, right=">")
        case "total":
            (only,) = findings
            return f"{only['begun']} connections began, {only['ended']} ended"
        case _:
            words = ("median", "p90", "p99", "worst")
            rows = [
                [
                    *(each["protocol"], each["server"]),
                    *(count(each["answered"]), count(each["unanswered"])),
                    *(f"{each[word]:.2f} ms" if word in each else "-" for word in words),
                ]
                for each in findings
            ]
            numbers = (f"{word.upper()}>" for word in ("answered", "unanswered", *words))
            return table(("PROTO", "SERVER", *numbers), rows, console.paint, right=">")


def _server(name: str) -> Cell:
    return name or ("NO SERVER", "red")
