"""The C text of the probes, for BCC to compile. Pure.

What can be many is counted in the kernel (tables), what is told one by one is bounded there:
``PER_SECOND`` events a second and CPU, and a count of those left out. A service is a condition in
the text, so that packets of others cost one comparison. IPv4 addresses are the first 4 of 16
bytes. Probes only read.

Where the kernel's fields lie is told by its BTF. The kernel's own
headers would say the same and take ten times as long to compile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from kernlb.datapath.xdp.layout import address_bytes
from kernlb.datapath.xdp.records import PROTOCOLS
from kernlb.model import AddressKey
from kernlb.trace.text_drops import BEGIN, DROPS
from kernlb.trace.text_ipvs import BEGINS, CONNECTIONS, IPVS, LATENCY, SCHEDULE

PER_SECOND = 200
SUB_SLOTS = 4  # of each power of two
MODULE = "ip_vs"
FIELDS = {
    "sk_buff": ("protocol", "head", "data", "network_header"),
    "net_device": ("ifindex",),
    "ip_vs_conn": (
        *("af", "daf", "caddr", "vaddr", "daddr", "cport", "vport", "dport", "protocol"),
        *("flags", "state", "fwmark", "in_pkts", "callback_head"),  # a macro renames rcu_head
    ),
    "ip_vs_service": ("af", "protocol", "fwmark", "scheduler"),
    "ip_vs_scheduler": ("name",),
    "ip_vs_iphdr": ("saddr", "daddr", "len"),
}
IPVS_STRUCTS = tuple(name for name in FIELDS if name.startswith(MODULE))


class View(StrEnum):
    DROPS = "drops"
    SCHEDULE = "schedule"
    CONNECTIONS = "connections"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Probe:
    """A function of the kernel, and the function of ours that it runs where it begins or ends."""

    function: str
    runs: str
    at_return: bool = False
    needed: bool = True  # else the view is of use without it


@dataclass(frozen=True, slots=True)
class Program:
    text: str
    probes: tuple[Probe, ...]  # beside the tracepoints, which BCC attaches by their names
    tables: tuple[str, ...]
    events: bool  # it tells some one by one


def wanted_fields(views: Collection[View]) -> dict[str, tuple[str, ...]]:
    """By struct: those whose offsets ``program`` takes."""
    ipvs = bool(set(views) - {View.DROPS})
    return {name: fields for name, fields in FIELDS.items() if ipvs or name not in IPVS_STRUCTS}


def program(
    views: Collection[View],
    offsets: Mapping[str, Mapping[str, int]],
    service: AddressKey | None = None,
) -> Program:
    """All in one, which is compiled once. ``offsets``: in bytes, by struct and field.

    With ``service``: of packets to its VIP alone."""
    text = "".join(
        f"#define OFFSET_{struct}_{field} {offsets[struct][field]}\n"
        for struct, fields in wanted_fields(views).items()
        for field in fields
    )
    text += BEGIN + _wants(service)
    tables: list[str] = []
    probes: dict[tuple[str, str, bool], Probe] = {}
    if set(views) - {View.DROPS}:
        text += IPVS.replace("PER_SECOND", str(PER_SECOND))
    for view in (each for each in View if each in views):
        text += _PARTS[view].text
        tables += _PARTS[view].tables
        probes |= {(each.function, each.runs, each.at_return): each for each in _PARTS[view].probes}
    if View.CONNECTIONS in views or View.LATENCY in views:
        text += BEGINS.format(
            told="tell_begin(ctx, &event, cp);" if View.CONNECTIONS in views else "",
            measured="expect_answer(&event, cp);" if View.LATENCY in views else "",
        )
    events = View.SCHEDULE in views or View.CONNECTIONS in views
    return Program(text, tuple(probes.values()), (*tables, "left_out"), events)


def slot_bounds(slot: int) -> tuple[int, int]:
    """From, and up to but not with, in microseconds: what ``slot_of`` in C puts there."""
    if slot < SUB_SLOTS:
        return slot, slot + 1
    power, part = divmod(slot, SUB_SLOTS)
    width = 1 << (power - 2)
    return (SUB_SLOTS + part) * width, (SUB_SLOTS + part + 1) * width


def _wants(service: AddressKey | None) -> str:
    """static bool wants(address, port, protocol); the port in network order, 0: not known."""
    if service is None:
        return "static inline int wants(const u8 *a, u16 port, u8 protocol) { return 1; }\n"
    words = [
        int.from_bytes(address_bytes(service.address)[at : at + 4], "little")
        for at in (0, 4, 8, 12)
    ]
    same = " && ".join(f"w[{index}] == {word}u" for index, word in enumerate(words))
    port = f"(!port || port == NETWORK_ORDER({service.port}))" if service.port else "1"
    return (
        "static inline int wants(const u8 *a, u16 port, u8 protocol)\n{\n"
        "\tconst u32 *w = (const u32 *)a;\n\n"
        f"\treturn {same} && {port} &&\n"
        f"\t       (!protocol || protocol == {PROTOCOLS[service.protocol]} || protocol == 1 || "
        "protocol == 58);\n}\n"
    )


class _Part(NamedTuple):
    text: str
    tables: tuple[str, ...]
    probes: tuple[Probe, ...] = ()


_NEW = Probe("ip_vs_conn_new", "conn_begins", at_return=True)
_PARTS = {
    View.DROPS: _Part(DROPS, ("drops", "xdp_troubles")),
    View.SCHEDULE: _Part(
        SCHEDULE,
        ("choices",),
        (
            Probe("ip_vs_schedule", "schedule_begins"),
            Probe("ip_vs_schedule", "schedule_ends", at_return=True),
        ),
    ),
    View.CONNECTIONS: _Part(
        CONNECTIONS,
        ("totals",),
        (_NEW, Probe("ip_vs_conn_rcu_free", "conn_ends", needed=False)),
    ),
    View.LATENCY: _Part(
        LATENCY,
        ("latencies", "begun"),
        (
            _NEW,
            Probe("tcp_snat_handler", "answer_comes"),
            Probe("udp_snat_handler", "answer_comes", needed=False),
            Probe("sctp_snat_handler", "answer_comes", needed=False),
        ),
    ),
}
