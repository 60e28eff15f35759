"""``kernlb ipvsadm -L`` and ``-S``: what kernlb has in IPVS, in ipvsadm's own words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kernlb.cli.console import DONE, FAILED, Console
from kernlb.migrate.ipvsadm import rules
from kernlb.migrate.ipvsadm.grammar import RefusedError, Verb
from kernlb.migrate.ipvsadm.listing import Listed, Table
from kernlb.migrate.ipvsadm.names import Names, Numbers, Resolver
from kernlb.migrate.ipvsadm.options import Command
from kernlb.migrate.ipvsadm.views import state_of

if TYPE_CHECKING:
    from kernlb.control.protocol import ServiceView, Status
    from kernlb.model import ServiceKey

CONNECTION_BITS = Path("/sys/module/ip_vs/parameters/conn_tab_bits")
IPVS = "ipvs"
DEFAULT_SIZE = 4096  # buckets, as the kernel has by default


def show(console: Console, command: Command) -> int:
    """Print it. Raises RefusedError."""
    if command.parts & {"timeout", "daemon"}:
        return _show_host(console, command)
    views = [view for view in _views(console, command.key) if view.datapath == IPVS]
    if console.json:
        console.print_json(views)
        return DONE
    names: Names = Numbers() if command.numeric else Resolver()
    states = {view.name: state for view in views if (state := state_of(view)) is not None}
    if command.verb is Verb.SAVE:
        ordered = rules.services_in_order(list(states.values()))
        lines = [line for state in ordered for line in rules.lines(state, names)]
    else:
        one = views[0].name if command.key is not None else None
        stats = {each.name: each for each in console.client().stats(one)}
        listed = [Listed(state, stats.get(name)) for name, state in states.items()]
        table = Table(command.parts, names)
        if one is not None:
            lines = [*table.title(), *table.service(listed[0])]
        else:
            lines = list(table.whole(listed, _version(console.client().status()), _size()))
    if lines:
        console.print("\n".join(lines))
    return DONE


def _views(console: Console, key: ServiceKey | None) -> list[ServiceView]:
    client = console.client()
    if key is None:
        return client.services_in_full()
    found = [
        each.name
        for each in client.services()
        if each.name and each.key == str(key) and each.datapath == IPVS
    ]
    if not found:
        raise RefusedError(f"there is no service {key}", FAILED)
    return [client.service(found[0])]


def _show_host(console: Console, command: Command) -> int:
    """What IPVS has one of, from the kernel of the namespace that this runs in."""
    from kernlb.migrate.ipvsadm import kernel

    try:
        if "timeout" in command.parts:
            lines = ["Timeout (tcp tcpfin udp): {} {} {}".format(*kernel.timeouts())]
        else:
            lines = kernel.sync_daemons()
    except OSError as error:
        raise RefusedError(f"cannot read IPVS: {error}", FAILED) from error
    if lines:
        console.print("\n".join(lines))
    return DONE


def _version(status: Status) -> str:
    kinds = {each.kind: each for each in status.datapaths}
    found = kinds.get(IPVS)
    if found is None or not found.available:
        why = f": {found.detail}" if found is not None and found.detail else ""
        raise RefusedError(f"datapath ipvs is not in use on this host{why}", FAILED)
    return found.version


def _size() -> int:
    try:
        return 1 << int(CONNECTION_BITS.read_text())
    except (OSError, ValueError):
        return DEFAULT_SIZE
