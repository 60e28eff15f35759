"""What watchers are told: everything on one screen, from memory. Reads; changes nothing.

Put together a few servers at a time, with turns for others in between, and encoded as it is made:
the answer for 10 000 servers is megabytes, and nobody's probe is to wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from kernlb.control.protocol import ServerState
from kernlb.control.protocol_overview import Moment, Overview, Rates, ServerLine, ServiceLine
from kernlb.daemon import concerns, shares
from kernlb.daemon.health_views import Glance, HealthOverview
from kernlb.daemon.readings import FIELDS, Track
from kernlb.daemon.sampler import Sampler
from kernlb.daemon.status import Overview as Reader
from kernlb.declaration import Declaration
from kernlb.intent import Admin, Intent, Role
from kernlb.model import RealServer, ServerKey

AT_ONCE = 100  # servers between two turns of the event loop
_ACTIVE = FIELDS.index("active")
# the defaults themselves, for these are left out of JSON
_IDLE_SERVER = ServerLine("", "", "", 0, 0, 0, 0).rates
_IDLE_SERVICE = ServiceLine("", "", "", "", "", [], 0).rates
_STATES = {role: ServerState(role.value) for role in Role}
_CLOSING = b'"services":[]'


class Board:
    """``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        reader: Reader,
        sampler: Sampler,
        health: HealthOverview | None,
        clock: Callable[[], float],
        troubles: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """``troubles`` of the daemon itself are told among the warnings."""
        self._reader, self._sampler, self._health, self._clock = reader, sampler, health, clock
        self._troubles = troubles

    async def overview(self, names: Sequence[str], history: int) -> bytes:
        """An Overview as JSON, of the named services, of all where none is named; with the latest
        ``history`` moments of each. Raises RequestRefusedError for a name that is unknown."""
        declarations = self._reader.declared(names)
        worries = concerns.Concerns()
        encoder = msgspec.json.Encoder()
        services = bytearray()
        async for line in self._lines(declarations, history):
            if services:
                services += b","
            services += encoder.encode(line)
            worries.hear(line)
        status = self._reader.status()
        worries.host(status, self._troubles())
        frame = Overview(
            self._clock(), self._sampler.interval, self._sampler.window, status, [], worries.said()
        )
        head, _, tail = encoder.encode(frame).rpartition(_CLOSING)
        return b"".join((head, _CLOSING[:-1], services, b"]", tail))

    async def _lines(
        self, declarations: Iterable[Declaration], history: int
    ) -> AsyncIterator[ServiceLine]:
        for declaration in declarations:
            if self._reader.in_force(declaration):  # others had their turn meanwhile
                yield await self._line(declaration, history)
            await asyncio.sleep(0)

    async def _line(self, declaration: Declaration, history: int) -> ServiceLine:
        reader, service = self._reader, declaration.service
        intent, report = reader.intended(declaration), reader.report(declaration)
        track = self._sampler.tracks.get(declaration.ref)
        latest = track.latest if track is not None else None
        servers = [each async for each in self._servers(declaration, intent, track)]
        return ServiceLine(
            name=declaration.name,
            key=str(service.key),
            datapath=declaration.datapath,
            scheduler=service.scheduler,
            state=report.state,
            servers=servers,
            serving=sum(server.weight > 0 for server in intent.state.servers),
            phase=self._health.phase(declaration) if self._health is not None else "",
            error=report.error,
            active=latest.total("active") if latest is not None else 0,
            inactive=latest.total("inactive") if latest is not None else 0,
            rates=_rates(track.rates, _IDLE_SERVICE) if track is not None else _IDLE_SERVICE,
            history=[_moment(each) for each in track.history(history)] if track and history else [],
            labels=dict(declaration.labels),
        )

    async def _servers(
        self, declaration: Declaration, intent: Intent, track: Track | None
    ) -> AsyncIterator[ServerLine]:
        held = intent.state.servers
        shared = shares.promised(declaration.service.scheduler, [each.weight for each in held])
        given = {
            server.key: (server.weight, share) for server, share in zip(held, shared, strict=True)
        }
        traffic = _Traffic(track, self._sampler.part)
        holds = self._reader.holds(declaration.name)
        servers = iter([*declaration.servers, *declaration.sorry_servers])
        while part := list(islice(servers, AT_ONCE)):
            for server in part:
                key = server.key
                weight, promised = given.get(key, (0, 0.0))
                hold = holds.get(key) if holds else None
                yield self._server(
                    declaration, server, key, intent.roles[key], weight, promised, hold, traffic
                )
            await asyncio.sleep(0)

    def _server(
        self,
        declaration: Declaration,
        server: RealServer,
        key: ServerKey,
        role: Role,
        weight: int,
        promised: float,
        hold: Admin | None,
        traffic: _Traffic,
    ) -> ServerLine:
        glance = None
        if self._health is not None and declaration.watches:
            glance = self._health.glance(declaration, key, role)
        since = hold.since if hold is not None else glance.since if glance is not None else 0.0
        place = traffic.place(key)
        active, inactive, persistent = traffic.connections(place)
        labels = declaration.server_labels
        return ServerLine(
            server=str(key),
            forwarding=server.forwarding,
            state=_STATES[role],
            since=since,
            weight=server.weight,
            effective_weight=weight,
            promised=promised,
            received=traffic.received(place),
            active=active,
            inactive=inactive,
            persistent=persistent,
            rates=traffic.rates(place),
            **_seen(glance),
            labels=dict(labels.get(key, {})) if labels else {},
        )


def _seen(glance: Glance | None) -> dict[str, Any]:
    """What checks say of a server; nothing where there are none."""
    if glance is None:
        return {}
    told = glance._asdict()
    del told["since"]  # of the condition; the state may be older or newer
    return told


class _Traffic:
    """What the latest readings say of the servers of one service."""

    def __init__(self, track: Track | None, part: int) -> None:
        self._track = track
        self._places: Mapping[ServerKey, int] = {}
        self._begun: Sequence[int] = ()
        self._all = 0
        if track is not None:
            self._latest, self._rates = track.latest, track.server_rates
            self._places = {key: at for at, key in enumerate(self._latest.keys)}
            self._begun = track.begun(part)
            self._all = sum(self._begun)

    def place(self, key: ServerKey) -> int | None:
        """Where a server is in the readings; None: it was not there."""
        return self._places.get(key)

    def connections(self, place: int | None) -> Sequence[int]:
        """Active, inactive, persistent."""
        return (0, 0, 0) if place is None else self._latest.row(place)[_ACTIVE:]

    def received(self, place: int | None) -> float | None:
        """Share of the connections that began; None where none did."""
        if not self._all:
            return None
        return 0.0 if place is None else round(self._begun[place] / self._all, 6)

    def rates(self, place: int | None) -> Rates:
        values = () if place is None else self._rates[place * 5 : place * 5 + 5]
        return _rates(values, _IDLE_SERVER)


def _rates(values: Sequence[float], idle: Rates) -> Rates:
    return Rates(*(round(each, 3) for each in values)) if any(values) else idle


def _moment(values: Sequence[float]) -> Moment:
    time, connections, bytes_in, bytes_out, active = values
    return Moment(
        round(time, 3), round(connections, 3), round(bytes_in, 1), round(bytes_out, 1), int(active)
    )
