"""Values of the protocol as text for people. Pure: no printing, no terminal, no clock.

Tables are plain columns, so that they grep and cut well; colour says nothing that the text does
not say. What comes from elsewhere is printed without its control characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# here to be found with the rest; apart, for ``kernlb.cli.quick`` has no time for the protocol
from kernlb.cli.services_text import SYNC_COLOURS
from kernlb.cli.services_text import services_text as services_text
from kernlb.cli.tables import Cell as Cell
from kernlb.cli.tables import Paint as Paint
from kernlb.cli.tables import colours as colours
from kernlb.cli.tables import plain as plain
from kernlb.cli.tables import printable as printable
from kernlb.cli.tables import table as table
from kernlb.control.protocol import (
    Change,
    Fault,
    OpView,
    Problem,
    ServerState,
    ServerView,
    ServiceView,
    TunnelView,
)

STATE_COLOURS: dict[str, str] = {
    **SYNC_COLOURS,
    ServerState.UP: "green",
    ServerState.DRAINING: "yellow",
    ServerState.DRAINED: "yellow",
    ServerState.DISABLED: "dim",
    ServerState.WAITING: "yellow",
    ServerState.DOWN: "red",
    ServerState.INHIBITED: "red",
    ServerState.KEPT: "red",
    ServerState.SPARED: "yellow",
    ServerState.LEAVING: "yellow",
    ServerState.SORRY: "yellow",
    ServerState.STANDBY: "dim",
}
_ACTION_COLOURS = {"add": "green", "edit": "yellow", "remove": "red"}


def service_text(service: ServiceView, now: float, paint: Paint) -> str:
    """``service show``: a block of settings, then the servers."""
    settings = [
        ("state", paint(service.state.value, STATE_COLOURS[service.state])),
        ("error", printable(service.error)),
        ("datapath", service.datapath),
        ("scheduler", " ".join([service.scheduler, *service.flags])),
        ("persistence", _persistence(service)),
        ("one packet", "yes" if service.one_packet else ""),
        ("vip", service.vip_interface and f"on {printable(service.vip_interface)}"),
        ("labels", printable(labels_text(service.labels))),
        ("file", printable(service.file)),
    ]
    lines = [f"{paint(printable(service.name) or '-', 'bold')}  {printable(service.key)}"]
    lines += [f"  {name:<11}  {value}" for name, value in settings if value]
    if service.servers:
        lines += ["", servers_text([("", server) for server in service.servers], now, paint)]
    else:
        lines.append("  no servers")
    return "\n".join(lines)


def _persistence(service: ServiceView) -> str:
    if service.persistence is None:
        return ""
    engine = f" by {service.persistence.engine}" if service.persistence.engine else ""
    return f"{service.persistence.timeout} s for a /{service.persistence.prefix}{engine}"


def servers_text(servers: Sequence[tuple[str, ServerView]], now: float, paint: Paint) -> str:
    """``server ls``: servers, each with the name of its service ("" to leave that column out)."""
    named = any(service for service, _ in servers)
    headings = ("SERVER", "FORWARDING", "WEIGHT>", "EFFECTIVE>", "KERNEL>", "STATE", "SINCE")
    rows: list[list[Cell]] = []
    for service, server in servers:
        row: list[Cell] = [service] if named else []
        row += [
            endpoint_text(server.address, server.port),
            server.forwarding + (f" {tunnel_text(server.tunnel)}" if server.tunnel else ""),
            str(server.weight),
            str(server.effective_weight),
            _kernel_weight(server),
            (server.state.value, STATE_COLOURS[server.state]),
            _since(server, now),
        ]
        rows.append(row)
    return table((*(("SERVICE",) if named else ()), *headings), rows, paint, right=">")


def _kernel_weight(server: ServerView) -> Cell:
    if not server.in_kernel or server.kernel_weight is None:
        return "-"
    wrong = server.kernel_weight != server.effective_weight
    return (str(server.kernel_weight), "red" if wrong else "")


def _since(server: ServerView, now: float) -> str:
    since = ago(now - server.since) if server.since else ""
    left = f" (drops in {span(server.deadline - now)})" if server.deadline > now else ""
    return since + left


def endpoint_text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def tunnel_text(tunnel: TunnelView) -> str:
    port = f":{tunnel.port}" if tunnel.port else ""
    return f"{tunnel.type}{port}{'+csum' if tunnel.checksum else ''}"


def labels_text(labels: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def change_text(change: Change, paint: Paint) -> str:
    """A plan: its ops in order, then what it does to flows."""
    lines = [op_text(op, paint) for op in change.ops] or ["no changes"]
    verb = "moved" if change.applied else "would move"
    for moved in change.moved:
        which = printable(f"{moved.service} ({moved.scheduler})")
        lines.append(f"{moved.share * 100:.1f} % of new flows of {which} {verb}")
    return "\n".join(lines)


def op_text(op: OpView, paint: Paint) -> str:
    return paint(printable(op.text), _ACTION_COLOURS.get(op.action, ""))


def fault_text(fault: Fault) -> str:
    """``message (file:line: key)``."""
    place = fault.file
    if fault.line:
        place += f":{fault.line}"
    place = ": ".join(part for part in (place, fault.key) if part)
    return printable(f"{fault.message} ({place})" if place else fault.message)


def problem_text(problem: Problem) -> list[str]:
    """One sentence a fault."""
    if not problem.faults:
        return [printable(problem.title)]
    title = printable(problem.title)
    return [
        text if title in (text := fault_text(fault)) else f"{title}: {text}"
        for fault in problem.faults
    ]


_SCALES = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def count(number: float) -> str:
    """``999``, ``12.3k``, ``4.56M``: three digits, factors of 1000."""
    for scale, suffix in _SCALES:
        if number >= scale * 0.9995:
            scaled = number / scale
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{suffix}"
    return f"{number:.0f}"


def mebibytes(number: int) -> str:
    """``0.4 MiB``, ``128 MiB``."""
    amount = number / 2**20
    return f"{amount:.0f} MiB" if amount >= 9.95 else f"{amount:.1f} MiB"


_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def span(seconds: float) -> str:
    """``45s``, ``3m``, ``2h 5m``, ``4d 3h``."""
    left = max(0, round(seconds))
    parts = []
    for size, unit in _UNITS:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts[:2]) or "0s"


def ago(seconds: float) -> str:
    return f"{span(seconds)} ago"
