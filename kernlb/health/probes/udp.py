"""UDP: a datagram, and what must come back.

A port where nobody listens answers with ICMP port unreachable: REFUSED, at once. Whether silence
is bad depends on what was asked for; where it is not, the probe still waits its whole timeout for
the ICMP error.
"""

from __future__ import annotations

import asyncio

from kernlb.health.check import Target, UdpCheck
from kernlb.health.outcome import Outcome
from kernlb.health.probes import Done
from kernlb.health.probes.datagram import Errand, Exchange, Judgement
from kernlb.health.probes.found import Found
from kernlb.health.probes.patterns import Pattern
from kernlb.health.probes.sockets import Dial, poller_of
from kernlb.health.probes.wording import quote

_BYTES = "latin-1"  # each byte is a character


class UdpProbe:
    __slots__ = ("_check", "_deadlines", "_dial", "_errand", "_loop", "_poller", "_regex")

    def __init__(
        self, check: UdpCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._check = check
        self._loop = loop
        self._dial = Dial.to(target, check.port)
        self._poller = poller_of(loop)
        self._deadlines = self._poller.deadlines(timeout)
        regex = check.reply_regex
        self._regex = None if regex is None else Pattern(regex.decode(_BYTES))
        must = check.require_reply or check.reply is not None or self._regex is not None
        silence = Found(Outcome.NO_REPLY if must else Outcome.PASSED)
        self._errand = Errand(check.payload, self._judge, silence)

    def start(self, done: Done) -> Exchange:
        exchange = Exchange(self._poller, self._dial, self._errand, done)
        exchange.begin(self._deadlines, self._loop)
        return exchange

    def _judge(self, data: bytes) -> Judgement:
        wanted = self._check.reply
        if wanted is not None and wanted not in data:
            return _wrong(data, quote(wanted))
        if self._regex is not None:
            matches = self._regex.search(data.decode(_BYTES))
            if not matches:
                slow = "" if matches is False else ", and the search took too long"
                return _wrong(data, f"a match of {quote(self._check.reply_regex or b'')}{slow}")
        return Judgement(Found(Outcome.PASSED))


def _wrong(data: bytes, wanted: str) -> Judgement:
    return Judgement(Found(Outcome.WRONG_REPLY, f"{quote(data)}, expected {wanted}"))
