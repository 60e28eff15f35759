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


def table(scheduler: Schedule, servers: Weighted, family: Family) -> list[int]:
    """For each slot the place in ``servers`` (newest first) of its owner; empty where the
    scheduler has no table, or nobody to fill it. The weight of a drained server is, for mh, its
    last one."""
    if scheduler is Schedule.MH:
        return maglev.owners(servers, family, maglev_size(len(servers))) or []
    if scheduler is Schedule.SH:
        weights = [max(1, weight) for _, weight in servers]
        return source_hash.owners(*_buckets(weights)) or []
    return []


def maglev_size(servers: int) -> int:
    wanted = SLOTS_A_SERVER * servers
    return next((size for size in MAGLEV_SIZES if size >= wanted), MAGLEV_SIZES[-1])


def _buckets(weights: list[int]) -> tuple[list[int], int]:
    """Weights as they are dealt, and the size of the table.

    As IPVS deals them where all servers get their turn in its table; else by common divisors, in
    the least power of two that has a bucket for each unit of weight."""
    if sum(weights) > source_hash.TABLE_SIZE:
        common = gcd(*weights)
        weights = [weight // common for weight in weights]
    total = sum(weights)
    if total > MOST_BUCKETS:
        room = MOST_BUCKETS - len(weights)
        weights = [max(1, weight * room // total) for weight in weights]
        total = MOST_BUCKETS
    return weights, max(source_hash.TABLE_SIZE, 1 << (total - 1).bit_length())
