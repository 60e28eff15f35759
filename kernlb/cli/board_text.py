"""Words and figures of an overview: what ``status`` and ``top`` say alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from time import localtime, strftime

from kernlb.cli.columns import Span
from kernlb.cli.render import STATE_COLOURS, Paint, count, printable
from kernlb.control.protocol import Event, ServerState, SyncState
from kernlb.control.protocol_overview import Overview, Rates, ServerLine, ServiceLine

# States of servers that somebody should look at, worst first. The others are well, or as an
# operator wants them.
_BAD_STATES = (
    ServerState.DOWN,
    ServerState.INHIBITED,
    ServerState.KEPT,
    ServerState.SORRY,
    ServerState.SPARED,
    ServerState.WAITING,
)
_LOST = ("below quorum", "all down")  # phases
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def severity(service: ServiceLine) -> int:
    """0: all is well; 1: a server is not; 2: the service as a whole is not."""
    if service.state in (SyncState.FAILED, SyncState.CONFLICT, SyncState.INVALID):
        return 2
    if service.phase in _LOST or (service.servers and not service.serving):
        return 2
    pending = service.state == SyncState.PENDING
    return 1 if pending or any(map(is_troubled, service.servers)) else 0


def is_troubled(server: ServerLine) -> bool:
    return server.state in _BAD_STATES or server.condition == "held"


def service_state(service: ServiceLine) -> Span:
    """The one word that says most: how it serves, or why the kernel does not have it."""
    if service.state != SyncState.SYNCED:
        return service.state, STATE_COLOURS.get(service.state, "")
    if service.phase in _LOST:
        return service.phase, "red"
    if service.servers and not service.serving:
        return "none serving", "red"
    return service.phase or "serving", "yellow" if service.phase == "waiting" else "green"


def server_state(server: ServerLine) -> Span:
    return server.state, STATE_COLOURS.get(server.state, "")


def serving(service: ServiceLine) -> str:
    return f"{service.serving}/{len(service.servers)}"


def share(part: float | None) -> str:
    """``16.7 %``; ``-`` where there is none."""
    return "-" if part is None else f"{part * 100:.1f} %"


def rate(number: float) -> str:
    """Three digits at most: ``0``, ``0.3``, ``12.5``, ``1.20k``."""
    if 0.05 <= number < 99.95:
        return f"{number:.1f}"
    return count(number)


def age(seconds: float) -> str:
    """``45s``, ``3m``, ``2h``, ``4d``: in the largest unit that it fills."""
    left = max(0, int(seconds))
    for size, unit in _UNITS:
        if left >= size:
            return f"{left // size}{unit}"
    return "0s"


def since(moment: float, now: float) -> str:
    """How long ago; "" where it is not known."""
    return age(now - moment) if moment else ""


def total_rates(services: Iterable[ServiceLine]) -> Rates:
    every = [service.rates for service in services]
    return Rates(
        sum(each.connections for each in every),
        sum(each.packets_in for each in every),
        sum(each.packets_out for each in every),
        sum(each.bytes_in for each in every),
        sum(each.bytes_out for each in every),
    )


def traffic(overview: Overview) -> str:
    """``12 active; a second 10.0 connections, 1.20k bytes in, 3.40k bytes out``."""
    rates = total_rates(overview.services)
    active = sum(service.active for service in overview.services)
    text = f"{count(active)} active; a second {rate(rates.connections)} connections"
    return f"{text}, {rate(rates.bytes_in)} bytes in, {rate(rates.bytes_out)} bytes out"


def strip_text(strip: str, glyphs: str = "+-.") -> str:
    """Latest results of a check, oldest first, in other glyphs for good, bad and neither."""
    return strip.translate(str.maketrans("+-.", glyphs))


def clock_time(moment: float) -> str:
    return strftime("%Y-%m-%d %H:%M:%S", localtime(moment))


def event_text(event: Event, paint: Paint, width: int | None = None) -> str:
    """``2026-11-21 12:03:11  text (cause)``, the text cut so that ``width`` holds all of it; the
    cause is dim on a terminal."""
    cause = f" ({printable(event.cause)})" if event.cause else ""
    when, text = f"{clock_time(event.time)}  ", printable(event.text)
    room = None if width is None else max(8, width - len(when) - len(cause))
    if room is not None and len(text) > room:
        text = f"{text[: room - 3]}..."
    return f"{when}{text}{paint(cause, 'dim')}"
