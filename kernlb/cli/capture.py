"""``kernlb capture``: packets as the XDP program saw them, to a file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from kernlb import __version__
from kernlb.cli.arguments import ParamType, ServiceName
from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.render import mebibytes, printable

if TYPE_CHECKING:
    from kernlb.datapath.xdp.capturing import Wanted
    from kernlb.trace.capture import Bounds, Summary

PINS = "/sys/fs/bpf/kernlb"
ONLY = {"drop": (0, 1), "pass": (2,), "forward": (3, 4)}  # enum xdp_action
STDOUT = Path("-")


class _Addresses(ParamType):
    """An address, or a network in CIDR notation."""

    name = "address[/prefix]"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> IPv4Network | IPv6Network:
        try:
            return ip_network(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Sample(ParamType):
    name = "1/n"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        number = value.removeprefix("1/")
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 2**32):
            self.fail(f"{value!r} is not of the form 1/100", param, ctx)
        return int(number)


@click.command(
    cls=Command,
    examples="""
        kernlb capture -w web.pcapng --service web
        kernlb capture -w drops.pcapng --only drop --seconds 60
        kernlb capture -w one.pcap --client 198.51.100.7 --count 20
        kernlb capture -w - --sample 1/1000 | tcpdump -nr -
    """,
)
@click.option(
    "-w",
    "--write",
    "file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="pcapng; pcap where its name ends so; - is standard output.",
)
@click.option("--service", metavar="NAME", type=ServiceName(), help="To its VIP, or from it.")
@click.option("--client", metavar="ADDR", type=_Addresses(), help="To or from it; ADDR/PREFIX too.")
@click.option("--interface", metavar="IFACE", help="That they come in by.")
@click.option("--only", type=click.Choice(list(ONLY)), multiple=True, help="By verdict.")
@click.option(
    "--sample", metavar="1/N", type=_Sample(), default=1, help="One of N packets, by chance."
)
@click.option(
    "--count", type=click.IntRange(1), metavar="N", default=1000, help="End after N; 1000."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    default=30.0,
    help="End after S seconds; 30.",
)
@click.option(
    "--size",
    type=click.IntRange(1024),
    metavar="BYTES",
    default=64 << 20,
    help="End before FILE is larger; 64 MiB.",
)
@click.option(
    "--snaplen",
    type=click.IntRange(14, 4096),
    metavar="BYTES",
    default=256,
    help="Bytes kept of each packet; 256.",
)
@click.option(
    "--pins",
    type=click.Path(path_type=Path),
    default=PINS,
    metavar="DIR",
    help=f"{PINS} if not given.",
)
@pass_console
def capture(
    console: Console,
    file: Path,
    service: str | None,
    client: IPv4Network | IPv6Network | None,
    interface: str | None,
    only: tuple[str, ...],
    sample: int,
    count: int,
    seconds: float,
    size: int,
    snaplen: int,
    pins: Path,
) -> int:
    """Write packets as the XDP program saw them, before and after, each with its verdict.

    Filters run in the kernel; a packet is taken if it fits them as it came or as it left. What
    was sent is in FILE twice, on the interfaces "kernlb in" and "kernlb out"; what was dropped,
    or passed to the stack as it was, once. Comments name verdict and reason. Ends by --count,
    --seconds or --size, whichever is first, or by ^C. While nothing is captured, nothing is
    slower. For datapath xdp only.
    """
    from kernlb.trace.capture import Bounds

    wanted = _wanted(console, service, client, interface, only, sample, snaplen, count)
    summary = _run(console, file, wanted, Bounds(count, seconds, size), pins)
    if console.json and file != STDOUT:
        console.print_json(
            {
                "file": str(file),
                "packets": summary.packets,
                "bytes": summary.bytes,
                "missed": summary.missed,
                "ended": summary.ended.value,
                "verdicts": dict(summary.verdicts),
                "reasons": dict(summary.reasons),
            }
        )
    else:
        say = console.note if file == STDOUT else console.print
        for line in summary_text(summary, file):
            say(line)
    return DONE


def summary_text(summary: Summary, file: Path) -> list[str]:
    """Its lines."""
    endings = {
        "count": "that many were wanted",
        "seconds": "the time is over",
        "size": "the file has its size",
        "stopped": "stopped",
        "unloaded": "the program was unloaded",
    }
    where = "standard output" if file == STDOUT else printable(str(file))
    amount = (
        mebibytes(summary.bytes) if summary.bytes >= 1 << 20 else f"{summary.bytes / 1024:.1f} KiB"
    )
    lines = [f"{summary.packets} packets, {amount} to {where}: {endings[summary.ended]}"]
    for what, counter in (("verdicts", summary.verdicts), ("reasons", summary.reasons)):
        if counter:
            counts = (f"{name} {number}" for name, number in counter.most_common())
            lines.append(f"{what}: {', '.join(counts)}")
    if summary.missed:
        lines.append(f"{summary.missed} more fitted and were missed: try --sample or --only")
    return lines


def _wanted(
    console: Console,
    service: str | None,
    client: IPv4Network | IPv6Network | None,
    interface: str | None,
    only: tuple[str, ...],
    sample: int,
    snaplen: int,
    count: int,
) -> Wanted:
    from kernlb.datapath.xdp.capturing import Action, Wanted, interface_index
    from kernlb.trace.service import NotByXdpError, key_of_xdp

    key = ifindex = None
    if service is not None:
        try:
            key = key_of_xdp(console.client().service(service))
        except NotByXdpError as error:
            raise click.ClickException(str(error)) from None
    if interface is not None:
        try:
            ifindex = interface_index(interface)
        except OSError:
            text = f"cannot capture on {printable(interface)}: there is no such interface"
            raise click.ClickException(text) from None
    actions = frozenset(Action(each) for name in only for each in ONLY[name])
    return Wanted(count, snaplen, sample, ifindex, actions or frozenset(Action), client, key)


def _run(console: Console, file: Path, wanted: Wanted, bounds: Bounds, pins: Path) -> Summary:
    from kernlb.trace.capture import capture as run_capture
    from kernlb.trace.pcap import Pcap, PcapNg
    from kernlb.trace.stopping import until_stopped

    form = Pcap() if file.suffix == ".pcap" else PcapNg()
    with ExitStack() as stack:
        stopped = stack.enter_context(until_stopped())
        sink = stack.enter_context(_Sink(file))
        try:
            return run_capture(
                sink,
                form,
                wanted,
                bounds,
                pins,
                application=f"kernlb {__version__}",
                stopped=stopped,
                started=lambda: console.note("capturing; ^C ends it"),
            )
        except BrokenPipeError:
            raise
        except FileNotFoundError as error:
            raise click.ClickException(
                f"cannot capture: no XDP program is loaded in {printable(str(pins))}"
            ) from error
        except OSError as error:
            raise click.ClickException(error.strerror or str(error)) from error


class _Sink:
    """The file, made when there is something to write: a capture that cannot begin leaves none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._open()
        try:
            self._file.write(data)
            if self._path == STDOUT:
                self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._refused(error) from error

    def _open(self) -> BinaryIO:
        if self._path == STDOUT:
            return sys.stdout.buffer
        try:
            return self._path.open("wb")
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> click.ClickException:
        reason = (error.strerror or str(error)).lower()
        return click.ClickException(f"cannot write {printable(str(self._path))}: {reason}")

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self._path != STDOUT:
            self._file.close()
