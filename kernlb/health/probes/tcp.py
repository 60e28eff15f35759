"""TCP: passes when the connection is established. It is reset then, so no TIME_WAIT is left.

A server that resets what it has just accepted is found out when the reset is there first; most
often it is, for both come in one breath.
"""

from __future__ import annotations

import asyncio

from kernlb.health.check import Target, TcpCheck
from kernlb.health.outcome import Outcome
from kernlb.health.probes import Done
from kernlb.health.probes.attempt import Attempt
from kernlb.health.probes.sockets import Dial, Poller, poller_of


class TcpProbe:
    __slots__ = ("_deadlines", "_dial", "_loop", "_poller")

    def __init__(
        self, check: TcpCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._dial = Dial.to(target, check.port)
        self._poller = poller_of(loop)
        self._deadlines = self._poller.deadlines(timeout)

    def start(self, done: Done) -> Attempt:
        attempt = _Connect(self._poller, done, self._dial)
        attempt.begin(self._dial, self._deadlines, self._loop)
        return attempt


class _Connect(Attempt):
    __slots__ = ("_dial",)

    def __init__(self, poller: Poller, done: Done, dial: Dial) -> None:
        super().__init__(poller, done)
        self._dial = dial

    def ready(self, events: int) -> None:
        if self.connection(events, self._dial):
            self.finish(Outcome.PASSED)
