"""Source hashing (scheduler ``sh``) as IPVS computes it: 256 buckets, dealt out by weight.

The buckets go round the servers in the kernel's list order, weight buckets at a time
(net/netfilter/ipvs/ip_vs_sh.c). One server more or less shifts most buckets: that is what
``mh`` is for.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernlb.model import Family, IPAddress, ServerKey
from kernlb.schedule.maglev import folded

TABLE_BITS = 8  # CONFIG_IP_VS_SH_TAB_BITS: Kconfig's default, and the distributions'
TABLE_SIZE = 1 << TABLE_BITS
_GOLDEN_RATIO_32 = 0x61C88647


def table(
    servers: Sequence[tuple[ServerKey, int]], family: Family, size: int = TABLE_SIZE
) -> list[ServerKey] | None:
    """The owner of each bucket, for servers with weights in the kernel's list order.

    A server with weight 0 still owns one bucket a round. None without servers.
    """
    del family  # the buckets do not depend on it; the signature is that of every table
    places = owners([weight for _, weight in servers], size)
    return [servers[place][0] for place in places] if places else None


def owners(weights: Sequence[int], size: int = TABLE_SIZE) -> list[int] | None:
    """The table with places in the kernel's list instead of keys."""
    if not weights:
        return None
    buckets: list[int] = []
    while len(buckets) < size:
        for place, weight in enumerate(weights):
            buckets.extend([place] * max(1, weight))
    return buckets[:size]


def slot(client: IPAddress, port: int = 0) -> int:
    """The bucket of a client; ``port`` is its source port with the flag sh-port, else 0.

    Of the product the highest bits count (hash_32() in linux/hash.h; kernels before 4.18 took
    the lowest of another).
    """
    product = (port + folded(client, Family.of(client))) * _GOLDEN_RATIO_32 & 0xFFFFFFFF
    return product >> 32 - TABLE_BITS
