"""DNS: a query over UDP or TCP, with a fresh id each time, and what the answer must say.

A truncated answer (TC) is an answer: it is noted, and nothing is asked again over TCP, for whoever
wants that can ask over TCP to begin with.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial

from kernlb.health.check import DnsCheck, Target
from kernlb.health.outcome import Outcome
from kernlb.health.probes import Done, Running
from kernlb.health.probes import dns_message as message
from kernlb.health.probes.asking import Asking, Ended, Found, Stage
from kernlb.health.probes.datagram import Errand, Exchange, Judgement
from kernlb.health.probes.sockets import Dial, poller_of
from kernlb.health.probes.stream import Stream, connected
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

    __slots__ = ("_answer", "_check", "_complaint", "_dial", "_loop", "_query", "_timeout")

    def __init__(
        self, check: DnsCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._check = check
        self._timeout = timeout
        self._loop = loop
        self._dial = Dial.to(target, check.port)
        self._complaint = complaint(check)
        if self._complaint is None:
            self._query = message.query(check.query, check.type)
            self._answer = None if check.answer is None else message.value(check.answer, check.type)

    def start(self, done: Done) -> Running:
        if self._complaint is not None:
            return Asking(self._loop, self._timeout, self._refuse, done)
        if self._check.tcp:
            return Asking(self._loop, self._timeout, self._converse, done)
        number = _fresh()
        payload = self._query.pack(number)
        errand = Errand(payload, partial(self._judge, number), Found(Outcome.NO_REPLY))
        poller = poller_of(self._loop)
        exchange = Exchange(poller, self._dial, errand, done)
        exchange.begin(poller.deadlines(self._timeout), self._loop)
        return exchange

    async def _refuse(self, stage: Stage) -> Found:
        return Found(Outcome.NOT_ASKED, self._complaint or "")

    async def _converse(self, stage: Stage) -> Found:
        async with connected(self._loop, self._dial, stage) as stream:
            number = _fresh()
            query = self._query.pack(number)
            await stream.send(len(query).to_bytes(2, "big") + query)
            return self._judge(number, await _whole(stream, stage)).found

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


def _fresh() -> int:
    return random.getrandbits(16)


async def _whole(stream: Stream, stage: Stage) -> bytes:
    """One message with its length before it."""
    data = bytearray()
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        if len(data) >= 2 and int.from_bytes(data[:2], "big") > LONGEST[True]:
            raise Ended(Outcome.TOO_LONG, f"over {LONGEST[True]} bytes")
        more = await stream.receive()
        if not more:
            raise Ended(Outcome.CLOSED, f"after {len(data)} bytes")
        data += more
        stage.late = Outcome.STALLED
    return bytes(data[2 : 2 + int.from_bytes(data[:2], "big")])
