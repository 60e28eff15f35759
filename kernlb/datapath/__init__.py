"""The seam between the control plane and a kernel datapath.

A datapath holds virtual services with their real servers and balances packets among them. It is
given ops and reports, per op, whether the kernel took it; it decides nothing. ``fake`` is the
strict stand-in; ``ipvs`` and ``xdp`` are the real ones; one contract suite holds all three to
what is written here.

Rules:

* a call returns when the kernel has answered; no call waits on the network or on time;
* ``apply`` sends its ops in order, many in flight; an op that fails does not stop those after
  it, so callers pass one stage of a plan at a time (``plan.Stage``);
* ops are idempotent: AddService on an existing service and AddServer on an existing server make
  it as asked; removing the absent succeeds. EditService, EditServer and AddServer of something
  whose service (or server) is absent fail with ABSENT;
* what is read is what the kernel says, never what was last written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kernlb.model import (
    DatapathKind,
    Scheduler,
    ServerKey,
    ServiceKey,
    ServiceState,
    TunnelType,
    VirtualService,
)
from kernlb.plan import Op


class Refusal(StrEnum):
    """Why a kernel did not take an op."""

    ABSENT = "absent"  # the service or server that the op concerns is not there
    UNSUPPORTED = "unsupported"  # this kernel cannot do that (scheduler, tunnel type, family)
    INVALID = "invalid"  # the values contradict each other
    NO_PERMISSION = "no-permission"
    NO_MEMORY = "no-memory"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Failure:
    """An op that the kernel did not take. ``detail`` is a sentence for an operator."""

    op: Op
    refusal: Refusal
    detail: str
    errno: int = 0

    def __str__(self) -> str:
        return self.detail


class DatapathUnavailableError(OSError):
    """The kernel has no such datapath, or this process may not use it."""


@dataclass(frozen=True, slots=True)
class Features:
    """What this kernel's datapath was seen to do (probed, never guessed from a version)."""

    kind: DatapathKind
    version: str
    schedulers: frozenset[Scheduler]
    tunnels: frozenset[TunnelType]
    mixed_families: bool  # IPv4 service with IPv6 servers over a tunnel, and the reverse
    connection_table_size: int = 0  # hash buckets or entries; 0 where unknown


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the service or server was made, and rates per second."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    connections_rate: int = 0
    packets_in_rate: int = 0
    packets_out_rate: int = 0
    bytes_in_rate: int = 0
    bytes_out_rate: int = 0


@dataclass(frozen=True, slots=True)
class ServerStats:
    """``active``, ``inactive`` and ``persistent`` are connections now."""

    counters: Counters = Counters()
    active: int = 0
    inactive: int = 0
    persistent: int = 0


@dataclass(frozen=True, slots=True)
class ServiceStats:
    counters: Counters = Counters()
    servers: Mapping[ServerKey, ServerStats] = field(default_factory=dict)


class Datapath(Protocol):
    """A kernel's load balancer, as the control plane sees it."""

    @property
    def kind(self) -> DatapathKind: ...

    @property
    def version(self) -> str:
        """The kernel's own name for the version of this datapath."""

    def features(self) -> Features:
        """Probe once, then remember. Leaves no trace in the kernel."""

    def services(self) -> list[VirtualService]:
        """Every service in the kernel, ours or not, without its servers."""

    def read(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceState]:
        """The named services as the kernel holds them; absent ones are left out."""

    def fingerprint(self, key: ServiceKey) -> bytes | None:
        """A short digest of a service's configuration in the kernel, None if it is absent.

        Equal digests mean that :meth:`read` would return an equal value; connection counts and
        statistics are left out. Much cheaper than :meth:`read`: the audit uses it."""

    def apply(self, ops: Sequence[Op]) -> list[Failure]:
        """Make the changes; return those that were refused, in order (empty: all done)."""

    def stats(self, keys: Iterable[ServiceKey]) -> dict[ServiceKey, ServiceStats]:
        """Counters and connections of the named services; absent ones are left out."""

    def close(self) -> None:
        """Release sockets and descriptors; the kernel goes on forwarding."""
