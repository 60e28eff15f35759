"""What probes and counters found, as values for people and programs. Pure.

Tables of the probes only grow; what is new since the last look is their difference. A finding is
a dict that JSON takes as it is, with ``kind`` first; ``line`` makes the text of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from kernlb.datapath.xdp.explain import MEANINGS
from kernlb.datapath.xdp.layout import Reason
from kernlb.model import endpoint
from kernlb.trace.programs import slot_bounds

Finding = dict[str, Any]
Key = dict[str, Any]

_AF_INET6 = 10
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_EVENTS = ("schedule", "schedule", "begin", "end")  # without a server, and with one
_ACTIONS = ("aborted", "drop", "pass", "tx", "redirect")
_TCP_STATES = (
    *("none", "established", "syn_sent", "syn_recv", "fin_wait", "time_wait", "close"),
    *("close_wait", "last_ack", "listen", "synack"),
)
_PASSED = (Reason.NOT_OURS, Reason.NO_SERVICE, Reason.ICMP_UNMATCHED)
SHARES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "worst": 1.0}
NOT_SERVED = {
    each.name.lower(): MEANINGS[each]
    for each in Reason
    if each >= Reason.REFUSED and each not in _PASSED
}


class Drops:
    """Of the kernel and of XDP, by the tables ``drops`` and ``xdp_troubles``."""

    def __init__(self, reasons: Mapping[int, str], interface: Callable[[int], str]) -> None:
        """``reasons``: enum skb_drop_reason of the kernel that runs."""
        self._reasons = {
            number: name.removeprefix("SKB_DROP_REASON_") for number, name in reasons.items()
        }
        self._interface = interface
        self._before: dict[str, int] = {}

    def new(self, tables: Mapping[str, Sequence[tuple[Any, Any]]]) -> list[Finding]:
        """Since the last call, most packets first."""
        found = []
        totals: dict[str, tuple[Key, int, bytes]] = {}
        for key, value in tables["drops"]:  # several places in one function are one here
            _, before, _ = totals.get(str(key), (key, 0, b""))
            totals[str(key)] = key, before + value["packets"], bytes(value["source"])
        for name, (key, total, source) in totals.items():
            if number := self._grown(f"kernel {name}", total):
                found.append(self._kernel(key, source, number))
        for key, value in tables["xdp_troubles"]:
            if number := self._grown(f"xdp {key}", value):
                found.append(self._xdp(key, number))
        return sorted(found, key=lambda each: -each["packets"])

    def _grown(self, name: str, total: int) -> int:
        before = self._before.get(name, 0)
        self._before[name] = total
        return total - before

    def _kernel(self, key: Key, source: bytes, number: int) -> Finding:
        family = 6 if key["type"] == 0x86DD else 4
        return {
            "kind": "drop",
            "where": "kernel",
            "packets": number,
            "reason": self._reasons.get(key["reason"], str(key["reason"])),
            "detail": f"at {key['location'].partition('.')[0]}",  # without .constprop.0
            "protocol": _PROTOCOLS.get(key["protocol"], str(key["protocol"])),
            "to": _end(bytes(key["dest"]), key["port"], family),
            "from": str(_address(source, family)),
        }

    def _xdp(self, key: Key, number: int) -> Finding:
        what, interface = key["what"], self._interface(key["ifindex"])
        if key["kind"] == 0:
            action = _ACTIONS[what] if 0 <= what < len(_ACTIONS) else str(what)
            reason, detail = "xdp_exception", f"the verdict {action} was not carried out"
        else:
            reason = "xdp_redirect_err" if key["kind"] == 1 else "xdp_devmap_xmit"
            detail = os.strerror(-what).lower() if what < 0 else "the device took fewer than it got"
        return {
            "kind": "drop",
            "where": "xdp driver",
            "packets": number,
            "reason": reason,
            "detail": f"{detail}, {interface}",
        }


class OwnDrops:
    """What the XDP program did not forward, by its own counters."""

    def __init__(self, packets: Mapping[str, int]) -> None:
        self._before = dict(packets)

    def new(self, packets: Mapping[str, int]) -> list[Finding]:
        before, self._before = self._before, dict(packets)
        return [
            {
                "kind": "drop",
                "where": "kernlb xdp",
                "packets": number - before.get(name, 0),
                "reason": name,
                "detail": NOT_SERVED[name],
            }
            for name, number in packets.items()
            if name in NOT_SERVED and number > before.get(name, 0)
        ]


def of_event(event: Mapping[str, Any], epoch: float) -> Finding:
    """One that IPVS's probes told. ``epoch``: when the monotonic clock was 0."""
    kind = _EVENTS[event["kind"]]
    found = _of_ipvs(kind, event, epoch)
    if kind == "schedule":
        found["scheduler"] = event["scheduler"]
        if not event["kind"]:
            found["server"] = ""
    if kind == "end":
        found["packets"] = event["packets"]
        if event["protocol"] == 6 and event["state"] < len(_TCP_STATES):
            found["state"] = _TCP_STATES[event["state"]]
        if event["lifetime"]:
            found["seconds"] = round(event["lifetime"] / 1e9, 3)
    return found


