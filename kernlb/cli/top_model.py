"""What ``kernlb top`` shows of an overview, and what a key makes of it. Pure.

A State says what the operator asked for; ``rows`` are the lines of services and servers that
follow from it and from an overview; ``pressed`` gives the next State.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import msgspec

from kernlb.cli.board_text import is_troubled, severity
from kernlb.control.protocol_overview import Overview, ServerLine, ServiceLine

Order = Callable[[ServiceLine | ServerLine], float]

# By name; of the others the most comes first.
SORTS: dict[str, Order | None] = {
    "trouble": lambda each: severity(each) if isinstance(each, ServiceLine) else is_troubled(each),
    "name": None,
    "active": lambda each: each.active,
    "conns": lambda each: each.rates.connections,
    "in": lambda each: each.rates.bytes_in,
    "out": lambda each: each.rates.bytes_out,
}
INTERVALS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
KEPT = 120  # readings of a server that are remembered

HELP = (
    ("Up Down PgUp PgDn Home End", "move (k and j too)"),
    ("Enter, Right Left", "show the servers of a service, hide them"),
    ("e", "show or hide the servers of all"),
    ("s S", "sort by the next column, by the one before"),
    ("r", "turn the order round"),
    ("/", "show only what has these words: names, addresses, states, labels"),
    ("!", "only what needs somebody"),
    ("p", "stand still; the daemon goes on"),
    ("+ -", "ask the daemon less often, more often"),
    ("space", "ask it now"),
    ("q", "leave (Ctrl-C too)"),
)


T = TypeVar("T", ServiceLine, ServerLine)


class Row(NamedTuple):
    service: ServiceLine
    server: ServerLine | None = None  # None: the line of the service itself

    @property
    def key(self) -> tuple[str, str]:
        return self.service.name or self.service.key, self.server.server if self.server else ""


@dataclass(frozen=True, slots=True)
class State:
    """``open`` names the services whose servers show; ``every`` opens the others instead."""

    sort: str = "trouble"
    reverse: bool = False
    words: str = ""
    typing: str | None = None  # a filter that is being typed, None: none is
    selected: tuple[str, str] = ("", "")
    open: frozenset[str] = frozenset()
    every: bool = False
    trouble: bool = False  # only what needs somebody
    first: int = 0  # row at the top of the window
    paused: bool = False
    help: bool = False
    interval: float = 2.0
    ask: int = 0  # counts the wishes for an answer at once
    quit: bool = False

    def shows(self, service: ServiceLine) -> bool:
        """Are its servers to be seen?"""
        return ((service.name or service.key) in self.open) != self.every


def rows(state: State, services: Sequence[ServiceLine]) -> list[Row]:
    """In order: each service, and the servers of those that are open."""
    words = (state.words if state.typing is None else state.typing).lower().split()
    found = []
    for service in _ordered(services, state, lambda each: each.name or each.key):
        servers = _having(words, service) if words else service.servers
        if servers is None or (state.trouble and not severity(service)):
            continue
        found.append(Row(service))
        if state.shows(service):
            ordered = _ordered(servers, state, lambda each: "")
            found += [Row(service, server) for server in ordered]
    return found


def _having(words: Sequence[str], service: ServiceLine) -> Sequence[ServerLine] | None:
    """All of its servers where the service itself has the words; those that have them, with what
    the service has; None where there are none."""
    own = _text(service)
    missing = [word for word in words if word not in own]
    if not missing:
        return service.servers
    found = [each for each in service.servers if _has_all(missing, _text(each))]
    return found or None


def _has_all(words: Sequence[str], text: str) -> bool:
    return all(word in text for word in words)


def chosen(state: State, overview: Overview) -> Overview:
    """With the services that show, in their order."""
    shown = rows(replace(state, every=False, open=frozenset()), overview.services)
    return msgspec.structs.replace(overview, services=[row.service for row in shown])


def _ordered(lines: Sequence[T], state: State, name: Callable[[T], str]) -> list[T]:
    """Ties stay in the order of names; servers in the order they were declared in."""
    order = SORTS[state.sort]
    named = sorted(lines, key=name, reverse=state.reverse and order is None)
    if order is None:
        return named
    return sorted(named, key=lambda each: order(each), reverse=not state.reverse)


def _text(line: ServiceLine | ServerLine) -> str:
    """What a filter looks at."""
    labels = [f"{key}={value}" for key, value in line.labels.items()]
    if isinstance(line, ServiceLine):
        words = [line.name, line.key, line.datapath, line.scheduler, line.state, line.phase]
    else:
        words = [line.server, line.forwarding, line.state, line.condition]
    return " ".join([*words, *labels]).lower()


def pressed(state: State, key: str, shown: Sequence[Row], height: int) -> State:
    """The next state. ``shown`` are the rows of this one, ``height`` those that fit."""
    if state.typing is not None:
        return _typed(state, key)
    if state.help:
        return replace(state, help=False, quit=key == "q")
    if key in _MOVES:
        return _moved(state, _MOVES[key](height), shown)
    act = _ACTS.get(key)
    return act(state, _at(state, shown)) if act is not None else state


def _typed(state: State, key: str) -> State:
    typing = state.typing or ""
    match key:
        case "enter":
            return replace(state, words=typing, typing=None)
        case "escape":
            return replace(state, typing=None)
        case "backspace":
            return replace(state, typing=typing[:-1])
        case "clear":
            return replace(state, typing="")
    return replace(state, typing=typing + key) if len(key) == 1 else state


_MOVES: dict[str, Callable[[int], int]] = {
    "up": lambda _: -1,
    "k": lambda _: -1,
    "down": lambda _: 1,
    "j": lambda _: 1,
    "pageup": lambda height: -max(1, height - 1),
    "pagedown": lambda height: max(1, height - 1),
    "home": lambda _: -(10**9),
    "end": lambda _: 10**9,
}


def _index(state: State, shown: Sequence[Row]) -> int:
    """Where the selected row is; a server that is hidden is where its service is."""
    for key in (state.selected, (state.selected[0], "")):
        for index, row in enumerate(shown):
            if row.key == key:
                return index
    return min(state.first, max(0, len(shown) - 1))


def _at(state: State, shown: Sequence[Row]) -> Row | None:
    return shown[_index(state, shown)] if shown else None


def _moved(state: State, by: int, shown: Sequence[Row]) -> State:
    if not shown:
        return state
    index = max(0, min(len(shown) - 1, _index(state, shown) + by))
    return replace(state, selected=shown[index].key)


def _opened(state: State, row: Row | None, wanted: bool | None) -> State:
    if row is None:
        return state
    name = row.service.name or row.service.key
    now = state.shows(row.service)
    if now == (not now if wanted is None else wanted):
        return state
    return replace(state, open=state.open ^ {name}, selected=(name, ""))


def _sorted(state: State, by: int) -> State:
    names = list(SORTS)
    name = names[(names.index(state.sort) + by) % len(names)]
    return replace(state, sort=name, reverse=False)


def _slower(state: State, by: int) -> State:
    steps = sorted({*INTERVALS, state.interval})
    index = steps.index(state.interval) + by
    return replace(state, interval=steps[max(0, min(len(steps) - 1, index))])


_ACTS: dict[str, Callable[[State, Row | None], State]] = {
    "q": lambda state, _: replace(state, quit=True),
    "enter": lambda state, row: _opened(state, row, None),
    "right": lambda state, row: _opened(state, row, True),
    "left": lambda state, row: _opened(state, row, False),
    "e": lambda state, _: replace(state, every=not state.every, open=frozenset()),
    "s": lambda state, _: _sorted(state, 1),
    "S": lambda state, _: _sorted(state, -1),
    "r": lambda state, _: replace(state, reverse=not state.reverse),
    "/": lambda state, _: replace(state, typing=state.words),
    "escape": lambda state, _: replace(state, words="", trouble=False),
    "!": lambda state, _: replace(state, trouble=not state.trouble),
    "p": lambda state, _: replace(state, paused=not state.paused),
    "+": lambda state, _: _slower(state, 1),
    "-": lambda state, _: _slower(state, -1),
    " ": lambda state, _: replace(state, ask=state.ask + 1),
    "?": lambda state, _: replace(state, help=True),
    "h": lambda state, _: replace(state, help=True),
}


class Window(NamedTuple):
    """The rows that fit: from ``first`` on, the selected one at ``at`` of all."""

    first: int
    at: int


def window(state: State, shown: Sequence[Row], height: int) -> Window:
    """As little scrolled as the selected row allows."""
    index = _index(state, shown)
    first = max(0, min(state.first, index, len(shown) - height))
    if index >= first + height:
        first = index - height + 1
    return Window(first, index)


class Trails:
    """Rates of servers as they were read; services bring their history themselves.

    Bounded: of servers that are in the latest overview, and ``KEPT`` readings of each.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], deque[float]] = {}
        self._read: dict[str, float] = {}  # when the daemon read a service, by its name

    def remember(self, overview: Overview) -> None:
        """Once a reading: the daemon reads counters less often than it may be asked."""
        before, self._kept = self._kept, {}
        read, self._read = self._read, {}
        for service in overview.services:
            time = service.history[-1].time if service.history else 0.0
            self._read[service.name] = time
            for server in service.servers:
                key = Row(service, server).key
                trail = before.get(key) or deque(maxlen=KEPT)
                if time != read.get(service.name):
                    trail.append(server.rates.connections)
                self._kept[key] = trail

    def of(self, row: Row) -> list[float]:
        """Connections a second, oldest first."""
        if row.server is None:
            return [moment.connections for moment in row.service.history]
        return list(self._kept.get(row.key, ()))
