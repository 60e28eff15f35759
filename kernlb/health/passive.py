"""A third opinion: what the datapath sees of servers while it carries their clients' packets.

No packet is sent for it. A server whose clients send their first packets again and again while
nobody gets through, or from which ICMP says that nobody is there, is ejected: it counts as bad for
a while that doubles with each time in a row, then it may show that it serves. One connection
begun ends the row, and so does a long time without an ejection. The probes go on beside it; both
must be content. Pure, and off unless a service asks for it (XDP only).
"""

from __future__ import annotations

import math
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


NOTHING = Seen(0, 0, 0)  # of a server that is new to the datapath


@dataclass(slots=True)
class Suspect:
    """What is remembered of one server."""

    before: Seen
    until: float = -math.inf  # ejected
    lasted: float = 0.0  # the last ejection of a row; 0: there is none

    def look(self, now: float, seen: Seen) -> str:
        """A look at the totals; why the server is to be ejected now, "" if it is not."""
        begun, syn_again, unreachable = (a - b for a, b in zip(seen, self.before, strict=True))
        self.before = seen
        if begun < 0 or self.ejected(now):
            return ""  # it is another one, or out: what comes is of old connections
        if begun:
            self.lasted = 0.0
            return ""
        if unreachable >= FEWEST:
            return f"{unreachable} times unreachable, and no connection begun"
        if syn_again >= FEWEST:
            return f"{syn_again} first packets sent again, and no connection begun"
        return ""

    def eject(self, now: float) -> None:
        """As a look said; the longer, the more often in a row."""
        again = self.in_row(now)
        self.lasted = min(LONGEST, 2 * self.lasted) if again else EJECTION
        self.until = now + self.lasted

    def ejected(self, now: float) -> bool:
        return now < self.until

    def in_row(self, now: float) -> bool:
        """Would an ejection last longer than the first one?"""
        return self.lasted > 0 and now < self.until + LONGEST