def _of_ipvs(kind: str, event: Mapping[str, Any], epoch: float) -> Finding:
    family, other = _family(event["family"]), _family(event["server_family"])
    return {
        "kind": kind,
        "time": round(epoch + event["time"] / 1e9, 6),
        "protocol": _PROTOCOLS.get(event["protocol"], str(event["protocol"])),
        "client": _end(bytes(event["client"]), event["client_port"], family),
        "vip": _end(bytes(event["vip"]), event["vip_port"], family),
        **({"mark": event["mark"]} if event["mark"] else {}),
        "server": _end(bytes(event["server"]), event["server_port"], other),
    }


def choices(rows: Iterable[tuple[Key, int]]) -> list[Finding]:
    """How often each server was chosen, exactly; "" for none that could be."""
    found = []
    for key, number in rows:
        family, other = _family(key["family"]), _family(key["server_family"])
        server = _end(bytes(key["server"]), key["server_port"], other)
        found.append(
            {
                "kind": "chosen",
                "protocol": _PROTOCOLS.get(key["protocol"], str(key["protocol"])),
                "vip": _end(bytes(key["vip"]), key["vip_port"], family),
                "server": server if key["chosen"] else "",
                "times": number,
            }
        )
    return sorted(found, key=lambda each: (each["vip"], -each["times"], each["server"]))


def latencies(rows: Iterable[tuple[Key, int]], begun: Iterable[tuple[Key, int]]) -> list[Finding]:
    """By server: milliseconds from the first packet to the first answer, and how many had none.

    Of slots an eighth wide at most; each stands for its middle."""
    slots: dict[tuple[str, str], dict[int, int]] = {}
    started: dict[tuple[str, str], int] = {}
    for key, number in rows:
        slots.setdefault(_server(key), {})[key["slot"]] = number
    for key, number in begun:
        started[_server(key)] = number
    found = []
    for name in sorted(started.keys() | slots.keys()):
        counted = slots.get(name, {})
        total = sum(counted.values())
        found.append(
            {
                "kind": "latency",
                "protocol": name[0],
                "server": name[1],
                "answered": total,
                "unanswered": max(0, started.get(name, 0) - total),
                **{
                    word: round(quantile(counted, share), 3)
                    for word, share in (
                        ("median", 0.5),
                        ("p90", 0.9),
                        ("p99", 0.99),
                        ("worst", 1.0),
                    )
                    if counted
                },
            }
        )
    return found


def quantile(slots: Mapping[int, int], share: float) -> float:
    """In milliseconds; the middle of the slot that has it."""
    wanted = share * sum(slots.values())
    seen = 0
    for slot in sorted(slots):
        seen += slots[slot]
        if seen >= wanted:
            low, high = slot_bounds(slot)
            return (low + high) / 2000
    raise ValueError("no slot has any")


def _server(key: Key) -> tuple[str, str]:
    protocol = _PROTOCOLS.get(key["protocol"], str(key["protocol"]))
    return protocol, _end(bytes(key["server"]), key["port"], _family(key["family"]))


class Counted:
    """Connections of each server since the last look, by the daemon's counters."""

    def __init__(self, totals: Mapping[tuple[str, str], tuple[int, int, int]]) -> None:
        """By service and server: connections ever, active now, inactive now."""
        self._before = {name: each[0] for name, each in totals.items()}

    def new(self, totals: Mapping[tuple[str, str], tuple[int, int, int]]) -> list[Finding]:
        found: list[Finding] = []
        for (service, server), (ever, active, inactive) in totals.items():
            number = ever - self._before.get((service, server), 0)
            self._before[service, server] = ever
            if number > 0:
                found.append(
                    {
                        "kind": "counted",
                        "service": service,
                        "server": server,
                        "connections": number,
                        "active": active,
                        "inactive": inactive,
                    }
                )
        return found


def left_out(tables: Mapping[str, Sequence[tuple[Any, Any]]]) -> int:
    """So far: more than may be told one by one, or than a table has room for."""
    return sum(int(number) for _, number in tables.get("left_out", ()))


def _family(number: int) -> int:
    return 6 if number == _AF_INET6 else 4


def _address(data: bytes, family: int) -> IPv4Address | IPv6Address:
    return ip_address(data[: 4 if family == 4 else 16])


def _end(data: bytes, port: int, family: int) -> str:
    """``port`` as the little-endian kernel's number of two bytes in network order."""
    address = _address(data, family)
    number = int.from_bytes(port.to_bytes(2, "little"), "big")
    return endpoint(address, number) if number else str(address)
