"""Text of ``iptables-save`` to chains. Pure. What is not understood may match or not."""

from __future__ import annotations

import shlex
from ipaddress import ip_network
from itertools import pairwise

from kernlb.doctor.netfilter import Chain, Match, Rule, Value

_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_HOOKS = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_VERDICTS = {
    **{name: name.lower() for name in ("ACCEPT", "DROP", "REJECT", "RETURN", "MASQUERADE")},
    "SNAT": "snat",
    "DNAT": "dnat",
    "NOTRACK": "notrack",
    "LOG": "",
    "TCPMSS": "",
}
_OPTIONS = {"-s": "saddr", "-d": "daddr", "-p": "l4", "-i": "iif", "-o": "oif"}
_LONG = {"--dport": "dport", "--sport": "sport", "--dports": "dport", "--sports": "sport"}
_STATES = ("--ctstate", "--state")
_L4 = {"4": "ipip", "ipencap": "ipip", "47": "gre"}


def parse(text: str, family: str) -> list[Chain]:
    """``family``: ip or ip6."""
    chains: dict[tuple[str, str], list[Rule]] = {}
    policies: dict[tuple[str, str], str] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            chains[table, name] = []
            policies[table, name] = "drop" if policy == "DROP" else "accept"
        elif line.startswith("-A "):
            words = shlex.split(line)
            if (rules := chains.get((table, words[1]))) is not None:
                rules.append(_rule(line, words[2:], family))
    return [
        Chain(
            family,
            table,
            name,
            name.lower() if name in _HOOKS else "",
            100 if table == "nat" and name in ("POSTROUTING", "INPUT") else _priority(table),
            policies[table, name],
            tuple(rules),
        )
        for (table, name), rules in chains.items()
    ]


def _priority(table: str) -> int:
    return _PRIORITIES.get(table, -100)


def _rule(text: str, words: list[str], family: str) -> Rule:
    tests: list[Match] = []
    verdict, target, negated = "", "", False
    rest = iter(words)
    for word in rest:
        if word == "!":
            negated = True
            continue
        if word == "-j" or word == "-g":
            name = next(rest, "")
            if name in ("MARK", "CONNMARK", "CT"):
                verdict, target = _special(name, list(rest))
                break
            verdict = _VERDICTS.get(name, "goto" if word == "-g" else "jump")
            target = name if verdict in ("jump", "goto") else ""
            break  # what follows belongs to the target
        if word == "-m":
            if next(rest, "") not in (
                "tcp",
                "udp",
                "sctp",
                "conntrack",
                "state",
                "multiport",
                "comment",
            ):
                tests.append(Match(""))
        elif word == "--comment":
            next(rest, "")
        elif word in _OPTIONS:
            tests.append(_option(_OPTIONS[word], next(rest, ""), negated))
        elif word in _LONG:
            tests.append(Match(_LONG[word], _ports(next(rest, "")), negated))
        elif word in _STATES:
            states = tuple(each.lower() for each in next(rest, "").split(","))
            tests.append(Match("state", states, negated))
        elif word.startswith("-"):
            tests.append(Match(""))
        negated = False
    return Rule(text, tuple(tests), verdict, target)


def _special(name: str, words: list[str]) -> tuple[str, str]:
    if name == "CT":
        return ("notrack", "") if "--notrack" in words else ("", "")
    if name == "CONNMARK":
        return "mark", ""
    for word, value in pairwise(words):
        if word in ("--set-mark", "--set-xmark"):
            number = value.partition("/")[0]
            return "mark", str(int(number, 0))
    return "mark", ""


def _option(name: str, value: str, negated: bool) -> Match:
    if name in ("saddr", "daddr"):
        return Match(
            name, tuple(ip_network(each, strict=False) for each in value.split(",")), negated
        )
    if name == "l4":
        return Match(name, (_L4.get(value, value),), negated)
    if value.endswith("+"):
        return Match("")  # a prefix of interface names
    return Match(name, (value,), negated)


def _ports(text: str) -> tuple[Value, ...] | None:
    found: list[Value] = []
    for each in text.split(","):
        low, between, high = each.partition(":")
        if not low.isdigit() or (between and not high.isdigit()):
            return None
        found.append((int(low), int(high)) if between else int(low))
    return tuple(found)
