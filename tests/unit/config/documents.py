"""Strategies for service documents that are good by construction."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hypothesis import strategies as st

from kernlb.model import DEFAULT_FLAGS, Scheduler, SchedulerFlag
from tests.unit.config.check_documents import HEALTH, checks

LABELS = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,10}[A-Za-z0-9])?", fullmatch=True),
    st.text(
        st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029\ufeff"),
        max_size=20,
    ),
    max_size=3,
)
V4 = st.integers(0x0A000001, 0x0AFFFFFE).map(lambda value: str(IPv4Address(value)))
V6 = st.integers(1, 2**64).map(lambda value: str(IPv6Address((0x20010DB8 << 96) + value)))
WEIGHTS = st.integers(0, 65535)
DURATIONS = st.one_of(
    st.integers(1, 86400),
    st.integers(1, 40).map(lambda n: f"{n}m"),
    st.integers(1, 500).map(lambda n: f"{n}s"),
)


@st.composite
def tunnels(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["ipip", "gue", "gre"]))
    tunnel: dict[str, Any] = {"type": kind}
    if kind == "gue":
        tunnel["port"] = draw(st.integers(1, 65535))
    if kind != "ipip" and draw(st.booleans()):
        tunnel["checksum"] = True
    return tunnel


@st.composite
def servers(draw: st.DrawFn, family: str, forwarding: str, changes_port: bool) -> dict[str, Any]:
    method = draw(st.sampled_from([forwarding, "nat", "tunnel", "dsr"]))
    mixed = method == "tunnel" and draw(st.booleans())
    addresses = V4 if (family == "ipv4") != mixed else V6
    server: dict[str, Any] = {"address": draw(addresses)}
    if method != forwarding:
        server["forwarding"] = method
    if method == "tunnel" and draw(st.booleans()):
        server["tunnel"] = draw(tunnels())
    if method == "nat" and changes_port:
        server["port"] = draw(st.integers(1, 65535))
    if draw(st.booleans()):
        server["weight"] = draw(WEIGHTS)
    upper = draw(st.integers(0, 5))
    if upper:
        server |= {"upper_threshold": upper, "lower_threshold": draw(st.integers(0, upper))}
    if draw(st.integers(0, 9)) == 0:
        server["local"] = True
    if labels := draw(LABELS):
        server["labels"] = labels
    return server


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    family = draw(st.sampled_from(["ipv4", "ipv6"]))
    document: dict[str, Any] = {}
    protocol = "udp"
    port = 0
    persistent = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        document |= {"fwmark": draw(st.integers(1, 2**32 - 1)), "family": family}
    else:
        protocol = draw(st.sampled_from(["tcp", "udp", "sctp"]))
        port = draw(st.integers(0 if persistent else 1, 65535))
        vip = "192.0.2.1" if family == "ipv4" else "2001:db8:ffff::1"
        document |= {"address": vip, "port": port, "protocol": protocol}
        document["vip"] = draw(
            st.sampled_from(
                [
                    False,
                    {"interface": "lo"},
                    {"interface": "eth0"},
                    {"interface": "eth0", "announce": False},
                    {"interface": "lo", "announce": "eth1"},
                ]
            )
        )
    if persistent:
        longest = 32 if family == "ipv4" else 128
        document["persistence"] = draw(
            st.one_of(
                DURATIONS,
                st.fixed_dictionaries(
                    {"timeout": DURATIONS},
                    optional={"prefix": st.integers(1, longest)}
                    | ({"engine": st.just("sip")} if protocol == "udp" else {}),
                ),
            )
        )
    if protocol == "udp" and draw(st.booleans()):
        document["one_packet"] = True
    scheduler = draw(st.sampled_from(Scheduler))
    document["scheduler"] = scheduler.value
    if scheduler in DEFAULT_FLAGS and draw(st.booleans()):
        flags = [flag.value for flag in SchedulerFlag if flag.scheduler is scheduler]
        document["scheduler_flags"] = draw(st.lists(st.sampled_from(flags), unique=True))
    forwarding = draw(st.sampled_from(["nat", "tunnel", "dsr"]))
    document["forwarding"] = forwarding
    if forwarding == "tunnel" and draw(st.booleans()):
        document["tunnel"] = draw(tunnels())
    if draw(st.booleans()):
        document["weight"] = draw(WEIGHTS)
    if draw(st.booleans()):
        document["drain_timeout"] = draw(DURATIONS)
    if labels := draw(LABELS):
        document["labels"] = labels
    changes_port = port > 0 or ("fwmark" in document and not persistent)
    one = servers(family, forwarding, changes_port)
    listed = draw(
        st.lists(one, max_size=4, unique_by=lambda s: (s["address"], s.get("port", port)))
    )
    document["servers"] = listed
    sorry = [
        each | {"weight": max(1, each.get("weight", 1))}
        for each in draw(st.lists(one, max_size=2, unique_by=lambda s: s["address"]))
        if each["address"] not in [server["address"] for server in listed]
    ]
    if sorry:
        document["sorry_server"] = sorry[0] if len(sorry) == 1 else sorry
    some_check = checks(any_port=port == 0 or protocol == "sctp")
    if draw(st.booleans()):
        document["check"] = draw(some_check)
    for server in listed:
        if draw(st.integers(0, 3)) == 0:
            server["check"] = draw(some_check)
    if draw(st.booleans()):
        document["health"] = draw(HEALTH)
        if not sorry and draw(st.booleans()):
            document["health"]["when_all_down"] = draw(
                st.sampled_from(["reject", "fail-open", "sorry"])
            )
    return document
