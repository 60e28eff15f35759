"""Results of probes, counted by type of check and outcome. Pure; a probe costs it a µs at most."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from math import inf

from kernlb.health.check import (
    AgentCheck,
    Check,
    DnsCheck,
    ExecCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    Several,
    TcpCheck,
    TlsCheck,
    UdpCheck,
)
from kernlb.health.monitor import Key
from kernlb.health.outcome import Outcome, Result

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, inf)

_WORDS: dict[type, str] = {
    IcmpCheck: "icmp",
    TcpCheck: "tcp",
    HttpCheck: "http",
    TlsCheck: "tls",
    UdpCheck: "udp",
    DnsCheck: "dns",
    GrpcCheck: "grpc",
    ExecCheck: "exec",
    AgentCheck: "agent",
    Several: "several",
}


def type_word(check: Check) -> str:
    """The type of a check in a word: https is http here."""
    return _WORDS[type(check)]


class Tally:
    """``buckets`` counts probes by the least of ``BOUNDS`` (seconds) that they took at most."""

    __slots__ = ("buckets", "outcomes", "total")

    def __init__(self) -> None:
        self.buckets = [0] * len(BOUNDS)
        self.total = 0.0
        self.outcomes: Counter[Outcome] = Counter()


class ProbeCounts:
    """Since the daemon started."""

    def __init__(self) -> None:
        self._tallies: defaultdict[type, Tally] = defaultdict(Tally)

    def add(self, key: Key, result: Result) -> None:
        outcome, duration, _, _ = result
        tally = self._tallies[type(key[0])]
        tally.buckets[bisect_left(BOUNDS, duration)] += 1
        tally.total += duration
        tally.outcomes[outcome] += 1

    def by_type(self) -> dict[str, Tally]:
        return {word: self._tallies[kind] for kind, word in _WORDS.items() if kind in self._tallies}
