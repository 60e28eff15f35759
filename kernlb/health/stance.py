"""Where a service stands, between one judgement and the next, and over a restart. Pure.

What the kernel holds tells most of it to a daemon that begins. What it cannot tell is recorded:
that a quorum was lost, that a VIP is away, and who is kept although it is bad.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from kernlb.model import ServerKey


class Phase(StrEnum):
    WAITING = "waiting"  # nothing was lost: its servers were not heard yet
    SERVING = "serving"
    BELOW = "below quorum"
    DOWN = "all down"


LOST = (Phase.BELOW, Phase.DOWN)


class Stance(NamedTuple):
    """Where a service stands, to be handed to the next judgement.

    A service that is new begins as ``Stance()``; any other see :func:`resumed`. ``kept``: who
    gets traffic although it is bad or asks to leave.
    """

    phase: Phase = Phase.WAITING
    withdrawn: bool = True
    kept: tuple[ServerKey, ...] = ()

    @property
    def lasting(self) -> bool:
        """Is there more to it than the kernel can tell after a restart?"""
        return self.phase in LOST or self.withdrawn or bool(self.kept)


def resumed(recorded: Stance | None, *, serves: bool) -> Stance:
    """How a service begins that a daemon before may have judged.

    ``recorded`` is the stance it left, if that was ``lasting``; ``serves``: does the kernel let
    any of its servers work? What is in the kernel does not end what was recorded, good results
    do: so a VIP that was withdrawn stays away, and a quorum is regained at its hysteresis."""
    if recorded is not None and recorded.phase in LOST:
        return recorded
    if recorded is not None and recorded.withdrawn:  # it never had its quorum
        return Stance(Phase.BELOW) if serves else Stance()
    return Stance(Phase.SERVING, False, recorded.kept if recorded else ()) if serves else Stance()
