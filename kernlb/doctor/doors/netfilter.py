"""The door to the packet filter: ``nft -j list ruleset``, and ``iptables-save`` where it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from kernlb.doctor.doors import iptables, programs
from kernlb.doctor.netfilter import Chain, Match, Rule, Ruleset, Value

_L4 = {"ipencap": "ipip", "4": "ipip", 4: "ipip", "47": "gre", 47: "gre", 6: "tcp", 17: "udp"}
_FIELDS = {
    ("ip", "saddr"): "saddr",
    ("ip6", "saddr"): "saddr",
    ("ip", "daddr"): "daddr",
    ("ip6", "daddr"): "daddr",
    ("ip", "protocol"): "l4",
    ("ip6", "nexthdr"): "l4",
    **{(proto, end): end for proto in ("tcp", "udp", "sctp", "th") for end in ("dport", "sport")},
}
_META = {
    **dict.fromkeys(("iif", "iifname"), "iif"),
    **dict.fromkeys(("oif", "oifname"), "oif"),
    "l4proto": "l4",
    "nfproto": "family",
}
_FAMILIES = {"ipv4": "ip", "ipv6": "ip6"}
_PLAIN = ("accept", "drop", "reject", "return", "notrack", "masquerade", "snat", "dnat")


def read() -> Ruleset:
    """Raises OSError, also where nft is not installed."""
    said = json.loads(programs.run(["nft", "-j", "list", "ruleset"]))["nftables"]
    chains = parse(said, programs.run(["nft", "-a", "list", "ruleset"]).decode("utf-8", "replace"))
    unread = ""
    for family, program in (("ip", "iptables-save"), ("ip6", "ip6tables-save")):
        if shutil.which(program):
            text = programs.run([program]).decode("utf-8", "replace")
            chains += iptables.parse(text, family)
    return Ruleset(tuple(chains), unread)


def parse(said: list[dict[str, Any]], listing: str) -> list[Chain]:
    """From nft's JSON; ``listing`` is its plain text with handles, for evidence."""
    sets = {
        (one["family"], one["table"], one["name"]): one.get("elem")
        for entry in said
        if (one := entry.get("set")) is not None
    }
    texts = dict(_texts(listing))
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for entry in said:
        if (one := entry.get("rule")) is not None:
            where = (one["family"], one["table"], one["chain"])
            text = texts.get((*where[:2], one["handle"]), "a rule")
            rules.setdefault(where, []).extend(_rules(one, text, sets))
    return [
        Chain(
            one["family"],
            one["table"],
            one["name"],
            one.get("hook", ""),
            one.get("prio", 0),
            one.get("policy", "accept"),
            tuple(rules.get((one["family"], one["table"], one["name"]), ())),
        )
        for entry in said
        if (one := entry.get("chain")) is not None
    ]


def _texts(listing: str) -> Iterator[tuple[tuple[str, str, int], str]]:
    family = table = ""
    for line in listing.splitlines():
        text, mark, handle = line.strip().partition(" # handle ")
        if text.startswith("table "):
            _, family, table = text.rstrip(" {").split()[:3]
        elif mark and handle.isdigit():
            yield (family, table, int(handle)), text


def _rules(one: Mapping[str, Any], text: str, sets: Mapping[Any, Any]) -> Iterator[Rule]:
    """One, or one for each element of a verdict map."""
    tests: list[Match] = []
    verdict, target = "", ""
    where = (one["family"], one["table"])
    for expression in one["expr"]:
        kind, body = _only(expression)
        if kind == "match":
            tests.append(_test(body, where, sets))
        elif kind == "vmap":
            yield from _of_map(body, text, tests, where, sets)
            return
        elif kind in _PLAIN:
            verdict = kind
        elif kind in ("jump", "goto"):
            verdict, target = kind, body["target"]
        elif kind == "mangle" and body.get("key") == {"meta": {"key": "mark"}}:
            verdict = "mark"
            target = str(body["value"]) if isinstance(body["value"], int) else ""
        elif kind in ("xt", "limit", "quota", "ct count", "queue", "fwd"):
            tests.append(Match(""))
    yield Rule(text, tuple(tests), verdict, target)


def _only(expression: Mapping[str, Any]) -> tuple[str, Any]:
    return next(iter(expression.items()), ("", None))


def _of_map(
    body: Any, text: str, tests: list[Match], where: tuple[str, str], sets: Mapping[Any, Any]
) -> Iterator[Rule]:
    elements = body["data"].get("set", []) if isinstance(body["data"], dict) else []
    if not elements:
        yield Rule(text, (*tests, Match("")), "accept")  # a named map: it might do anything
        return
    for key, what in elements:
        verdict, inner = next(iter(what.items()))
        target = inner["target"] if isinstance(inner, dict) else ""
        match = {"op": "==", "left": body["key"], "right": key}
        yield Rule(text, (*tests, _test(match, where, sets)), verdict, target)


def _test(match: Mapping[str, Any], where: tuple[str, str], sets: Mapping[Any, Any]) -> Match:
    name = _field(match["left"])
    right = match["right"]
    if isinstance(right, str) and right.startswith("@"):
        elements = sets.get((*where, right[1:]))
        right = {"set": elements} if elements else None
    values = None if right is None else _values(right, name)
    return Match(name, values, match["op"] == "!=")


def _field(left: Any) -> str:
    if not isinstance(left, dict):
        return ""
    if (payload := left.get("payload")) is not None:
        return _FIELDS.get((payload.get("protocol"), payload.get("field")), "")
    if (meta := left.get("meta")) is not None:
        return _META.get(meta["key"], "")
    if (ct := left.get("ct")) is not None and ct.get("key") == "state":
        return "state"
    return ""


def _values(right: Any, name: str) -> tuple[Value, ...] | None:
    """None where one of them is not understood."""
    if isinstance(right, dict):
        many = right.get("set", right.get("|"))
        if many is not None:
            found: list[Value] = []
            for each in many:
                value = _values(
                    each.get("elem", {}).get("val", each) if isinstance(each, dict) else each, name
                )
                if value is None:
                    return None
                found += value
            return tuple(found)
        if (prefix := right.get("prefix")) is not None:
            return (ip_network(f"{prefix['addr']}/{prefix['len']}", strict=False),)
        ends = right.get("range")
        if ends is not None and all(isinstance(end, int) for end in ends):
            return ((ends[0], ends[1]),)
        return None
    return _one(right, name)


def _one(right: Any, name: str) -> tuple[Value, ...] | None:
    if isinstance(right, list):
        return _values({"set": right}, name)
    if name in ("saddr", "daddr"):
        try:
            return (ip_network(right, strict=False),)
        except ValueError:
            return None
    if name == "l4":
        return (_L4.get(right, str(right)),)
    if name == "family":
        return (_FAMILIES.get(right, str(right)),)
    return (right,) if isinstance(right, str | int) else None
