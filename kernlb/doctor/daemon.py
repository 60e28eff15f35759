"""The daemon as it answered, or why it did not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Standing:
    """A declared service: its state in the kernel, and how many of its servers serve."""

    name: str
    state: str
    error: str
    servers: int
    serving: int


@dataclass(frozen=True, slots=True)
class Daemon:
    """Times in seconds since the epoch, spans in seconds. ``why``: the sentence of the client where
    nobody answered. ``refusing``: there is a socket, and nobody behind it.
    ``denied``: it is not known, as this user may not ask."""

    answers: bool
    socket: str
    why: str = ""
    refusing: bool = False
    denied: bool = False
    version: str = ""
    pid: int = 0
    started: float = 0.0
    last_audit: float = 0.0
    audit_interval: float = 60.0
    drift_repaired: int = 0
    drift_events: tuple[str, ...] = ()
    standings: tuple[Standing, ...] = ()
    targets: int = 0
    late_p99: float = 0.0
    suspended: bool = False
    suspensions: int = 0
    all_failing: bool = False
    withdrawn: frozenset[str] = frozenset()  # VIPs that are away on purpose
    xdp_modes: Mapping[str, str] = field(default_factory=dict)  # interface: native, generic, ""
    xdp_errors: Mapping[str, str] = field(default_factory=dict)
    xdp_tables: tuple[tuple[str, int, int], ...] = ()  # name, used, size
    xdp_unresolved: tuple[tuple[str, str, str], ...] = ()  # service, server, reason
    xdp_warnings: tuple[str, ...] = ()
    datapaths_missing: tuple[tuple[str, str], ...] = ()  # kind, why
