"""HAProxy's agent check: the server says on one line how it is, and how much it wants.

HAProxy's words (its manual: "agent-check"), several on a line, in any case: ``up``, ``ready``;
``down``, ``failed``, ``fail``, ``stopped``; ``drain``, ``maint``; ``75%`` of the declared weight;
``maxconn:n``, which says nothing to a balancer of packets; ``#`` and a reason for people. The worst
word counts. A percentage alone means up. A line ends at LF, CR, or the end of the connection.
"""

from __future__ import annotations

import asyncio
import re

from kernlb.health.check import AgentCheck, Target
from kernlb.health.outcome import FULL, Outcome
from kernlb.health.probes import Done
from kernlb.health.probes.asking import Asking, Ended, Found, Stage
from kernlb.health.probes.sockets import Dial
from kernlb.health.probes.stream import connected
from kernlb.health.probes.wording import quote

LONGEST = 4096

# HAProxy itself separates words by space, tab and comma.
_SEPARATORS = re.compile(r"[ \t,]+")
_PERCENT = re.compile(r"[0-9]{1,9}%")
_MAXCONN = re.compile(r"maxconn:[0-9]{1,9}")
_LINE_END = re.compile(rb"[\r\n]")

# Best first: the last that is found counts.
_SEVERITY = (Outcome.PASSED, Outcome.AGENT_DRAIN, Outcome.AGENT_DOWN)
_WORDS = {
    "up": Outcome.PASSED,
    "ready": Outcome.PASSED,
    "drain": Outcome.AGENT_DRAIN,
    "maint": Outcome.AGENT_DOWN,
    "down": Outcome.AGENT_DOWN,
    "failed": Outcome.AGENT_DOWN,
    "fail": Outcome.AGENT_DOWN,
    "stopped": Outcome.AGENT_DOWN,
}


def read(said: str) -> Found:
    """What a line says. Pure."""
    words, _, reason = said.partition("#")
    outcome: Outcome | None = None
    percent: int | None = None
    for word in _SEPARATORS.split(words.strip().lower()):
        if word in _WORDS:
            outcome = max(outcome or Outcome.PASSED, _WORDS[word], key=_SEVERITY.index)
        elif _PERCENT.fullmatch(word):
            percent = min(int(word[:-1]), FULL)
        elif word and not _MAXCONN.fullmatch(word):
            return Found(Outcome.MALFORMED, f"unknown word {quote(word)}")
    if outcome is None and percent is None:
        return Found(Outcome.MALFORMED, "the line says nothing")
    if outcome is None or outcome is Outcome.PASSED:
        return Found(Outcome.PASSED, reason.strip(), percent)
    return Found(outcome, ": ".join(filter(None, (words.strip(), reason.strip()))), percent)


class AgentProbe:
    __slots__ = ("_dial", "_loop", "_send", "_timeout")

    def __init__(
        self, check: AgentCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._dial = Dial.to(target, check.port)
        self._send = check.send.encode()

    def start(self, done: Done) -> Asking:
        return Asking(self._loop, self._timeout, self._converse, done)

    async def _converse(self, stage: Stage) -> Found:
        async with connected(self._loop, self._dial, stage) as stream:
            if self._send:
                await stream.send(self._send)
            said = bytearray()
            while (end := _LINE_END.search(said)) is None and len(said) <= LONGEST:
                more = await stream.receive()
                if not more:
                    break
                said += more
                stage.late = Outcome.STALLED
            if (end.start() if end else len(said)) > LONGEST:
                raise Ended(Outcome.TOO_LONG, f"over {LONGEST} bytes on one line")
            if not said:
                raise Ended(Outcome.CLOSED, "the agent said nothing")
            return read(_LINE_END.split(said, 1)[0].decode("utf-8", "replace"))
