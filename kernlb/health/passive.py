"""A third opinion: what the datapath sees of servers while it carries their clients' packets.

No packet is sent for it. A server whose clients send their first packets again and again while
nobody gets through, or from which ICMP says that nobody is there, is ejected: it counts as bad for
a while that doubles with each time in a row, then it may show that it serves. The probes go on
beside it; both must be content. Pure, and off unless a service asks for it (XDP only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

WINDOW = 2.0  # seconds between two looks
FEWEST = 5  # complaints within a window
EJECTION = 10.0  # seconds, the first time
LONGEST = 300.0


class Seen(NamedTuple):
    """Totals of one server, as counted by the datapath."""

    begun: int  # connections that got beyond their first packet
    syn_again: int  # first packets that had to be sent again
    unreachable: int  # ICMP unreachable


@dataclass(slots=True)
class Suspect:
    """What is remembered of one server."""

    before: Seen
    until: float = -1.0  # ejected
    times: int = 0  # in a row

    def look(self, now: float, seen: Seen) -> str:
        """A look at the totals; why the server is to be ejected now, "" if it is not."""
        begun, syn_again, unreachable = (a - b for a, b in zip(seen, self.before, strict=True))
        self.before = seen
        if begun < 0 or self.ejected(now):
            return ""  # it is another one, or out: what comes is of old connections
        if begun:
            self.times = 0
            return ""
        if syn_again < FEWEST and unreachable < FEWEST:
            return ""
        self.times += 1
        self.until = now + min(LONGEST, EJECTION * 2 ** (self.times - 1))
        if unreachable >= FEWEST:
            return f"{unreachable} times unreachable, and no connection begun"
        return f"{syn_again} first packets sent again, and no connection begun"

    def ejected(self, now: float) -> bool:
        return now < self.until
