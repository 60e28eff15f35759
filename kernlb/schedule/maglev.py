"""Maglev hashing (scheduler ``mh``) as IPVS computes it.

Each server has a permutation of the table's slots and the servers take turns, by weight, at
claiming the next free slot of theirs; hence a server that comes or goes moves few slots of the
others (Eisenbud et al., NSDI 2016, section 3.4). The arithmetic, down to the hash function and
its keys, is that of net/netfilter/ipvs/ip_vs_mh.c on a 64-bit kernel, so that the table says
where the kernel sends a client.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd

from kernlb.model import Family, IPAddress, ServerKey

TABLE_SIZE = 4093  # CONFIG_IP_VS_MH_TAB_INDEX=12: Kconfig's default, and the distributions'
_OFFSET_KEY = 2654435761
_SKIP_KEY = 2654446892
_MASK = 2**64 - 1


def table(
    servers: Sequence[tuple[ServerKey, int]], family: Family, size: int = TABLE_SIZE
) -> list[ServerKey] | None:
    """The owner of each slot, for servers with weights in the kernel's list order.

    A drained server takes part with its last weight above 0: the kernel keeps its slots.
    ``family`` is that of the service; ``size`` a prime. None when no server has a weight.
    """
    places = owners(servers, family, size)
    return [servers[place][0] for place in places] if places else None


def owners(
    servers: Sequence[tuple[ServerKey, int]], family: Family, size: int = TABLE_SIZE
) -> list[int] | None:
    """The table with places in ``servers`` instead of keys."""
    weights = [weight for _, weight in servers if weight > 0]
    if not weights:
        return None
    common = gcd(*weights)
    table_bits = size.bit_length() // 2  # IP_VS_MH_TAB_INDEX / 2: weights are shifted to fit
    shift = max(0, (max(weights) // common).bit_length() - table_bits)
    takers = [
        (place, *_permutation(key, family, size), ((weight // common) >> shift) or 1)
        for place, (key, weight) in enumerate(servers)
        if weight > 0
    ]
    slots = [-1] * size
    positions = [offset for _, offset, _, _ in takers]
    free = size
    while True:
        for index, (place, _, skip, turns) in enumerate(takers):
            position = positions[index]
            for _ in range(turns):
                while slots[position] >= 0:
                    position += skip
                    if position >= size:
                        position -= size
                slots[position] = place
                free -= 1
                if not free:
                    return slots
            positions[index] = position


def slot(client: IPAddress, port: int = 0) -> int:
    """The slot of a client; ``port`` is its source port with the flag mh-port, else 0."""
    return _hash(folded(client, Family.of(client)) + port, _OFFSET_KEY) % TABLE_SIZE


@lru_cache(maxsize=65536)
def _permutation(server: ServerKey, family: Family, size: int) -> tuple[int, int]:
    value = folded(server.address, family) + server.port
    return _hash(value, _OFFSET_KEY) % size, _hash(value, _SKIP_KEY) % (size - 1) + 1


def folded(address: IPAddress, family: Family) -> int:
    """An address in 32 bits: the XOR of an IPv6 address's words, as the kernel folds it.

    A server of the other family (tunnels) is read by the service's family, hence an IPv6
    server of an IPv4 service counts with its first word alone.
    """
    packed = address.packed.ljust(16, b"\0")
    words = [int.from_bytes(packed[at : at + 4], "big") for at in range(0, 16, 4)]
    if family is Family.IPV4:
        return words[0]
    return words[0] ^ words[1] ^ words[2] ^ words[3]


def _hash(value: int, key: int) -> int:
    """hsiphash of one 32-bit word with both halves of the key alike (lib/siphash.c)."""
    v0 = 0x736F6D6570736575 ^ key
    v1 = 0x646F72616E646F6D ^ key
    v2 = 0x6C7967656E657261 ^ key
    v3 = 0x7465646279746573 ^ key
    block = 4 << 56 | value & 0xFFFFFFFF
    v0, v1, v2, v3 = _round(v0, v1, v2, v3 ^ block)
    v0, v2 = v0 ^ block, v2 ^ 0xFF
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return (v0 ^ v1 ^ v2 ^ v3) & 0xFFFFFFFF


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _MASK
    v1 = _rotated(v1, 13) ^ v0
    v0 = _rotated(v0, 32)
    v2 = (v2 + v3) & _MASK
    v3 = _rotated(v3, 16) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = _rotated(v3, 21) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = _rotated(v1, 17) ^ v2
    v2 = _rotated(v2, 32)
    return v0, v1, v2, v3


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK
