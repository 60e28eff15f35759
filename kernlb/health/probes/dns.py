"""DNS: a query over UDP or TCP, with a fresh id each time, and what the answer must say.

A truncated answer (TC) is an answer: it is noted, and nothing is asked again over TCP, for whoever
wants that can ask over TCP to begin with.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial

from kernlb.health.check import DnsCheck, Target
from kernlb.health.outcome import Outcome
from kernlb.health.probes import Done, Running
from kernlb.health.probes import dns_message as message
from kernlb.health.probes.datagram import Errand, Exchange, Judgement
from kernlb.health.probes.found import Found
from kernlb.health.probes.talk import Line, Talk
from kernlb.health.probes.unasked import Unasked
from kernlb.health.probes.wording import quote

LONGEST = {False: 4096, True: 16384}  # bytes of an answer over UDP, over TCP
_SHOWN = 3  # values


def complaint(check: DnsCheck) -> str | None:
    """What is wrong with a check, as a sentence; None: nothing."""
    try:
        message.query(check.query, check.type)
        if check.answer is not None:
            message.value(check.answer, check.type)
    except ValueError as error:
        return str(error)
    unknown = [each for each in check.rcodes if each not in message.RCODES]
    known = ", ".join(message.RCODES[:11])
    return f"DNS rcode {unknown[0]} is unknown (known: {known})" if unknown else None


class DnsProbe:
    """A check that ``complaint`` speaks of is never asked."""

    __slots__ = ("_answer", "_check", "_complaint", "_line", "_query")

    def __init__(
        self, check: DnsCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._check = check
        self._line = Line(target, check.port, timeout, loop)
        self._complaint = complaint(check)
        if self._complaint is None:
            self._query = message.query(check.query, check.type)
            self._answer = None if check.answer is None else message.value(check.answer, check.type)

    def start(self, done: Done) -> Running:
        line = self._line
        if self._complaint is not None:
            return Unasked(line.loop, done, self._complaint)
        number = random.getrandbits(16)
        query, judge = self._query.pack(number), partial(self._judge, number)
        if self._check.tcp:
            talk = _OverTcp(line, done, query, judge)
            talk.open()
            return talk
        errand = Errand(query, judge, Found(Outcome.NO_REPLY))
        exchange = Exchange(line.poller, line.dial, errand, done)
        exchange.begin(line.deadlines, line.loop)
        return exchange

    def _judge(self, number: int, data: bytes) -> Judgement:
        limit = LONGEST[self._check.tcp]
        if len(data) > limit:
            return Judgement(Found(Outcome.TOO_LONG, f"over {limit} bytes"))
        try:
            reply = message.read(data, number, self._query)
        except message.Foreign as error:
            return Judgement(Found(Outcome.MALFORMED, str(error)), final=False)
        except message.Malformed as error:
            return Judgement(Found(Outcome.MALFORMED, str(error)))
        found = self._weigh(reply)
        if reply.truncated:
            found = found._replace(detail=", ".join(filter(None, (found.detail, "truncated"))))
        return Judgement(found)

    def _weigh(self, reply: message.Reply) -> Found:
        if reply.rcode not in self._check.rcodes:
            wanted = " or ".join(self._check.rcodes)
            return Found(Outcome.WRONG_RCODE, f"{reply.rcode}, expected {wanted}")
        if self._answer is None or self._answer in reply.values:
            return Found(Outcome.PASSED)
        got = ", ".join(quote(each) for each in reply.values[:_SHOWN])
        more = f" and {len(reply.values) - _SHOWN} more" if len(reply.values) > _SHOWN else ""
        expected = f"expected {quote(self._answer)}"
        return Found(Outcome.WRONG_ANSWER, f"{got or 'none'}{more}, {expected}")


class _OverTcp(Talk):
    """Messages with their length before them: RFC 1035, 4.2.2."""

    __slots__ = ("_data", "_judge", "_query")

    def __init__(
        self, line: Line, done: Done, query: bytes, judge: Callable[[bytes], Judgement]
    ) -> None:
        super().__init__(line, done)
        self._query = query
        self._judge = judge
        self._data = bytearray()

    def request(self) -> bytes:
        return len(self._query).to_bytes(2, "big") + self._query

    def hear(self, data: bytes) -> None:
        self._data += data
        if len(self._data) < 2:
            return
        length = int.from_bytes(self._data[:2], "big")
        if length > LONGEST[True]:
            self.finish(Outcome.TOO_LONG, f"over {LONGEST[True]} bytes")
        elif len(self._data) >= 2 + length:
            found = self._judge(bytes(self._data[2 : 2 + length])).found
            self.finish(found.outcome, found.detail)

    def hear_end(self) -> None:
        self.finish(Outcome.CLOSED, f"after {len(self._data)} bytes")

    def drop(self) -> None:
        self._data.clear()
