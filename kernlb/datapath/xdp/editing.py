"""Changing a server's entry while packets go by it, store by store.

A packet may see any state between two stores: each of them is a server that can be forwarded to.
Connections stay with it, however it is reached from now on.
"""

from __future__ import annotations

from kernlb.datapath.xdp.hop_table import write_hop
from kernlb.datapath.xdp.inventory import TRANSLATED, Inventory
from kernlb.datapath.xdp.layout import LOAD, SERVER, Mark, Server, address_of

_METHOD = ("tunnel_port", "port", "tunnel")  # what a forwarding method goes by
_NUMBERS = ("upper", "lower", "last_weight", "weight")
_OVERLOADED = LOAD.offset["overloaded"] // 4


def write_edit(inventory: Inventory, number: int, after: Server) -> None:
    maps = inventory.maps
    before = maps.server(number)
    address = address_of(before.addr, before.family)
    was, will_be = before.forwarding in TRANSLATED, after.forwarding in TRANSLATED
    if will_be and not was:
        inventory.marks.add(address, Mark.SERVER)
    if _method(before) != _method(after):
        _write_method(maps.servers, number, after)
        write_hop(maps.servers, number, after)
    words = maps.servers.cast("I")
    for name in _NUMBERS:
        if getattr(after, name) != getattr(before, name):
            words[(number * SERVER.size + SERVER.offset[name]) // 4] = getattr(after, name)
    if (after.upper, after.lower) != (before.upper, before.lower):
        _judge_load(maps.loads, number, after)
    if was and not will_be:
        inventory.marks.remove(address, Mark.SERVER)


def _judge_load(loads: memoryview, number: int, record: Server) -> None:
    """Is it overloaded now that the thresholds are others? As ip_vs_dest_update_overload() of
    ip_vs_conn.c, Linux 7.2 and its stable kernels; between the thresholds it stays as it was."""
    load = LOAD.unpack(loads, number)
    total, lower = load.active + load.inactive, record.lower or record.upper - record.upper // 4
    if total >= record.upper > 0:
        overloaded = 1
    elif record.upper == 0 or total < lower:
        overloaded = 0
    else:
        return
    loads.cast("I")[number * LOAD.size // 4 + _OVERLOADED] = overloaded


def _method(record: Server) -> tuple[object, ...]:
    return record.forwarding, *(getattr(record, name) for name in _METHOD)


def _write_method(servers: memoryview, number: int, after: Server) -> None:
    """What the new method goes by, the method, what the old one went by."""
    content, at = SERVER.pack(after), number * SERVER.size
    new = [name for name in _METHOD if any(_field(content, name))]
    old = [name for name in reversed(_METHOD) if name not in new]
    for name in (*new, "forwarding", *old):
        start, size = SERVER.places[name]
        servers[at + start : at + start + size] = _field(content, name)


def _field(content: bytes, name: str) -> bytes:
    start, size = SERVER.places[name]
    return content[start : start + size]
