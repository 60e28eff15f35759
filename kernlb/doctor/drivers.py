"""What the drivers of interfaces say. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Driver:
    """Of one interface. None: the driver has no such thing. ``native_xdp`` None: the kernel does
    not tell (before Linux 6.3)."""

    interface: str
    name: str = ""
    lro: bool | None = None
    gro: bool | None = None
    tx_checksum: bool | None = None
    queues: int = 0  # that receive; 0: not told
    most_queues: int = 0
    queue_kind: str = "combined"  # or rx, where sending has queues of its own
    native_xdp: bool | None = None


@dataclass(frozen=True, slots=True)
class Drivers:
    by_interface: Mapping[str, Driver]
