"""HAProxy's agent check: the server says on one line how it is, and how much it wants.

HAProxy's words (its manual: "agent-check"), several on a line, in any case: ``up``, ``ready``;
``down``, ``failed``, ``fail``, ``stopped``; ``drain``, ``maint``; ``75%`` of the declared weight;
``maxconn:n``, which says nothing to a balancer of packets; ``#`` and a reason for people. The worst
word counts. A percentage alone means up. Other words are passed over, and the first of them told,
as HAProxy does; a line of nothing else is MALFORMED. A line ends at LF, CR, or the end of the
connection.
"""

from __future__ import annotations

import asyncio
import re

from kernlb.health.check import AgentCheck, Target
from kernlb.health.outcome import FULL, Outcome
from kernlb.health.probes import Done
from kernlb.health.probes.found import Found
from kernlb.health.probes.talk import Line, Talk
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
    unknown = ""
    for word in _SEPARATORS.split(words.strip().lower()):
        if word in _WORDS:
            outcome = max(outcome or Outcome.PASSED, _WORDS[word], key=_SEVERITY.index)
        elif _PERCENT.fullmatch(word):
            percent = min(int(word[:-1]), FULL)
        elif word and not unknown and not _MAXCONN.fullmatch(word):
            unknown = f"unknown word {quote(word)}"
    if outcome is None and percent is None:
        return Found(Outcome.MALFORMED, unknown or "the line says nothing")
    if outcome is None or outcome is Outcome.PASSED:
        detail = ": ".join(filter(None, (unknown, reason.strip())))
        return Found(Outcome.PASSED, detail, percent)
    return Found(outcome, ": ".join(filter(None, (words.strip(), reason.strip()))), percent)


class AgentProbe:
    __slots__ = ("_line", "_send")

    def __init__(
        self, check: AgentCheck, timeout: float, target: Target, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._line = Line(target, check.port, timeout, loop)
        self._send = check.send.encode()

    def start(self, done: Done) -> Talk:
        talk = _Listening(self._line, done, self._send)
        talk.open()
        return talk


class _Listening(Talk):
    __slots__ = ("_said", "_send_first")

    def __init__(self, line: Line, done: Done, send_first: bytes) -> None:
        super().__init__(line, done)
        self._send_first = send_first
        self._said = bytearray()

    def request(self) -> bytes:
        return self._send_first

    def hear(self, data: bytes) -> None:
        self._said += data[: LONGEST + 1]
        end = _LINE_END.search(self._said)
        if (end.start() if end else len(self._said)) > LONGEST:
            self.finish(Outcome.TOO_LONG, f"over {LONGEST} bytes on one line")
        elif end:
            self._judge(self._said[: end.start()])

    def hear_end(self) -> None:
        if self._said:
            self._judge(self._said)
        else:
            self.finish(Outcome.CLOSED, "the agent said nothing")

    def drop(self) -> None:
        self._said.clear()

    def _judge(self, said: bytearray) -> None:
        found = read(said.decode("utf-8", "replace"))
        self.finish(found.outcome, found.detail, found.percent)
