"""A captured packet as what is written of it: once as it came, once as it left. Pure."""

from __future__ import annotations

from collections.abc import Callable

from kernlb.datapath.xdp.capturing import Action, Captured
from kernlb.trace.pcap import IN, OUT, Record

_SENT = (Action.TX, Action.REDIRECT)
_GONE = (Action.DROP, Action.ABORTED)


def records(
    captured: Captured, epoch: int, number: int, interface: Callable[[int], str]
) -> list[Record]:
    """As it left only where it was sent, or changed on its way to the stack.

    ``epoch``: when the monotonic clock was 0, in ns. ``interface``: the name of an index."""
    comment = comment_of(captured, interface(captured.ifindex))
    made = [
        Record(
            captured.time + epoch,
            way,
            frame.length,
            frame.data,
            comment,
            number,
            captured.queue,
            captured.action,
        )
        for way, frame in ((IN, captured.before), (OUT, captured.after))
    ]
    same = captured.before == captured.after and captured.action not in _SENT
    return made[:1] if same or captured.action in _GONE else made


def comment_of(captured: Captured, interface: str) -> str:
    """``XDP_TX: forwarded; in by eth0``"""
    why = ", ".join(each.name.lower() for each in captured.reasons) or "no reason was counted"
    return f"{verdict_name(captured.action)}: {why}; in by {interface}"


def verdict_name(action: Action) -> str:
    return f"XDP_{action.name}"
