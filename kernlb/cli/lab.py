"""``kernlb lab``: a lab of network namespaces, up, looked at and down.

Needs root and no daemon. The lab's name prefixes its namespaces, so several can stand at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from kernlb.cli.console import DONE, FAILED, Console, pass_console
from kernlb.cli.lazy import Command, group

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernlb.lab.network import Lab

WORDS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


name_option = click.option(
    "--name", default="kernlb", show_default=True, help="Prefix of the lab's namespaces."
)


@group()
def lab() -> None:
    """Try things in a lab: a client, a router, a balancer and servers as network namespaces.

    The servers answer HTTP on 80 and 8080, TCP echo on 7 and UDP on 53, over IPv4 and IPv6,
    and take part in every forwarding method at once. 192.0.2.10-30 and fd00:aa::10-30 are
    routed to the balancer; 192.0.2.210-214 and fd00:aa:0:0:1::10-14 too, but through the
    router, so that one interface of the balancer has the clients and the servers.
    """


@lab.command(
    cls=Command,
    examples="""
        kernlb lab up
        kernlb lab up --name second --servers 5
        kernlb lab up --dry-run
    """,
)
@name_option
@click.option("--servers", type=click.IntRange(1, 200), default=3, show_default=True)
@click.option("--dry-run", is_flag=True, help="Print the commands for the network; do nothing.")
@pass_console
def up(console: Console, name: str, servers: int, dry_run: bool) -> int:
    """Bring the lab up, new if it is there already."""
    lab = _lab(name, servers)
    if dry_run:
        console.print("\n".join(lab.script()))
        return DONE
    if not _done(console, lab.up):
        lab.down()
        return FAILED
    console.print(f"lab {name} is up: {', '.join(lab.topology.roles)}")
    for module in lab.unprepared():
        console.note(f"not prepared: tunnels by {module}, which this kernel lacks")
    return DONE


@lab.command(cls=Command, examples="kernlb lab down")
@name_option
@pass_console
def down(console: Console, name: str) -> int:
    """End the lab's processes and remove its namespaces and files; fine if there is none."""
    return DONE if _done(console, _lab(name).down) else FAILED


@lab.command(cls=Command, examples="kernlb lab status\nkernlb lab status -o json")
@name_option
@pass_console
def status(console: Console, name: str) -> int:
    """Show the lab's namespaces, their addresses and processes; exit code 1 if it is not up."""
    from kernlb.cli.render import table

    lab = _lab(name).standing(name)
    if console.json:
        console.print_json(_status(name, lab))
    elif lab is None:
        console.print(f"lab {name} is down")
    else:
        cells = [(r, " ".join(a), " ".join(map(str, p)) or "-") for r, a, p in lab.look()]
        console.print(table(("in", "addresses", "processes"), cells, console.paint))
        for module in lab.unprepared():
            console.print(f"not prepared: tunnels by {module}, which this kernel lacks")
    return FAILED if lab is None else DONE


@lab.command(cls=Command, examples="kernlb lab ping")
@name_option
@pass_console
def ping(console: Console, name: str) -> int:
    """Ping every host of the lab from the client; exit code 1 if one does not answer."""
    found = _standing(name).ping()
    for address, answered in found.items():
        console.print(f"{address} {'answers' if answered else 'does not answer'}")
    return DONE if all(found.values()) else FAILED


@lab.command(cls=Command, examples="kernlb lab enter balancer")
@name_option
@click.argument("role", default="balancer")
def enter(name: str, role: str) -> None:
    """Start a shell in a namespace of the lab (the balancer if not given)."""
    _become(name, role, [os.environ.get("SHELL", "/bin/bash")])


@lab.command(
    cls=Command,
    context_settings=WORDS,
    examples="""
        kernlb lab exec balancer ipvsadm -Ln
        kernlb lab exec client curl -s http://192.0.2.10/
    """,
)
@name_option
@click.argument("role")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def exec(name: str, role: str, argv: tuple[str, ...]) -> None:
    """Run a command in a namespace of the lab; its exit code."""
    _become(name, role, list(argv))


@lab.command(
    cls=Command,
    context_settings=WORDS,
    examples="""
        kernlb lab capture server1
        kernlb lab capture balancer -c 10 tcp port 80
    """,
)
@name_option
@click.argument("role")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[TCPDUMP ARGUMENTS]...")
def capture(name: str, role: str, argv: tuple[str, ...]) -> None:
    """Show the packets of a namespace, with tcpdump."""
    _become(name, role, ["tcpdump", "-lnni", "any", *argv])


def _status(name: str, lab: Lab | None) -> dict[str, object]:
    if lab is None:
        return {"name": name, "up": False}
    namespaces = [
        {"namespace": lab.topology.namespace(r), "addresses": a, "processes": p}
        for r, a, p in lab.look()
    ]
    return {"name": name, "up": True, "not_prepared": lab.unprepared(), "namespaces": namespaces}


def _lab(name: str, servers: int = 3) -> Lab:
    from kernlb.lab.network import Lab, LabError

    try:
        return Lab(name, servers)
    except LabError as error:
        raise click.ClickException(str(error)) from error


def _standing(name: str) -> Lab:
    """The lab as it was brought up, with however many servers. Refuses one that is down."""
    lab = _lab(name).standing(name)
    if lab is None:
        raise click.ClickException(f"lab {name} is not up; try: kernlb lab up --name {name}")
    return lab


def _become(name: str, role: str, argv: list[str]) -> None:
    """Replace this process by argv in the namespace, terminal and signals and all."""
    from kernlb.lab import namespaces

    lab = _standing(name)
    if role not in lab.topology.roles:
        raise click.ClickException(
            f"no {role} in lab {name} (there are: {', '.join(lab.topology.roles)})"
        )
    try:
        namespaces.enter(lab.topology.namespace(role))
        sys.stdout.flush()
        os.execvp(argv[0], argv)
    except OSError as error:
        raise click.ClickException(f"cannot run {argv[0]} in {role}: {error.strerror}") from error


def _done(console: Console, act: Callable[[], None]) -> bool:
    from kernlb.lab.network import LabError

    try:
        act()
    except LabError as error:
        console.error(str(error))
        return False
    return True
