"""The services of an overview as ``kernlb status`` prints them. Pure.

Every server of each service where there is room, else those that need somebody, and the rest in
numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernlb.cli.board_text import (
    is_troubled,
    rate,
    server_state,
    service_state,
    serving,
    severity,
    share,
    since,
    strip_text,
)
from kernlb.cli.columns import Column, Line, layout, painted
from kernlb.cli.render import STATE_COLOURS, Cell, Paint, count, printable
from kernlb.control.protocol import SyncState
from kernlb.control.protocol_overview import ServerLine, ServiceLine

NAMED = 10  # services that are named where there is no room for more

COLUMNS = (
    Column("SERVER"),
    Column("STATE"),
    Column("SINCE", right=True, rank=1),
    Column("WEIGHT", right=True),
    Column("PROMISED", right=True),
    Column("RECEIVED", right=True),
    Column("ACTIVE", right=True, rank=2),
    Column("CONN/s", right=True, rank=3),
    Column("IN/s", right=True, rank=5),
    Column("OUT/s", right=True, rank=6),
    Column("CHECKS", rank=4),
    Column("WHY"),
)


def services_text(
    services: Sequence[ServiceLine],
    now: float,
    paint: Paint,
    *,
    width: int | None,
    room: int,
    every: bool,
) -> Iterator[str]:
    """In full where all of them take no more than ``room`` lines, or ``every`` is wanted."""
    lines = sum(1 + len(service.servers) for service in services) + 1
    if every or lines <= room:
        if services:
            chosen = [(service, service.servers) for service in services]
            yield _table(chosen, now, paint, width)
        return
    troubled = sorted(filter(severity, services), key=severity, reverse=True)
    yield from _troubled(troubled, now, paint, width, room)
    yield _rest([service for service in services if not severity(service)], len(troubled))


def _troubled(
    services: Sequence[ServiceLine], now: float, paint: Paint, width: int | None, room: int
) -> Iterator[str]:
    """As many as there is room for, with the servers that make them so; then the names."""
    chosen: list[tuple[ServiceLine, Sequence[ServerLine]]] = []
    left = room - 5  # the heading, and the two sentences below with their blank lines
    for service in services:
        servers = [server for server in service.servers if is_troubled(server)]
        if not chosen or left > len(servers):
            chosen.append((service, servers[: max(1, left - 1)]))
            left -= 1 + len(servers)
    if chosen:
        yield _table(chosen, now, paint, width)
    listed = {service.name for service, _ in chosen}
    names = [service.name for service in services if service.name not in listed]
    if names:
        more = f", and {len(names) - 10} others" if len(names) > 10 else ""
        yield printable(f"{len(names)} more need a look: {', '.join(names[:10])}{more}")


def _rest(services: Sequence[ServiceLine], troubled: int) -> str:
    servers = [server for service in services for server in service.servers]
    states: dict[str, int] = {}
    for server in servers:
        states[server.state] = states.get(server.state, 0) + 1
    well = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    other = "other " if troubled else ""
    text = f"{len(services)} {other}services are well, with {len(servers)} servers"
    example = services[0].name if services else "NAME"
    text += f" ({printable(well)})" if well else ""
    return f"{text}: kernlb status {printable(example)} shows one, kernlb status --all every one"


def _table(
    services: Sequence[tuple[ServiceLine, Sequence[ServerLine]]],
    now: float,
    paint: Paint,
    width: int | None,
) -> str:
    """A title a service above its servers, all in the same columns."""
    rows = [_server(server, now) for _, servers in services for server in servers]
    heading, *lines = layout(COLUMNS, rows, width)
    out: list[Line] = [heading]
    for service, servers in services:
        out.append(_title(service))
        out += lines[: len(servers)]
        lines = lines[len(servers) :]
    return "\n".join(painted(line, paint) for line in out)


def _title(service: ServiceLine) -> Line:
    state, colour = service_state(service)
    if service.state == SyncState.SYNCED:
        said = [(service.state, STATE_COLOURS[SyncState.SYNCED]), ("  ", ""), (state, colour)]
    else:
        said = [(state, colour)]
    if service.error:
        said.append((f": {printable(service.error)}", colour))
    figures = f"  {count(service.active)} active  {rate(service.rates.connections)} conn/s"
    way = f"{service.key}  {service.datapath} {service.scheduler}"
    return [
        (printable(service.name or "-"), "bold"),
        (f"  {printable(way)}  ", ""),
        *said,
        (f" {serving(service)}{figures}", ""),
    ]


def _server(server: ServerLine, now: float) -> list[Cell]:
    weight = str(server.weight)
    if server.effective_weight != server.weight:
        weight = f"{server.effective_weight} of {server.weight}"
    return [
        f"  {server.server}",
        server_state(server),
        since(server.since, now),
        weight,
        share(server.promised),
        share(server.received),
        count(server.active),
        rate(server.rates.connections),
        rate(server.rates.bytes_in),
        rate(server.rates.bytes_out),
        strip_text(server.strip[-8:]),
        server.why,
    ]
