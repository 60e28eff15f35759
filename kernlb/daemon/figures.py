"""What the metrics page is made of: one snapshot, from the sampler's readings while they are fresh.

Values of a service are taken together; others get their turn between two services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kernlb.control.protocol import Status, SyncState
from kernlb.daemon.events import Events
from kernlb.daemon.health_views import HealthFigures, HealthOverview, ServerFigures
from kernlb.daemon.readings import Reading
from kernlb.daemon.sampler import Sampler
from kernlb.daemon.status import Overview
from kernlb.declaration import Declaration
from kernlb.intent import Intent
from kernlb.metrics_text import labels
from kernlb.model import RealServer, ServerKey


class Marks(NamedTuple):
    """The labels of samples as text: of the servers that were read, of those with a weight in
    force, and of the service. To write them takes longer than all the rest: they are kept."""

    read: Sequence[str]
    weighed: Sequence[str]
    service: str


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """One service's counters beside what it should hold."""

    name: str
    synced: bool
    servers: tuple[RealServer, ...]  # with the weights in force
    reading: Reading
    below: bool | None  # its quorum; None: nothing watches it
    marks: Marks


class _Known(NamedTuple):
    """What marks were made of."""

    keys: tuple[ServerKey, ...]
    intent: Intent
    marks: Marks


class Figures:
    """``most`` tells how many real servers may have series of their own."""

    def __init__(
        self,
        overview: Overview,
        sampler: Sampler,
        health: HealthOverview | None,
        events: Events,
        most: Callable[[], int],
    ) -> None:
        self._overview, self._sampler, self._health = overview, sampler, health
        self._events, self._most = events, most
        self._known: dict[str, _Known] = {}  # by name of the service

    def status(self) -> Status:
        return self._overview.status()

    @property
    def most_servers(self) -> int:
        return self._most()

    @property
    def events(self) -> int:
        """The number of the newest."""
        return self._events.latest_number

    @property
    def servers(self) -> int:
        """Real servers that are declared."""
        return sum(len(each.servers) for each in self._overview.declared(()))

    async def services(self, *, each_server: bool) -> AsyncIterator[ServiceFigures]:
        """Those that can be read. Marks of their servers only if they are asked for."""
        declarations = self._overview.declared(())
        if not each_server or len(self._known) > 2 * len(declarations):
            self._known.clear()
        for declaration in declarations:
            if self._overview.in_force(declaration):  # others had their turn meanwhile
                reading = self._sampler.fresh(declaration.ref)
                if reading is not None:
                    yield self._service(declaration, reading, each_server)
            await asyncio.sleep(0)

    def _service(
        self, declaration: Declaration, reading: Reading, each_server: bool
    ) -> ServiceFigures:
        phase = self._health.phase(declaration) if self._health is not None else ""
        intent = self._overview.intended(declaration)
        return ServiceFigures(
            declaration.name,
            self._overview.report(declaration).state is SyncState.SYNCED,
            intent.state.servers,
            reading,
            phase in ("below quorum", "all down") if phase else None,
            self._marks(declaration.name, reading.keys, intent)
            if each_server
            else Marks((), (), labels({"service": declaration.name})),
        )

    def _marks(self, name: str, keys: tuple[ServerKey, ...], intent: Intent) -> Marks:
        known = self._known.get(name)
        if known is not None and known.keys is keys and known.intent is intent:
            return known.marks
        service = labels({"service": name})[1:-1]
        by_key = {key: f'{{server="{key}",{service}}}' for key in keys}
        weighed = [server.key for server in intent.state.servers]
        marks = Marks(
            tuple(by_key.values()),
            tuple(by_key.get(key) or f'{{server="{key}",{service}}}' for key in weighed),
            f"{{{service}}}",
        )
        self._known[name] = _Known(keys, intent, marks)
        return marks

    def health(self) -> HealthFigures | None:
        """None where no server is watched."""
        return self._health.figures() if self._health and self._health.in_use else None

    def watched(self) -> Iterator[ServerFigures]:
        """Every server that is watched, worked out as it is asked for."""
        return self._health.servers() if self._health is not None else iter(())
