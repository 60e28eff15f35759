"""What readers are told of health: from memory, at the moment they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kernlb.control.protocol_health import (
    Health,
    Lateness,
    MonitorView,
    ProbeView,
    ServerHealth,
    ServiceHealth,
)
from kernlb.daemon.health import HealthKeeper
from kernlb.daemon.probe_counts import BOUNDS, ProbeCounts, Tally, type_word
from kernlb.daemon.watching import Service, Watched
from kernlb.declaration import Declaration
from kernlb.health import damping, lateness
from kernlb.health.fsm import Condition
from kernlb.health.monitor import Subject
from kernlb.health.outcome import Opinion
from kernlb.intent import Intent, Role
from kernlb.model import ServerKey

NOBODY = MonitorView(0, 0, 0, Lateness(0.0, 0.0, 0.0))

Buckets = list[tuple[str, float]]  # upper bound as text, and how many are within it


@dataclass(frozen=True, slots=True)
class ServerFigures:
    service: str
    server: str
    up: bool
    went: dict[str, int]  # how often it came into a condition


class Glance(NamedTuple):
    """A server that is watched, in a line: ``since`` (seconds since the epoch) is of the
    condition, ``duration`` of the latest probe, ``strip`` the latest results, oldest first."""

    check: str
    condition: Condition
    since: float
    why: str
    duration: float
    strip: str


_SIGNS = {Opinion.GOOD: "+", Opinion.BAD: "-", Opinion.NONE: "."}


@dataclass(frozen=True, slots=True)
class Histogram:
    """``buckets`` are cumulative, the last is of all."""

    buckets: Buckets
    total: float  # seconds


@dataclass(frozen=True, slots=True)
class HealthFigures:
    """What the metrics page says of health. Durations and outcomes are by type of check."""

    monitor: MonitorView
    lateness: Histogram
    durations: dict[str, Histogram]
    outcomes: dict[str, dict[str, int]]


class HealthOverview:
    """Reads; changes nothing. ``clock`` gives seconds since the epoch."""

    def __init__(
        self, keeper: HealthKeeper, counts: ProbeCounts, clock: Callable[[], float]
    ) -> None:
        self._keeper = keeper
        self._counts = counts
        self._clock = clock

    @property
    def in_use(self) -> bool:
        return bool(self._keeper.services)

    def monitor(self) -> MonitorView:
        monitor = self._keeper.monitor
        conditions = [subject.state.condition for subject in monitor.subjects.values()]
        median, p99, worst = monitor.lateness.quantiles(0.5, 0.99, 1.0)
        return MonitorView(
            targets=len(conditions),
            down=conditions.count(Condition.DOWN),
            waiting=conditions.count(Condition.WAITING),
            lateness=Lateness(median, p99, worst),
            # without targets there are no heartbeats whose absence would mean anything
            suspended=bool(conditions) and monitor.trust.doubted(monitor.now),
            suspensions=monitor.trust.suspensions,
            partition_held=monitor.partition.held(monitor.now),
        )

    async def health(
        self, declarations: Iterable[Declaration], intended: Callable[[Declaration], Intent]
    ) -> Health:
        """Of these; those without a check are left out. Others get their turn in between."""
        services = []
        for declaration in declarations:
            service = self._keeper.services.get(declaration.ref)
            if service is not None and service.declaration is declaration:
                services.append(self._service(service, intended(declaration)))
                await asyncio.sleep(0)
        return Health(self.monitor(), services)

    def phase(self, declaration: Declaration) -> str:
        """Where a service stands; "" where nothing watches it."""
        service = self._keeper.services.get(declaration.ref)
        return service.stance.phase if service is not None else ""

    def glance(self, declaration: Declaration, key: ServerKey, role: Role) -> Glance | None:
        """One server; None: nothing watches it."""
        service = self._keeper.services.get(declaration.ref)
        watched = service.watched.get(key) if service is not None else None
        subject = self._keeper.monitor.subjects.get(watched.key) if watched is not None else None
        if service is None or watched is None or subject is None:
            return None
        return self._glance(service, key, watched, subject, role)

    def _glance(
        self, service: Service, key: ServerKey, watched: Watched, subject: Subject, role: Role
    ) -> Glance:
        now = self._keeper.monitor.now
        condition = self._keeper.condition(service, key, watched)
        return Glance(
            type_word(watched.key.check),
            condition,
            self._clock() - (now - _since(watched, subject)),
            _why(service, watched, subject, condition, role, now),
            subject.past[-1].result.duration if subject.past else 0.0,
            "".join(_SIGNS[heard.result.outcome.opinion] for heard in subject.past),
        )

    def figures(self) -> HealthFigures:
        late, tallies = self._keeper.monitor.lateness, self._counts.by_type()
        return HealthFigures(
            self.monitor(),
            Histogram(_cumulative(lateness.BOUNDS, late.buckets), late.total),
            {word: _durations(tally) for word, tally in tallies.items()},
            {word: {str(o): n for o, n in t.outcomes.items()} for word, t in tallies.items()},
        )

    def servers(self) -> Iterator[ServerFigures]:
        """All that are watched, worked out as they are asked for."""
        for service in self._keeper.services.values():
            for key, watched in service.watched.items():
                up = self._keeper.condition(service, key, watched).good
                went = {str(condition): count for condition, count in watched.went.items()}
                yield ServerFigures(service.declaration.name, str(key), up, went)

    def _service(self, service: Service, intent: Intent) -> ServiceHealth:
        declaration = service.declaration
        return ServiceHealth(
            name=declaration.name,
            phase=service.stance.phase,
            quorum=declaration.health.quorum,
            servers=[
                self._server(service, key, watched, intent.roles[key])
                for key, watched in service.watched.items()
            ],
            withdrawn=declaration.ref in self._keeper.withdrawn,
        )

    def _server(
        self, service: Service, key: ServerKey, watched: Watched, role: Role
    ) -> ServerHealth:
        keeper, now, clock = self._keeper, self._keeper.monitor.now, self._clock()
        subject = keeper.monitor.subjects[watched.key]
        condition = keeper.condition(service, key, watched)
        return ServerHealth(
            server=str(key),
            check=type_word(watched.key.check),
            condition=condition,
            state=role,
            since=clock - (now - _since(watched, subject)),
            next_probe=0.0 if subject.running is not None else max(0.0, subject.due - now),
            failures=subject.state.failures,
            percent=subject.wish.percent,
            sharing=keeper.sharing(watched.key),
            why=_why(service, watched, subject, condition, role, now),
            probes=[
                ProbeView(
                    clock - (now - heard.at),
                    heard.result.outcome,
                    heard.result.outcome.opinion,
                    heard.result.duration,
                    heard.result.detail,
                )
                for heard in reversed(subject.past)
            ],
        )


def _since(watched: Watched, subject: Subject) -> float:
    return watched.flapping.changes[-1] if watched.flapping.held else subject.state.since


_OF_ROLE = {
    Role.KEPT: "kept all the same: too few would be left",
    Role.SPARED: "good, but spared: the service is below its quorum",
    Role.INHIBITED: "weight 0",
    Role.LEAVING: "asks to be drained",
    Role.DRAINING: "drained by an operator",
    Role.DRAINED: "drained by an operator",
    Role.DISABLED: "disabled by an operator",
}


def _why(
    service: Service,
    watched: Watched,
    subject: Subject,
    condition: Condition,
    role: Role,
    now: float,
) -> str:
    parts = []
    if condition is Condition.HELD and not watched.flapping.held:
        parts.append("ejected: the datapath sees that clients get no answer")
    elif condition is Condition.HELD:
        limits = service.declaration.health.damping
        due = damping.release(watched.flapping, limits) or now
        parts.append(f"it flaps; let go in {max(0.0, due - now):.0f} s unless it changes again")
    latest = subject.past[-1].result if subject.past else None
    bad = next(
        (h.result for h in reversed(subject.past) if h.result.outcome.opinion is Opinion.BAD), None
    )
    failures, timing = subject.state.failures, subject.key.timing
    if latest is None:
        parts.append("not heard yet")
    elif latest.outcome.opinion is Opinion.NONE:
        parts.append(str(latest))
    elif failures and bad is not None:
        count = (
            "" if subject.state.condition is Condition.DOWN else f" ({failures} of {timing.fall})"
        )
        parts.append(f"{bad}{count}")
    elif condition is Condition.DOWN:
        parts.append(f"{subject.state.streak} of {timing.rise} good results")
    if role in _OF_ROLE:
        parts.append(_OF_ROLE[role])
    return "; ".join(parts)


def _durations(tally: Tally) -> Histogram:
    return Histogram(_cumulative(BOUNDS, tally.buckets), tally.total)


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> Buckets:
    buckets, within = [], 0
    for bound, count in zip(bounds, counts, strict=True):
        within += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(within)))
    return buckets
