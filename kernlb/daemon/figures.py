"""What the metrics page is made of: one snapshot, from the sampler's readings while they are fresh.

Values of a service are taken together; others get their turn between two services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from kernlb.control.protocol import Status, SyncState
from kernlb.daemon.events import Events
from kernlb.daemon.health_views import HealthFigures, HealthOverview, ServerFigures
from kernlb.daemon.readings import Reading
from kernlb.daemon.sampler import Sampler
from kernlb.daemon.status import Overview
from kernlb.declaration import Declaration
from kernlb.model import RealServer


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """One service's counters beside what it should hold."""

    name: str
    synced: bool
    servers: tuple[RealServer, ...]  # with the weights in force
    reading: Reading
    below: bool | None  # its quorum; None: nothing watches it


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

    def status(self) -> Status:
        return self._overview.status()

    @property
    def most_servers(self) -> int:
        return self._most()

    @property
    def events(self) -> int:
        """The number of the newest."""
        return self._events.latest_number

    async def services(self) -> AsyncIterator[ServiceFigures]:
        """Those that can be read."""
        for declaration in self._overview.declared(()):
            if self._overview.in_force(declaration):  # others had their turn meanwhile
                reading = self._sampler.fresh(declaration.ref)
                if reading is not None:
                    yield self._service(declaration, reading)
            await asyncio.sleep(0)

    def _service(self, declaration: Declaration, reading: Reading) -> ServiceFigures:
        phase = self._health.phase(declaration) if self._health is not None else ""
        return ServiceFigures(
            declaration.name,
            self._overview.report(declaration).state is SyncState.SYNCED,
            self._overview.intended(declaration).state.servers,
            reading,
            phase in ("below quorum", "all down") if phase else None,
        )

    def health(self) -> HealthFigures | None:
        """None where no server is watched."""
        return self._health.figures() if self._health and self._health.in_use else None

    def watched(self) -> Iterator[ServerFigures]:
        """Every server that is watched, worked out as it is asked for."""
        return self._health.servers() if self._health is not None else iter(())
