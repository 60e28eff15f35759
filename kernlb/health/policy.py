"""What the conditions of its servers mean to one service: who gets traffic, and is there a quorum?

``judge`` is pure, total and deterministic: the same servers in the same order, seen from the same
stance, give the same judgement. Its rules, the stronger first:

1. **An operator's hold** takes a server out of every sum. It is never counted and never kept.
2. **Quorum**: the weight that is good and takes new connections. It is lost below ``quorum``, or
   when nothing is good, and regained at ``quorum + hysteresis``, or when all that can be good is.
   Servers that wait speak neither for nor against: a quorum is not lost while they could make it
   up and at least one server is good, and a service that never had one has not lost it before its
   servers were heard. Unconfirmed servers keep a quorum; they do not regain one. Where nobody
   is found good and some were not heard yet, BELOW and DOWN stay what they were.
3. **``when_all_down``** holds below the quorum. ``fail-open``: every server that was heard gets
   traffic. ``reject``, and ``sorry`` with a sorry server: none does, the good ones are SPARED, at
   weight 0. ``sorry`` *without* a sorry server leaves the good ones alone: to spare them would
   make a total outage of a partial one, and nothing would be there instead.
4. **``keep``** is a floor: at least that share of the servers heard gets traffic, the good ones
   first, then the least bad. It outranks ``reject`` and ``sorry``: where it is above 0, nobody is
   spared. A server of weight 0 gets no traffic, so it is not one of them. A server that was never
   good nor in the kernel is not kept: nobody took it out. Who is kept stays while those that wait
   might leave it needed.
5. A server that **asks to leave** (an agent's drain, or 0 percent) is let go, unless rule 3 or 4
   keeps it: it still answers, which those that are down do not. It is the first to be kept.

One more good server never takes another good one out. It may let a *kept* one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from math import ceil
from typing import NamedTuple

from kernlb.health.check import HealthPolicy, OnDown, WhenAllDown
from kernlb.health.fsm import Condition
from kernlb.health.stance import LOST, Phase, Stance
from kernlb.intent import Standing, Verdict, scaled
from kernlb.model import ServerKey


class Seen(NamedTuple):
    """A declared server as the service sees it; ``condition`` after damping.

    ``weight`` is the declared one, ``percent`` what an agent asks for. ``held``: an operator
    drained or disabled it. ``in_kernel``: it is there now, with any weight; ``was_in``: it was,
    at some time since this daemon began. ``last_good`` and ``failures`` (bad results in a row)
    say how bad it is.
    """

    key: ServerKey
    weight: int
    condition: Condition
    percent: int | None = None
    leaving: bool = False
    held: bool = False
    in_kernel: bool = False
    was_in: bool = False
    last_good: float | None = None
    failures: int = 0

    @property
    def wants(self) -> bool:
        """Is it good, and willing to take new connections?"""
        return self.condition.good and not self.leaving and self.percent != 0


class Word(NamedTuple):
    """A sentence for the log, to follow the name of the service."""

    text: str
    alarm: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """``standings`` of every server, in order; ``words`` only for what differs from before."""

    standings: Mapping[ServerKey, Standing]
    stance: Stance
    words: tuple[Word, ...] = ()


_UNHEARD = (Condition.WAITING, Condition.UNCONFIRMED)


class _Mode(Enum):
    NORMAL = "the good serve"
    OPEN = "everybody heard serves"
    SPARE = "nobody serves"


class _Sums(NamedTuple):
    total: int  # declared weight
    able: int  # were all good that do not ask to leave
    good: int
    confirmed: int
    waiting: int
    unheard: int  # waiting or unconfirmed
    all_wait: bool
    any_unconfirmed: bool


def judge(
    policy: HealthPolicy, servers: Sequence[Seen], before: Stance, *, sorry: bool
) -> Judgement:
    """``sorry``: has the service a sorry server?"""
    free = [server for server in servers if not server.held]
    sums = _sum(free)
    phase = _phase(policy, sums, before.phase)
    mode = _mode(policy, phase, sorry)
    before_kept = frozenset(before.kept)
    kept = {server.key for server in _kept(policy, free, mode, before_kept)}
    standings = {server.key: _standing(policy, server, mode) for server in servers}
    for server in free:
        if server.key in kept:
            standings[server.key] = Standing(Verdict.KEPT, server.percent or 100)
        elif (
            server.key in before_kept
            and server.condition is Condition.UNCONFIRMED
            and mode is not _Mode.SPARE
            and server.wants
        ):
            kept.add(server.key)  # nothing was heard that says otherwise
    away = before.withdrawn if phase is Phase.WAITING else phase is not Phase.SERVING
    stance = Stance(
        phase,
        policy.withdraw_vip and away,
        tuple(s.key for s in free if s.weight and s.key in kept) if kept else (),
    )
    return Judgement(standings, stance, tuple(_words(policy, sums, before, stance, standings)))


def _sum(free: Sequence[Seen]) -> _Sums:
    total = able = good = confirmed = waiting = unheard = 0
    for server in free:
        weight = server.weight
        total += weight
        if server.percent is not None:
            weight = scaled(weight, server.percent)
        if not server.leaving:
            able += weight
        if server.condition in _UNHEARD:
            unheard += server.weight
        if server.condition is Condition.WAITING:
            waiting += server.weight
        elif server.wants:
            good += weight
            confirmed += weight if server.condition is Condition.UP else 0
    conditions = {server.condition for server in free}
    return _Sums(
        total,
        able,
        good,
        confirmed,
        waiting,
        unheard,
        all_wait=conditions == {Condition.WAITING},
        any_unconfirmed=Condition.UNCONFIRMED in conditions,
    )


def _phase(policy: HealthPolicy, sums: _Sums, before: Phase) -> Phase:
    enough = max(1, policy.quorum)
    if before in LOST:
        regained = min(enough + policy.hysteresis, max(enough, sums.able))
        if sums.confirmed:
            return Phase.SERVING if sums.confirmed >= regained else Phase.BELOW
        return before if sums.unheard else Phase.DOWN
    lost = Phase.BELOW if sums.good else Phase.DOWN
    if sums.all_wait:
        return Phase.WAITING
    possible = sums.good + sums.waiting >= enough
    if before is Phase.SERVING or sums.any_unconfirmed:  # it serves now
        return Phase.SERVING if sums.good and possible else lost
    if sums.good >= enough:
        return Phase.SERVING
    return Phase.WAITING if sums.waiting and possible else lost


def _mode(policy: HealthPolicy, phase: Phase, sorry: bool) -> _Mode:
    if phase is Phase.SERVING:
        return _Mode.NORMAL
    if policy.when_all_down is WhenAllDown.FAIL_OPEN:
        return _Mode.NORMAL if phase is Phase.WAITING else _Mode.OPEN
    if policy.keep > 0 or (policy.when_all_down is WhenAllDown.SORRY and not sorry):
        return _Mode.NORMAL
    return _Mode.SPARE


def floor(policy: HealthPolicy, heard: int) -> int:
    """How many of so many servers must get traffic."""
    return min(heard, ceil(policy.keep * heard - 1e-9))  # 0.7 * 10 is 7.000000000000001


def _kept(
    policy: HealthPolicy, free: Sequence[Seen], mode: _Mode, before: Set[ServerKey]
) -> list[Seen]:
    if mode is _Mode.OPEN:
        return [s for s in free if s.condition is not Condition.WAITING and not s.wants]
    if not policy.keep:
        return []
    counted = [server for server in free if server.weight]
    heard = [server for server in counted if server.condition is not Condition.WAITING]
    others = [server for server in heard if not server.wants]
    serving = len(heard) - len(others)
    most = floor(policy, len(counted)) - serving  # if nobody who waits is good
    if most <= 0:
        return []
    needed = max(0, floor(policy, len(heard)) - serving)
    ranked = sorted(filter(_was_in, others), key=lambda server: _badness(server, before))
    stay = [server for server in ranked[needed:] if server.key in before]
    return [*ranked[:needed], *stay[: most - needed]]


def _was_in(server: Seen) -> bool:
    return (
        server.condition.good or server.in_kernel or server.was_in or server.last_good is not None
    )


def _badness(server: Seen, before: Set[ServerKey]) -> tuple[bool, bool, float, bool, int]:
    """The least bad first: who answers, who is in the kernel (to bring another bad one in its
    place helps nobody), who was good last, who was kept ``before``."""
    last_good = float("-inf") if server.last_good is None else server.last_good
    new = server.key not in before
    return not server.condition.good, not server.in_kernel, -last_good, new, server.failures


def _standing(policy: HealthPolicy, server: Seen, mode: _Mode) -> Standing:
    condition = server.condition
    if condition.good:
        if server.leaving:
            return _LEAVING
        if mode is _Mode.SPARE:
            return _SPARED
        return _UP if server.percent is None else Standing(Verdict.UP, server.percent)
    if condition is Condition.WAITING:
        # after a restart: at weight 0 it stays where it is, with its connections
        return _INHIBITED if server.in_kernel else _WAITING
    return _INHIBITED if policy.on_down is OnDown.INHIBIT else _DOWN


_UP, _LEAVING, _SPARED, _WAITING, _INHIBITED, _DOWN = map(
    Standing,
    (
        Verdict.UP,
        Verdict.LEAVING,
        Verdict.SPARED,
        Verdict.WAITING,
        Verdict.INHIBITED,
        Verdict.DOWN,
    ),
)


def _words(
    policy: HealthPolicy,
    sums: _Sums,
    before: Stance,
    stance: Stance,
    standings: Mapping[ServerKey, Standing],
) -> list[Word]:
    words = []
    phase = stance.phase
    lost = phase in LOST
    if phase is not before.phase:
        text = f"{before.phase} -> {phase}: good weight {sums.good} of {sums.total}"
        text += f", quorum {policy.quorum}"
        spared = sum(standing is _SPARED for standing in standings.values())
        if lost and spared:
            text += f"; {_counted(spared, 'good server')} spared ({policy.when_all_down})"
        words.append(Word(text, lost))
    came = [key for key in stance.kept if key not in before.kept]
    gone = [key for key in before.kept if key not in stance.kept and key in standings]
    if came:
        reason = "fail-open"
        if not (lost and policy.when_all_down is WhenAllDown.FAIL_OPEN):
            reason = f"at least {policy.keep:.0%} of the servers stay"
        words.append(Word(f"keeps {_listed(came)}, bad or about to leave: {reason}", True))
    if gone:
        words.append(Word(f"no longer needs to keep {_listed(gone)}", False))
    return words


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(keys: Sequence[ServerKey], most: int = 5) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(map(str, keys[:most])) + more
