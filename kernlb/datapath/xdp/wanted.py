"""Neighbours that packets asked for and the kernel did not know: the way to clients, mostly.

The program drops such a packet and leaves a note in map `unresolved`, since XDP cannot ask by
itself. Whoever takes the notes has the kernel ask.
"""

from __future__ import annotations

from kernlb.datapath.xdp.hops import NextHop
from kernlb.datapath.xdp.layout import NEIGHBOUR_ID, address_of
from kernlb.datapath.xdp.libbpf import Map

MAP = "unresolved"
AT_ONCE = 256


def take(notes: Map) -> list[NextHop]:
    """Some of them, AT_ONCE at most; those that are taken are gone."""
    found: list[NextHop] = []
    while len(found) < AT_ONCE and (key := notes.next_key()) is not None:
        notes.delete(key)
        note = NEIGHBOUR_ID.unpack(key)
        found.append(NextHop(note.ifindex, address_of(note.addr, note.family)))
    return found
