"""The hash schedulers' tables, held to the algorithm's own description and to its promises.

The reference is written from two sources, and shares nothing with kernlb: Maglev's population
of the table as the paper gives it (Eisenbud et al., NSDI 2016, section 3.4, pseudocode 1, with
whole preference lists), and SipHash as its paper gives it (Aumasson and Bernstein, 2012), checked
first against the vectors of the kernel's own self-test (lib/test_siphash.c).
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from functools import reduce
from ipaddress import IPv6Address, ip_address
from itertools import islice
from math import gcd

import pytest

from kernlb.model import (
    AddressKey,
    Family,
    IPAddress,
    L4Protocol,
    RealServer,
    Scheduler,
    ServerKey,
    ServiceState,
    VirtualService,
)
from kernlb.schedule import maglev, source_hash
from kernlb.schedule.moved import moved

Weighted = list[tuple[ServerKey, int]]
KEY = AddressKey(L4Protocol.TCP, ip_address("192.0.2.10"), 80)


def pool(*weights: int, first: int = 1, network: str = "10.0.0.0") -> Weighted:
    base = ip_address(network)
    return [(ServerKey(base + first + n, 80), weight) for n, weight in enumerate(weights)]


# -- mh: the reference


def siphash(c: int, d: int, key: tuple[int, int], message: bytes) -> int:
    mask = 2**64 - 1
    v = [
        key[0] ^ 0x736F6D6570736575,
        key[1] ^ 0x646F72616E646F6D,
        key[0] ^ 0x6C7967656E657261,
        key[1] ^ 0x7465646279746573,
    ]

    def mix(a: int, b: int, rotation: int, half: bool) -> None:
        v[a] = v[a] + v[b] & mask
        v[b] = (v[b] << rotation | v[b] >> 64 - rotation) & mask ^ v[a]
        if half:
            v[a] = (v[a] << 32 | v[a] >> 32) & mask

    def rounds(count: int) -> None:
        for _ in range(count):
            mix(0, 1, 13, True)
            mix(2, 3, 16, False)
            mix(0, 3, 21, False)
            mix(2, 1, 17, True)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(c)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(d)
    return reduce(int.__xor__, v)


def hsiphash(word: int, key: int) -> int:
    """On 64-bit kernels: SipHash-1-3, the lower half (include/linux/siphash.h)."""
    return siphash(1, 3, (key, key), struct.pack("<I", word & 0xFFFFFFFF)) & 0xFFFFFFFF


def maglev_by_the_paper(servers: Weighted, size: int = 4093) -> list[ServerKey]:
    """Pseudocode 1, with the turns that ip_vs_mh.c makes of weights (at most 63 a round)."""
    servers = [(key, weight) for key, weight in servers if weight]
    unit = gcd(*(weight for _, weight in servers))
    largest = max(weight for _, weight in servers) // unit
    shift = 0
    while largest >> shift >= 64:
        shift += 1
    preference, turns = [], []
    for key, weight in servers:
        word = fold_by_words(key.address) + key.port
        offset = hsiphash(word, 2654435761) % size
        skip = hsiphash(word, 2654446892) % (size - 1) + 1
        preference.append(iter([(offset + j * skip) % size for j in range(size)]))
        turns.append(max(1, weight // unit >> shift))
    entry: dict[int, ServerKey] = {}
    while len(entry) < size:
        for (key, _), wishes, count in zip(servers, preference, turns, strict=True):
            free = (wish for wish in wishes if wish not in entry)
            for wish in islice(free, min(count, size - len(entry))):
                entry[wish] = key
    return [entry[slot] for slot in range(size)]


def fold_by_words(address: IPAddress) -> int:
    number, folded = int(address), 0
    while number:
        folded ^= number & 0xFFFFFFFF
        number >>= 32
    return folded


@pytest.mark.parametrize(
    ("length", "expected"), [(0, 0x050FC4DC), (4, 0x88D38328), (8, 0x8D299A8E), (63, 0xB7BBB3A8)]
)
def test_the_reference_hash_agrees_with_the_kernels_vectors(length: int, expected: int) -> None:
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    assert siphash(1, 3, key, bytes(range(length))) & 0xFFFFFFFF == expected


def test_the_reference_hash_agrees_with_the_papers_vector() -> None:
    key = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    assert siphash(2, 4, key, bytes(range(15))) == 0xA129CA6149BE45E5


POOLS = {
    "one": pool(1),
    "three alike": pool(1, 1, 1),
    "weights": pool(1, 2, 3, 10),
    "weights with a common divisor": pool(100, 200, 300),
    "weights too large to count": pool(1, 1000, 65535),
    "one of weight 0": pool(1, 0, 2),
    "IPv6": pool(3, 1, 1, network="2001:db8::"),
    "fifty": pool(*range(1, 51)),
}


@pytest.mark.parametrize("servers", POOLS.values(), ids=POOLS)
def test_the_table_is_the_papers(servers: Weighted) -> None:
    family = Family.of(servers[0][0].address)
    assert maglev.table(servers, family) == maglev_by_the_paper(servers)


@pytest.mark.parametrize("port", [0, 1, 65535])
@pytest.mark.parametrize("client", ["192.0.2.77", "255.255.255.255", "2001:db8::77"])
def test_the_slot_of_a_client_is_the_kernels(client: str, port: int) -> None:
    address = ip_address(client)
    word = fold_by_words(address) + port
    assert maglev.slot(address, port) == hsiphash(word, 2654435761) % 4093


def test_an_ipv6_server_of_an_ipv4_service_counts_with_its_first_word() -> None:
    address = IPv6Address("2001:db8::1")
    assert maglev.folded(address, Family.IPV4) == 0x20010DB8
    assert maglev.folded(address, Family.IPV6) == 0x20010DB8 ^ 1


# -- mh: its promises


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 3), (5, 5, 1, 1), (63, 1), (30, 20, 10)])
def test_shares_of_the_table_follow_the_weights(weights: tuple[int, ...]) -> None:
    servers = pool(*weights)
    counted = Counter(maglev.table(servers, Family.IPV4))
    unit = gcd(*weights)
    for key, weight in servers:
        fair = maglev.TABLE_SIZE * weight / sum(weights)
        assert abs(counted[key] - fair) <= weight // unit  # at most one round of turns off


def test_a_weight_of_0_has_no_slot_and_none_at_all_no_table() -> None:
    servers = pool(1, 0)
    assert set(maglev.table(servers, Family.IPV4) or ()) == {servers[0][0]}
    assert maglev.table(pool(0, 0), Family.IPV4) is None
    assert maglev.table([], Family.IPV4) is None


@pytest.mark.parametrize("count", [3, 10, 50])
def test_a_server_that_leaves_moves_few_slots_of_the_others(count: int) -> None:
    servers = pool(*[1] * count)
    before = maglev.table(servers, Family.IPV4)
    after = maglev.table(servers[1:], Family.IPV4)
    assert before is not None
    assert after is not None
    gone = servers[0][0]
    kept = [(was, now) for was, now in zip(before, after, strict=True) if was != gone]
    others = sum(was != now for was, now in kept) / len(kept)
    # the paper's figure 12 has a few percent; modulo hashing would move nearly all
    assert others < 0.15


def test_the_same_servers_make_the_same_table() -> None:
    servers = pool(1, 2, 3)
    assert maglev.table(servers, Family.IPV4) == maglev.table(list(servers), Family.IPV4)


# -- sh


def test_buckets_go_round_the_servers_by_weight() -> None:
    servers = pool(1, 2)
    (one, _), (two, _) = servers
    buckets = source_hash.table(servers, Family.IPV4)
    assert buckets is not None
    assert buckets[:6] == [one, two, two, one, two, two]
    assert len(buckets) == 256


def test_a_bucket_goes_to_a_server_of_weight_0_too() -> None:
    # ip_vs_sh_reassign() takes a weight below 1 for 1; the flag sh-fallback looks elsewhere
    servers = pool(0, 1)
    buckets = source_hash.table(servers, Family.IPV4)
    assert buckets is not None
    assert Counter(buckets) == {servers[0][0]: 128, servers[1][0]: 128}


def test_without_servers_there_are_no_buckets() -> None:
    assert source_hash.table([], Family.IPV4) is None


@pytest.mark.parametrize(
    ("client", "port", "bucket"),
    [  # (port + address) * 0x61C88647 in 32 bits, its highest 8
        ("0.0.0.1", 0, 0x61),
        ("0.0.0.1", 1, 0xC3),
        ("255.255.255.255", 0, 0x9E),
        ("::1", 0, 0x61),
        ("0:0:0:1::1", 0, 0),
    ],
)
def test_the_bucket_of_a_client(client: str, port: int, bucket: int) -> None:
    assert source_hash.slot(ip_address(client), port) == bucket


# -- what a change moves


def state(servers: Weighted, scheduler: Scheduler = Scheduler.MH) -> ServiceState:
    held = tuple(RealServer(key.address, key.port, weight) for key, weight in servers)
    return ServiceState(VirtualService(KEY, scheduler), held)


@pytest.mark.parametrize("scheduler", [Scheduler.MH, Scheduler.SH])
def test_no_change_moves_nothing(scheduler: Scheduler) -> None:
    held = state(pool(1, 2, 3), scheduler)
    assert moved(held, held) == 0
    assert moved(held, replace(held, servers=held.servers[::-1])) == 0


@pytest.mark.parametrize("scheduler", [Scheduler.MH, Scheduler.SH])
def test_draining_one_of_three_moves_its_third_alone(scheduler: Scheduler) -> None:
    share = moved(state(pool(1, 1, 1), scheduler), state(pool(1, 0, 1), scheduler))
    assert share == pytest.approx(1 / 3, abs=0.01)


def test_removing_one_of_three_moves_little_more_than_its_third_under_mh() -> None:
    share = moved(state(pool(1, 1, 1)), state(pool(1, 1)))
    assert share is not None
    assert 0.33 < share < 0.45


def test_removing_one_of_three_moves_most_under_sh() -> None:
    share = moved(state(pool(1, 1, 1), Scheduler.SH), state(pool(1, 1), Scheduler.SH))
    assert share is not None
    assert share > 0.5


def test_a_new_server_is_at_the_head_of_the_kernels_list() -> None:
    before = state(pool(1, 1), Scheduler.SH)
    after = replace(before, servers=state(pool(1, 1, 1), Scheduler.SH).servers)
    one, two, three = (key for key, _ in pool(1, 1, 1))
    was = source_hash.table([(one, 1), (two, 1)], Family.IPV4)
    now = source_hash.table([(three, 1), (one, 1), (two, 1)], Family.IPV4)
    assert was is not None
    assert now is not None
    assert moved(before, after) == sum(a != b for a, b in zip(was, now, strict=True)) / 256


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (state(pool(1, 1), Scheduler.RR), state(pool(1), Scheduler.RR)),
        (state(pool(1, 1), Scheduler.SH), state(pool(1, 1), Scheduler.MH)),
        (state([]), state(pool(1))),
        (state(pool(1)), state([])),
        (state(pool(1)), state(pool(0))),
    ],
    ids=["no hash", "another scheduler", "none before", "none after", "none serves after"],
)
def test_where_nobody_can_say_what_moves_nothing_is_said(
    before: ServiceState, after: ServiceState
) -> None:
    assert moved(before, after) is None
