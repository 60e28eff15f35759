"""The seam for probes at a VIP: a mark on a socket of ours is a path to exactly one server.

What such a socket sends to the VIP goes to the server by the forwarding method that clients'
packets take. The control plane says which marks lead where; a datapath makes it so, in its own
way (IPVS: a service for each mark; XDP: a program that sees what leaves). The marks from
0x6b000000 on are kernlb's: no packet filter of the host may use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kernlb.model import Family, IPAddress, RealServer

MARKS = range(0x6B000000, 0x6B010000)


@dataclass(frozen=True, slots=True)
class Path:
    """To ``server``, for packets of ``family``, by a device and a neighbour on it; ``source`` is
    ours towards the server, for outer headers. ``entry`` is the device that the kernel's route to
    the VIP names, None where the VIP is local."""

    family: Family
    server: RealServer
    ifindex: int
    next_hop: IPAddress
    source: IPAddress | None
    entry: int | None = None


Paths = Mapping[int, Path]  # by mark


class Carrier(Protocol):
    """A datapath's own way of carrying probes."""

    def carry(self, paths: Paths) -> Mapping[int, str]:
        """Carry these and no others; why not, by mark. Twice equals once, and the second mends
        what was broken meanwhile, if perhaps not all of it at once. Raises OSError where none
        can be carried."""
        ...

    def close(self) -> None:
        """What is in the kernel stays."""
