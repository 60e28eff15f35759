"""Runs the loaded program on one packet that nobody sent, and reads what it found out.

Nothing is sent and no map but `explanations` changes. One at a time: the map has one entry.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from kernlb.datapath.xdp import explain, layout
from kernlb.datapath.xdp.explain import Sent, Verdict
from kernlb.datapath.xdp.layout import Explanation, Server, Service
from kernlb.datapath.xdp.loading import Loaded
from kernlb.model import L4Protocol, ServerKey

PROGRAM = "explain"

_NUMBER = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Answer:
    """``service`` and ``server`` as the program has them, None where there are none."""

    verdict: Verdict
    found: Explanation
    service: Service | None
    server: Server | None
    sent: Sent | None  # None unless the verdict is SEND
    out: str  # interface that it leaves by, "" where it leaves by none


def ask(
    loaded: Loaded,
    protocol: L4Protocol,
    client: ServerKey,
    to: ServerKey,
    *,
    within: bool,
    ifindex: int,
) -> Answer:
    """``ifindex``: where it comes in; the interface has XDP. Raises ValueError, OSError."""
    packet = explain.frame(protocol, client, to, within=within)
    result = loaded.programs[PROGRAM].test_run(packet, ingress_ifindex=ifindex)
    value = loaded.maps["explanations"].lookup(_NUMBER.pack(0)) or bytes(layout.EXPLANATION.size)
    found = layout.EXPLANATION.unpack(value)
    verdict = explain.verdict(result.retval)
    return Answer(
        verdict,
        found,
        _read(loaded, "services", found.service, layout.SERVICE),
        _read(loaded, "servers", found.server, layout.SERVER),
        explain.sent(result.packet) if verdict is Verdict.SEND else None,
        _interface(found.ifindex),
    )


def _interface(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex) if ifindex else ""
    except OSError:
        return str(ifindex)  # gone since


def _read(loaded: Loaded, name: str, number: int, form: layout.Layout[layout.T]) -> layout.T | None:
    table = loaded.maps[name]
    if number >= table.max_entries:
        return None
    value = table.lookup(_NUMBER.pack(number))
    return None if value is None else form.unpack(value)
