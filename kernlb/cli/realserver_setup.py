"""``kernlb realserver setup`` and ``remove``: prints each change as it is made."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernlb.cli.console import DONE, Console, pass_console
from kernlb.cli.lazy import Command
from kernlb.cli.own_address import ADDRESS
from kernlb.cli.render import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernlb.realserver.preparing import Done
    from kernlb.realserver.slots import Change
    from kernlb.realserver.wish import Wish

IPAddress = IPv4Address | IPv6Address

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print the commands and change nothing."
)
root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    metavar="DIR",
    help="Where the record and the unit of systemd are kept; / if not given.",
)


def wish_options(function: Any) -> Any:
    """What a server may be asked to be: of `setup` and of `check`."""
    for option in reversed(_WISHES):
        function = option(function)
    return function


_WISHES = (
    click.option(
        "--vip", "vips", type=ADDRESS, multiple=True, help="Address of a service. May be repeated."
    ),
    click.option("--interface", metavar="DEVICE", help="Where packets of the balancer come in."),
    click.option(
        "--tunnel",
        default="ipip",
        show_default=True,
        metavar="TYPE",
        help="ipip, gre, gue or gue:PORT (6080).",
    ),
    click.option(
        "--decap",
        type=click.Choice(["device", "xdp"]),
        help="Who takes the outer header off; a device of the kernel where it has one, else XDP.",
    ),
    click.option(
        "--address",
        "ends",
        type=ADDRESS,
        multiple=True,
        help="Where tunnels end, if not at the interface's own addresses. May be repeated.",
    ),
)


@click.command(
    cls=Command,
    examples="""
        kernlb realserver setup --method dsr --vip 192.0.2.10
        kernlb realserver setup --method tunnel --vip 192.0.2.10 --vip 2001:db8::10
        kernlb realserver setup --method tunnel --vip 192.0.2.10 --tunnel gue --source 10.0.0.2
        kernlb realserver setup --method dsr --vip 192.0.2.10 --arp-guard nft --dry-run
    """,
)
@click.option("--method", type=click.Choice(["dsr", "tunnel"]), help="How it is forwarded to.")
@wish_options
@click.option(
    "--source",
    "sources",
    type=ADDRESS,
    multiple=True,
    help="A balancer that may send tunnels, with XDP; without, anybody may. May be repeated.",
)
@click.option("--generic", is_flag=True, help="XDP for a driver without native XDP; slow.")
@click.option("--mtu", type=click.IntRange(1280, 65535), help="Set that of the interface.")
@click.option(
    "--mss",
    default="auto",
    show_default=True,
    metavar="N",
    help="Largest segment that answers of a VIP ask for; auto: what the tunnel leaves; none.",
)
@click.option(
    "--arp-guard",
    "guard",
    type=click.Choice(["sysctl", "nft"]),
    default="sysctl",
    show_default=True,
    help="What keeps this host from answering ARP for its VIPs.",
)
@click.option(
    "--persist/--no-persist",
    default=True,
    show_default=True,
    help="Have systemd do it again at every boot.",
)
@click.option("--from-state", is_flag=True, help="Do again what was recorded; no other options.")
@dry_run_option
@root_option
@pass_console
def setup(console: Console, /, from_state: bool, dry_run: bool, root: Path, **given: Any) -> int:
    """Make this host a real server: addresses, ARP, filters, and the end of tunnels.

    What it was before is recorded first, so that `remove` puts exactly that back. The options say
    all that it is to be: a VIP that was there and is not named again goes. Doing it twice changes
    nothing; a change that fails takes back those before it.
    """
    from kernlb.realserver.preparing import setup as act

    if from_state and (given["method"] or given["vips"]):
        raise click.UsageError("--from-state says all that the server is to be")
    wish = recorded(root) if from_state else wish_of(given)
    return _act(console, dry_run, lambda tell: act(wish, root, tell, dry_run=dry_run))


@click.command(
    cls=Command,
    examples="""
        kernlb realserver remove
        kernlb realserver remove --vip 192.0.2.10
        kernlb realserver remove --dry-run
    """,
)
@click.option(
    "--vip", "vips", type=ADDRESS, multiple=True, help="Only these; without, all. May be repeated."
)
@dry_run_option
@root_option
@pass_console
def remove(console: Console, vips: tuple[IPAddress, ...], dry_run: bool, root: Path) -> int:
    """Put back what setup changed, as it was before.

    What somebody else changed since stays, and is named. Removing what is not set up succeeds.
    """
    from kernlb.realserver.preparing import remove as act

    return _act(console, dry_run, lambda tell: act(vips, root, tell, dry_run=dry_run))


def _act(console: Console, dry_run: bool, act: Callable[[Callable[[Change], None]], Done]) -> int:
    from kernlb.realserver.preparing import PreparingError
    from kernlb.realserver.wanted import WishError

    def tell(change: Change) -> None:
        if not console.json:
            console.print("\n".join(map(printable, str(change).splitlines())))

    try:
        done = act(tell)
    except (WishError, PreparingError) as error:
        raise click.ClickException(printable(str(error))) from None
    except OSError as error:
        where = f"cannot read {error.filename}: " if error.filename else ""
        raise click.ClickException(printable(where + (error.strerror or str(error)))) from None
    if console.json:
        console.print_json(_plain(done, dry_run))
        return DONE
    if not done.changes:
        console.print("nothing to do")
    elif dry_run:
        console.note("dry run: nothing was changed")
    for note in done.notes:
        console.note(f"note: {printable(note)}")
    return DONE


def _plain(done: Done, dry_run: bool) -> dict[str, object]:
    from kernlb.realserver.wish import to_plain

    return {
        "applied": not dry_run,
        "wish": to_plain(done.wish) if done.wish else None,
        "changes": [
            {
                "kind": change.slot.kind.value,
                "name": change.slot.name,
                "at": change.slot.at,
                "before": change.before,
                "after": change.after,
                "text": str(change),
            }
            for change in done.changes
        ],
        "notes": list(done.notes),
    }


def recorded(root: Path) -> Wish:
    from kernlb.realserver import record

    try:
        found = record.read(root)
    except OSError as error:
        raise click.ClickException(error.strerror or str(error)) from None
    if found is None:
        raise click.UsageError(
            f"nothing is recorded in {record.path_under(root)}: say --method and --vip"
        )
    return found.wish


def wish_of(given: dict[str, Any]) -> Wish:
    from kernlb.realserver.wish import AUTO, Decap, Guard, Method, Wish, parse_tunnel

    if not given["method"]:
        raise click.UsageError("Missing option '--method'")
    if not given["vips"] and given["method"] != "nat":
        raise click.UsageError("Missing option '--vip'")
    try:
        tunnel, port = parse_tunnel(given["tunnel"])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return Wish(
        method=Method(given["method"]),
        vips=tuple(dict.fromkeys(given["vips"])),
        interface=given["interface"] or "",
        tunnel=tunnel,
        port=port,
        decap=Decap(given["decap"]) if given["decap"] else None,
        generic=given.get("generic", False),
        ends=tuple(dict.fromkeys(given["ends"])),
        sources=tuple(dict.fromkeys(given.get("sources", ()))),
        guard=Guard(given.get("guard", Guard.SYSCTL)),
        mtu=given.get("mtu"),
        mss=_segment(given.get("mss", AUTO)),
        persist=given.get("persist", True),
    )


def _segment(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    if not (text.isascii() and text.isdigit() and 216 <= int(text) <= 65495):
        raise click.UsageError(f'"{text}" is not a segment size: 216 to 65495, auto or none')
    return int(text)
