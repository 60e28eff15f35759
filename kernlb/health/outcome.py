"""What a probe found, as named constants. Pure.

Every probe ends in exactly one :class:`Result`, and every result has exactly one
:class:`Outcome`. What is wrong with the prober itself (no descriptor, no port left, starved) is
an outcome too, and never counts against a server.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Opinion(StrEnum):
    """Which way an outcome counts."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"  # says nothing of the server


class Outcome(StrEnum):
    """The value is what operators read, in ``kernlb health``, metrics and logs."""

    # good
    PASSED = "passed"
    CERTIFICATE_EXPIRES_SOON = "certificate expires soon"  # a warning
    EXIT_WARNING = "exit status warning"  # Nagios: 1
    AGENT_DRAIN = "agent asks to drain"  # serves, but is to get nothing new
    ANSWERS_ARP = "answers ARP for the VIP"  # a warning: out of the kernel it would still do so

    # on the way
    REFUSED = "connection refused"  # RST to a SYN, or ICMP port unreachable
    CONNECT_TIMEOUT = "no answer to connect"
    UNREACHABLE = "unreachable"  # no route, no neighbour, or ICMP says so
    PROTOCOL_UNREACHABLE = "protocol unreachable"  # a tunnel server without the tunnel's device
    PROHIBITED = "administratively prohibited"
    PATH_WRONG = "does not answer at the VIP"  # and does at its own address
    NO_REPLY = "no reply"
    WRONG_SOURCE = "reply from another address or port"

    # in the conversation
    RESET = "connection reset"
    CLOSED = "closed before an answer was whole"
    RESPONSE_TIMEOUT = "connected, then nothing"
    STALLED = "answer stopped half way"
    TOO_LONG = "answer is too long"
    MALFORMED = "not the protocol"

    # TLS
    NOT_TLS = "not TLS"
    TLS_REFUSED = "TLS refused"
    CERTIFICATE_EXPIRED = "certificate has expired"
    CERTIFICATE_NOT_YET_VALID = "certificate is not valid yet"
    CERTIFICATE_NAME = "certificate is of another name"
    CERTIFICATE_UNTRUSTED = "certificate is not trusted"

    # in the answer
    WRONG_STATUS = "wrong status"
    WRONG_BODY = "wrong body"
    WRONG_REPLY = "wrong reply"
    WRONG_RCODE = "wrong rcode"
    WRONG_ANSWER = "wrong answer"
    NOT_SERVING = "not serving"
    UNKNOWN_SERVICE = "unknown service"

    # of programs and agents
    EXIT_CRITICAL = "exit status critical"  # Nagios: 2
    EXIT_UNKNOWN = "exit status unknown"  # Nagios: 3 and any other
    SIGNALLED = "killed by a signal"
    EXEC_TIMEOUT = "program took too long"
    AGENT_DOWN = "agent says down"

    # of several
    TOO_FEW_PASSED = "too few checks passed"

    # of the prober itself
    NOT_ASKED = "could not ask"
    SUSPENDED = "prober was late"
    HELD = "everything fails at once"

    __hash__ = str.__hash__  # Enum's own is a call of Python, at every look into a table

    opinion: Opinion


_GOOD = (
    Outcome.PASSED,
    Outcome.CERTIFICATE_EXPIRES_SOON,
    Outcome.EXIT_WARNING,
    Outcome.AGENT_DRAIN,
    Outcome.ANSWERS_ARP,
)
_NONE = (Outcome.NOT_ASKED, Outcome.SUSPENDED, Outcome.HELD)

for _outcome in Outcome:
    _outcome.opinion = Opinion.BAD
for _outcome in _GOOD:
    _outcome.opinion = Opinion.GOOD
for _outcome in _NONE:
    _outcome.opinion = Opinion.NONE

FULL = 100


class Result(NamedTuple):
    """One probe's end.

    ``duration`` in seconds from its start. ``detail`` goes on where the outcome stops ("status
    500, expected 200-299"), one line, 200 characters at most, nothing but printable text.
    ``percent`` of the declared weight is what an agent asks for, None where it says nothing.
    """

    outcome: Outcome
    duration: float
    detail: str = ""
    percent: int | None = None

    def __str__(self) -> str:
        return f"{self.outcome}: {self.detail}" if self.detail else str(self.outcome)
