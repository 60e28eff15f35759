"""A strict in-memory datapath: refuses what IPVS or XDP refuses, forgets and forwards nothing.

It is the stand-in for tests of everything above the seam, and ships so that others can test
against it too. The contract suite holds it to the real ones. Every change is kept, so that a
property can be asserted of each state on the way (``history``).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b

from kernlb import limits
from kernlb.datapath import Failure, Features, Refusal, ServerStats, ServiceStats
from kernlb.model import (
    DatapathKind,
    Forwarding,
    Persistence,
    RealServer,
    Scheduler,
    ServiceKey,
    ServiceState,
    TunnelType,
    VirtualService,
)
from kernlb.plan import (
    AddServer,
    AddService,
    EditServer,
    EditService,
    Op,
    RemoveServer,
    RemoveService,
)

Snapshot = Mapping[ServiceKey, ServiceState]
Judge = Callable[[int, Op], Refusal | None]

EVERYTHING = Features(
    kind=DatapathKind.IPVS,
    version="fake",
    schedulers=frozenset(Scheduler),
    tunnels=frozenset(TunnelType),
    mixed_families=True,
    connection_table_size=4096,
)


EVERYTHING_OF_XDP = Features(
    kind=DatapathKind.XDP,
    version="fake",
    schedulers=frozenset(limits.XDP_SCHEDULERS),
    tunnels=frozenset(TunnelType),
    mixed_families=True,
    connection_table_size=4096,
)


class FakeDatapath:
    """Holds services in a dict. Of which kind it is, ``features`` says."""

    def __init__(
        self, services: Iterable[ServiceState] = (), *, features: Features = EVERYTHING
    ) -> None:
        self._features = features
        self._services: dict[ServiceKey, ServiceState] = {state.key: state for state in services}
        self._stats: dict[ServiceKey, ServiceStats] = {}
        self._judge: Judge = _refuse_nothing
        self.applied: list[Op] = []  # every op that was asked for, refused ones too
        self.closed = False
        self._initial = dict(self._services)
        self._changes: list[tuple[ServiceKey, ServiceState | None]] = []  # None: removed

    @property
    def kind(self) -> DatapathKind:
        return self._features.kind

    @property
    def version(self) -> str:
        return self._features.version

    @property
    def state(self) -> Snapshot:
        return dict(self._services)

    @property
    def history(self) -> list[Snapshot]:
        """The initial state, and the state after each change since."""
        states = [dict(self._initial)]
        for key, state in self._changes:
            later = dict(states[-1])
            later.pop(key, None)
            if state is not None:
                later[key] = state
            states.append(later)
        return list(states)

    def features(self) -> Features:
        return self._features

    def supports_scheduler(self, scheduler: Scheduler) -> bool:
        return scheduler in self._features.schedulers

    def services(self) -> list[VirtualService]:
        return [state.service for state in self._services.values()]

    def read(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceState]:
        return {key: self._services[key] for key in keys if key in self._services}

    def fingerprint(self, key: ServiceKey) -> bytes | None:
        state = self._services.get(key)
        if state is None:
            return None
        service = replace(state.service, flags=frozenset())
        words = [repr(service), *sorted(state.service.flags)]
        words += sorted(repr(server) for server in state.servers)
        return blake2b("\n".join(words).encode(), digest_size=16).digest()

    def stats(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceStats]:
        return {key: self._counted(self._services[key]) for key in keys if key in self._services}

    def apply(self, ops: Sequence[Op]) -> list[Failure]:
        return [failure for op in ops if (failure := self._apply(op)) is not None]

    def close(self) -> None:
        self.closed = True

    # What a test may do behind the control plane's back.

    def refuse(self, judge: Judge) -> None:
        """``judge(n, op)`` refuses the nth op ever asked for (from 0), or any op it dislikes."""
        self._judge = judge

    def set_stats(self, key: ServiceKey, stats: ServiceStats) -> None:
        self._stats[key] = stats

    def put(self, state: ServiceState) -> None:
        """As if someone else had changed the kernel."""
        self._services[state.key] = state
        self._changes.append((state.key, state))

    def drop(self, key: ServiceKey) -> None:
        """As if someone else had removed the service."""
        if self._services.pop(key, None) is not None:
            self._changes.append((key, None))

    def _apply(self, op: Op) -> Failure | None:
        self.applied.append(op)
        refusal = self._judge(len(self.applied) - 1, op)
        if refusal is not None:
            return Failure(op, refusal, f"cannot apply {op}: refused on purpose")
        return self._carry_out(op)

    def _carry_out(self, op: Op) -> Failure | None:
        state = self._services.get(op.key)
        match op:
            case AddService(service=service) | EditService(new=service):
                if state is None and isinstance(op, EditService):
                    return _absent(op, "service")
                if (why := self._dislikes_service(service)) is not None:
                    return _failure(op, *why)
                self.put(ServiceState(service, state.servers if state else ()))
            case RemoveService():
                self.drop(op.key)
            case AddServer(server=server) | EditServer(new=server):
                if state is None:
                    return _absent(op, "service")
                if (why := self._dislikes_server(state.service, server)) is not None:
                    return _failure(op, *why)
                present = state.by_key()
                if server.key not in present and isinstance(op, EditServer):
                    return _absent(op, "server")
                present[server.key] = server
                self.put(ServiceState(state.service, tuple(present.values())))
            case RemoveServer(server=server):
                if state is not None and server.key in (present := state.by_key()):
                    del present[server.key]
                    self.put(ServiceState(state.service, tuple(present.values())))
        return None

    def _counted(self, state: ServiceState) -> ServiceStats:
        stats = self._stats.get(state.key, ServiceStats())
        return ServiceStats(
            stats.counters, {key: stats.servers.get(key, ServerStats()) for key in state.by_key()}
        )

    def _dislikes_service(self, service: VirtualService) -> tuple[Refusal, str] | None:
        if limit := limits.of_service(self.kind, service):
            return Refusal.UNSUPPORTED, str(limit)
        if service.scheduler not in self._features.schedulers:
            why = f'scheduler "{service.scheduler}" is unknown to this kernel'
            return Refusal.UNSUPPORTED, why
        match service.persistence:
            case Persistence(engine=str(engine)) if engine != "sip":
                why = f'persistence engine "{engine}" is unknown to this kernel'
                return Refusal.UNSUPPORTED, why
            case Persistence(prefix=prefix) if not 0 <= prefix <= service.family.max_prefix or (
                prefix == 0 and service.family.max_prefix == 128
            ):
                return Refusal.INVALID, f"the persistence prefix {prefix} is out of range"
        return None

    def _dislikes_server(
        self, service: VirtualService, server: RealServer
    ) -> tuple[Refusal, str] | None:
        if limit := limits.of_server(self.kind, service.key, server):
            return Refusal.UNSUPPORTED, str(limit)
        mixed = server.address.max_prefixlen != service.family.max_prefix
        tunnel = server.tunnel
        if server.lower_threshold > server.upper_threshold:
            return Refusal.INVALID, "the lower threshold is above the upper"
        if server.upper_threshold > 2**31 - 1:
            return Refusal.INVALID, f"the upper threshold {server.upper_threshold} is too large"
        if mixed and server.forwarding is not Forwarding.TUNNEL:
            why = "a server of the other address family needs forwarding method tunnel"
            return Refusal.INVALID, why
        if mixed and not self._features.mixed_families:
            return Refusal.UNSUPPORTED, "this kernel does not mix address families"
        if tunnel is not None and tunnel.type not in self._features.tunnels:
            return Refusal.UNSUPPORTED, f"this kernel has no {tunnel.type} tunnels"
        if tunnel is not None and tunnel.type is TunnelType.GUE and tunnel.port == 0:
            return Refusal.INVALID, "a GUE tunnel needs a port"
        address = server.address
        one_host = not (address.is_multicast or address.is_unspecified)
        if not one_host or (address.version == 6 and address.is_link_local):
            return Refusal.INVALID, f"{address} is not the address of one host"
        return None


def refuse_nth(*numbers: int, refusal: Refusal = Refusal.OTHER) -> Judge:
    """A judge that refuses the ops of these numbers, counted from 0 over the fake's life."""
    return lambda number, _op: refusal if number in numbers else None


def _refuse_nothing(_number: int, _op: Op) -> None:
    return None


def _absent(op: Op, what: str) -> Failure:
    return _failure(op, Refusal.ABSENT, f"the {what} is not there")


def _failure(op: Op, refusal: Refusal, why: str) -> Failure:
    number = {Refusal.ABSENT: errno.ESRCH, Refusal.INVALID: errno.EINVAL}.get(refusal, 0)
    return Failure(op, refusal, f"cannot apply {op}: {why}", number)
