"""What an answer means, before anybody has said how long it took. Pure."""

from __future__ import annotations

from typing import NamedTuple

from kernlb.health.outcome import Outcome


class Found(NamedTuple):
    """A result without its duration. ``detail`` may be any text; who ends the probe trims it."""

    outcome: Outcome
    detail: str = ""
    percent: int | None = None
