"""What the packet filter does in place of sysctls: keeping quiet in ARP, and small segments. Pure.

Where the filter cannot be read, it is taken for empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kernlb.doctor.facts import Facts, UnreadError
from kernlb.doctor.netfilter import Rule, Ruleset
from kernlb.model import IPAddress

_SEGMENT = re.compile(r"maxseg size set (\d+)|--set-mss (\d+)")
_FAMILY = {4: ("ip", "inet"), 6: ("ip6", "inet")}


def unanswered(facts: Facts, vips: Sequence[IPAddress]) -> frozenset[IPAddress]:
    """VIPs for which ARP requests are dropped."""
    rules = [rule for rule in _arp(facts, "input") if rule.verdict == "drop"]
    return frozenset(vip for vip in vips if any(_names(rule, vip) for rule in rules))


def unsaid(facts: Facts, vips: Sequence[IPAddress]) -> frozenset[IPAddress]:
    """VIPs that no ARP request is sent as: such a request is changed or dropped."""
    rules = [
        rule
        for rule in _arp(facts, "output")
        if rule.verdict == "drop" or re.search(r"saddr ip set|--mangle-ip-s", rule.text)
    ]
    return frozenset(vip for vip in vips if any(_names(rule, vip) for rule in rules))


def segments(facts: Facts, version: int) -> Iterator[int]:
    """Limits that answers of a family ask under."""
    for chain in _rules(facts).chains:
        if chain.family in _FAMILY[version] and chain.hook in ("output", "postrouting"):
            for rule in chain.rules:
                other = "ip6 " if version == 4 else "ip "
                if (found := _SEGMENT.search(rule.text)) and not rule.text.startswith(other):
                    yield int(found[1] or found[2])


def _arp(facts: Facts, hook: str) -> Iterator[Rule]:
    for chain in _rules(facts).chains:
        if chain.family == "arp" and chain.hook == hook:
            yield from chain.rules


def _rules(facts: Facts) -> Ruleset:
    try:
        return facts[Ruleset]
    except UnreadError:
        return Ruleset()


def _names(rule: Rule, vip: IPAddress) -> bool:
    return re.search(rf"(?<![\d.]){re.escape(str(vip))}(?![\d.])", rule.text) is not None
