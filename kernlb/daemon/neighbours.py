"""Which neighbours the kernel is asked to keep resolved, and which are given back. Pure.

Rules:

* an entry that an operator made permanent, or that another program looks after, is left alone;
* an entry that is kept already is not asked for again; one that is gone is asked for at once, but
  at most once a second, as a table that is too full may throw it out again;
* an entry that the kernel does not keep (before Linux 5.16), or whose mark somebody took away,
  is asked for again at every look at everything: that alone has it probed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from kernlb.datapath.xdp.hops import Neighbour, NextHop

PAUSE = 1.0  # seconds between two requests for the same neighbour


class Keeping:
    """What was asked for, and what has to be asked."""

    def __init__(self) -> None:
        self._asked: dict[NextHop, float] = {}
        self._open: dict[NextHop, None] = {}  # to be looked at
        self._gone: dict[NextHop, None] = {}  # no destination needs them any more
        self._exists: set[NextHop] = set()  # though the kernel announced nothing

    def consider(self, next_hops: Iterable[NextHop]) -> None:
        """Something about them is new."""
        self._open.update(dict.fromkeys(next_hops))

    def unneeded(self, next_hops: Iterable[NextHop]) -> None:
        """Nothing is reached by them any more."""
        self._gone.update(dict.fromkeys(next_hops))

    def exists(self, to: NextHop) -> None:
        """It could not be asked for as a new one: it is being looked up for somebody else."""
        self._exists.add(to)
        self._open[to] = None

    def due(
        self,
        neighbours: Mapping[NextHop, Neighbour],
        wanted: Callable[[NextHop], bool],
        now: float,
        most: int,
    ) -> tuple[dict[NextHop, bool], float]:
        """Those to ask for now, with True where it is not there yet, and when there will be more
        (infinity: when something changes). ``wanted``: it is needed, and its device is usable."""
        asking: dict[NextHop, bool] = {}
        waiting: dict[NextHop, float] = {}
        for to in list(self._open):
            if len(asking) == most:
                break
            del self._open[to]
            neighbour = neighbours.get(to)
            if not wanted(to) or (neighbour is not None and _is_kept(neighbour)):
                continue
            if now < (then := self._asked.get(to, now - PAUSE) + PAUSE):
                waiting[to] = then
            else:
                asking[to] = neighbour is None and to not in self._exists
        more = now if self._open else math.inf
        self._exists -= asking.keys()
        self._asked.update(dict.fromkeys(asking, now))
        self._open.update(dict.fromkeys(waiting))
        return asking, min([more, *waiting.values()])

    def leaving(
        self, neighbours: Mapping[NextHop, Neighbour], needed: Collection[NextHop]
    ) -> list[NextHop]:
        """Those to give back now."""
        leaving = []
        for to in self._gone:
            if to in needed:
                continue
            asked = self._asked.pop(to, None) is not None
            neighbour = neighbours.get(to)
            if neighbour.kept_by_us if neighbour is not None else asked:
                leaving.append(to)
        self._gone = {}
        return leaving


def _is_kept(neighbour: Neighbour) -> bool:
    return neighbour.keeper_is_another or neighbour.kept_by_us
