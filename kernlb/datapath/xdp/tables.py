"""Tables of the hash schedulers at the sizes that XDP gives them. Pure.

IPVS's tables have one size each, too small for thousands of servers; here they grow with the
servers, and are IPVS's as long as its size will do. A table is a function of the servers, their
weights and their order alone, so that balancers side by side agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from kernlb.datapath.xdp.layout import Schedule
from kernlb.model import Family, ServerKey
from kernlb.schedule import maglev, source_hash

MAGLEV_SIZES = (4093, 8191, 16381, 32749, 65521)  # primes, as ip_vs_mh.c has them
SLOTS_A_SERVER = 16
MOST_BUCKETS = 65536

Weighted = Sequence[tuple[ServerKey, int]]


def table(
    scheduler: Schedule, servers: Weighted, family: Family, most: int | None = None
) -> list[int]:
    """For each slot the place in ``servers`` (newest first) of its owner; empty where the
    scheduler has no table, or nobody to fill it. The weight of a drained server is, for mh, its
    last one. ``most``: slots that there is room for."""
    if scheduler is Schedule.MH:
        size = maglev_size(len(servers))
        if most is not None and most < size:
            size = max((each for each in MAGLEV_SIZES if each <= most), default=size)
        return maglev.owners(servers, family, size) or []
    if scheduler is Schedule.SH and servers:
        weights = [max(1, weight) for _, weight in servers]
        room = MOST_BUCKETS if most is None else max(source_hash.TABLE_SIZE, most)
        return source_hash.owners(*_buckets(weights, room)) or []
    return []


def maglev_size(servers: int) -> int:
    wanted = SLOTS_A_SERVER * servers
    return next((size for size in MAGLEV_SIZES if size >= wanted), MAGLEV_SIZES[-1])


def _buckets(weights: list[int], room: int) -> tuple[list[int], int]:
    """Weights as they are dealt, and the size of the table.

    As IPVS deals them where all servers get their turn in its table; else by common divisors, in
    the least power of two that has a bucket for each unit of weight."""
    if sum(weights) > source_hash.TABLE_SIZE:
        common = gcd(*weights)
        weights = [weight // common for weight in weights]
    total = sum(weights)
    if total > room:
        share = max(0, room - len(weights))
        weights = [max(1, weight * share // total) for weight in weights]
        total = room
    return weights, max(source_hash.TABLE_SIZE, 1 << (total - 1).bit_length())
