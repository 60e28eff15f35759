"""A probe at the VIP, and a second one at the server's own address when that is of use.

A server that does not answer at the VIP may be dead, or well and not reached there: its loopback
address is missing, or its tunnel's device. So the same is asked of its own address where the VIP
refuses, and at half the time where the VIP is silent, and what that says decides between the
outcome as it is and PATH_WRONG. The second probe never makes a server good. One that passes and
answers ARP for the VIP is warned of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from kernlb.health.check import Carried, Check, Target, Way
from kernlb.health.outcome import Opinion, Outcome, Result
from kernlb.health.probes import Done, Probe, Running
from kernlb.health.probes.wording import line
from kernlb.model import IPAddress

Make = Callable[[Check, float, Target, asyncio.AbstractEventLoop], Probe]

PATIENCE = 0.5  # share of the timeout after which a silent VIP makes curious

# What a way that is wrong may look like.
_SILENCE = (
    Outcome.CONNECT_TIMEOUT,
    Outcome.NO_REPLY,
    Outcome.UNREACHABLE,
    Outcome.PROTOCOL_UNREACHABLE,
    Outcome.PROHIBITED,
)
_SUSPECT = (*_SILENCE, Outcome.REFUSED, Outcome.RESPONSE_TIMEOUT, Outcome.RESET)


_ARP = "are its net.ipv4.conf.all.arp_ignore 1 and arp_announce 2?"


class CarriedProbe:
    """``make`` makes the probes within; the source is chosen anew when it is another."""

    __slots__ = (
        *("_at_vip", "_carried", "_check", "_loop", "_make"),
        *("_own", "_source", "_target", "_timeout"),
    )

    def __init__(
        self,
        check: Check,
        timeout: float,
        target: Target,
        loop: asyncio.AbstractEventLoop,
        make: Make,
    ) -> None:
        assert target.carried is not None
        self._check, self._timeout, self._target = check, timeout, target
        self._loop, self._make = loop, make
        self._carried: Carried = target.carried
        self._source: IPAddress | None = target.carried.source
        self._at_vip: Probe | None = None
        own = replace(target, carried=None)
        self._own = make(check, timeout * (1 - PATIENCE), own, loop)

    def start(self, done: Done) -> Running:
        look = self._carried.look
        way = look() if look is not None else Way(self._source)
        source = way.source
        asking = _Asking(self._loop, self._carried, self._own, self._target, done)
        if way.trouble:
            asking.refuse(way.trouble)
            return asking
        if self._at_vip is None or source != self._source:
            self._source = source
            carried = replace(self._carried, source=source)
            target = replace(self._target, carried=carried)
            self._at_vip = self._make(self._check, self._timeout, target, self._loop)
        asking.begin(self._at_vip, self._timeout * PATIENCE)
        return asking


class _Asking:
    """Both, under way."""

    __slots__ = (
        *("_carried", "_done", "_found", "_loop", "_other", "_own"),
        *("_running", "_started", "_target", "_timer"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        carried: Carried,
        own: Probe,
        target: Target,
        done: Done,
    ) -> None:
        self._loop, self._carried, self._own, self._target = loop, carried, own, target
        self._done: Done | None = done
        self._running: list[Running] = []
        self._timer: asyncio.Handle | None = None
        self._found: Result | None = None  # at the VIP
        self._other: Result | None = None  # at its own address
        self._started = monotonic()

    def refuse(self, trouble: str) -> None:
        result = Result(Outcome.NOT_ASKED, 0.0, line(trouble))
        self._timer = self._loop.call_soon(self._finish, result)

    def begin(self, at_vip: Probe, patience: float) -> None:
        self._timer = self._loop.call_later(patience, self._ask_own)
        self._running.append(at_vip.start(self._hear_vip))

    def _ask_own(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._running.append(self._own.start(self._hear_own))

    def _hear_vip(self, result: Result) -> None:
        self._found = result
        look = self._carried.look
        if result.outcome is Outcome.PASSED and look is not None and look().arp:
            result = result._replace(outcome=Outcome.ANSWERS_ARP, detail=_ARP)
        if result.outcome not in _SUSPECT:
            self._finish(result)
            return
        self._ask_own()
        self._decide()

    def _hear_own(self, result: Result) -> None:
        self._other = result
        self._decide()

    def _decide(self) -> None:
        if self._found is not None and self._other is not None:
            self._finish(judge(self._found, self._other, self._target, self._carried))

    def _finish(self, result: Result) -> None:
        done = self._done
        if done is not None:
            self.cancel()
            done(result._replace(duration=monotonic() - self._started))

    def cancel(self) -> None:
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for each in self._running:
            each.cancel()


def judge(found: Result, own: Result, target: Target, carried: Carried) -> Result:
    """What ``found`` at the VIP means, where ``own`` is what its own address said. Pure."""
    answers = own.outcome.opinion is Opinion.GOOD
    if own.outcome is Outcome.REFUSED and found.outcome in _SILENCE:
        answers = True  # nobody listens there, but somebody says so
    if own.outcome.opinion is Opinion.NONE or not answers:
        return found
    said = f"{found}, and {target.address} answers"
    hint = carried.hint
    if found.outcome is Outcome.REFUSED:  # so says a server without the tunnel's device, too
        hint = f"does it listen on {carried.vip}, {hint}"
    return found._replace(outcome=Outcome.PATH_WRONG, detail=line(f"{said}: {hint}"))
